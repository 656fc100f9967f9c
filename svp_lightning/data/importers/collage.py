"""Bare collages, pictures of many particles without a table, into a store.

Every picture below the root is split into its tiles. A particle's id is ``<picture>/<number>``,
numbers counting tiles in reading order from 1; pages of one run (``run_000001.tif``,
``run_000002.tif``) share the group ``run``. Labels come from a CSV with the columns
``id,label``; sizes are not known beyond those of the tiles.

Tiles lie on a ground, black or white, whichever fills more of the picture. What is nearer to
the tiles than to the ground is grouped into connected regions, and a region that fills its
bounding box is a tile. Frames drawn in one strong colour part tiles like gaps do; text and
scale bars on the ground are no tiles, because letters do not fill their box and bars have no
grain.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from svp_lightning.data.importers.images import Picture, digest_of
from svp_lightning.data.importers.pictures import BOX, NO_PARTICLES
from svp_lightning.data.importers.runs import RunImport, run_names
from svp_lightning.data.settings import IMAGE_SUFFIXES, CollageSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.user_files import visible_files

_MIN_SIDE = 6
_MIN_FILL = 0.9
"""Share of its bounding box that a tile covers; edges blurred by scaling cost a few per cent."""
_MIN_NOTCHED = 0.6
"""Share of its box, and of each side of it, that a tile with a notch covers at least."""
_GROUND_LEVELS = 16
"""Levels from black or white that still count as the ground, for JPEG."""
_MIN_GROUND = 0.002
_MIXED = 0.06
"""A line nearer to the ground than its tile by this share was blurred by scaling."""
_MAX_MIXED = 2
_STRONG_COLOUR = 128
"""Largest less smallest channel: above it a colour was drawn, or is rare in a camera's image."""
_DRAWN_PX = 64
"""Pixels of exactly one strong colour that make it a drawn one."""
_REMEDY = "Give a collage of tiles on black or white, or use data=folder for single particles."


Box = tuple[int, ...]
"""Left, top, width and height, px."""


class _Collages(RunImport):
    settings: CollageSettings

    def files(self) -> list[Path]:
        root = self.settings.root
        files = [root] if root.is_file() else sorted(visible_files(root, self.left_out))
        files = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES or file == root]
        files = [file for file in files if not NO_PARTICLES.match(file.stem)]
        if not files:
            raise DataError(
                f"{root} holds no collages.", "Give a picture (PNG, TIFF, JPEG, BMP) or a folder."
            )
        # Pages of one folder, as the instrument numbers them (run_000001.tif), are a run.
        run_of = {file: (file.parent, re.sub(r"_\d{6}$", "", file.stem)) for file in files}
        runs = {run: file.with_name(run[1] + file.suffix) for file, run in run_of.items()}
        names = dict(zip(runs, run_names(root, list(runs.values())), strict=True))
        self.groups = {file: names[run] for file, run in run_of.items()}
        return files

    def read(self, file: Path, run: str) -> pd.DataFrame:
        if isinstance(look := self.pictures.looks([file])[str(file)], DataError):
            raise look
        page = without_drawn(file, self.pictures.page(file, again=True))
        boxes, annotations = find_tiles(page, file)
        for (x, y, w, h), reason in annotations:  # of any import, and listed
            self.skips.note(f"{file.name}, {w} x {h} px at x {x}, y {y}", reason)
        numbers = range(1, len(boxes) + 1)
        return pd.DataFrame(boxes, columns=BOX).assign(
            id=[f"{run}/{number:06d}" for number in numbers],
            particle_id=list(numbers),
            picture=str(file),
            content=digest_of(page.grey),
            pixel_size_um=self.settings.pixel_size_um,
            group=self.groups[file],
        )

    def page(self, path: Path) -> Picture:
        return without_drawn(path, super().page(path))


plan_collage = _Collages.planned
"""As :meth:`~.runs.RunImport.plan`."""


def without_drawn(path: Path, page: Picture) -> Picture:
    """A collage in 8 bit; pixels drawn over it in a strong colour are not opaque."""
    drawn = _drawn(path)
    if not drawn.any():
        return page
    return Picture(page.grey, ~drawn if page.opaque is None else page.opaque & ~drawn)


def find_tiles(page: Picture, path: Path) -> tuple[NDArray[np.int64], list[tuple[Box, str]]]:
    """Split a collage, in 8 bit from :func:`without_drawn`, into tiles.

    Returns:
        Boxes of tiles, (n, 4) int64 px in reading order; box and reason of what is no tile.

    Raises:
        DataError: there is no ground between tiles, or no tile.
    """
    grey = page.grey.astype(np.uint8, copy=False)
    ground = _ground(grey, path)
    tile = _apart_from_ground(grey, ground)
    if page.opaque is not None:
        tile &= page.opaque
    regions, _ = ndimage.label(tile)
    boxes: list[Box] = []
    others: list[tuple[Box, str]] = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1):
        box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        reason = _why_no_tile(regions[rows, columns] == number, grey[rows, columns])
        if reason is None:
            boxes.append(box)
        else:
            others.append((box, reason))
    if not boxes:
        raise DataError(f"{path} holds no particle tiles.", _REMEDY)
    if _is_blurred(page, ground, [*boxes, *(box for box, _ in others)]):
        boxes = [_trimmed(box, grey, ground) for box in boxes]
    found = np.array(boxes, dtype=np.int64)
    others = [(box, reason) for box, reason in others if not _within(box, found)]
    return found[_reading_order(found)], others


def _ground(grey: NDArray[np.uint8], path: Path) -> int:
    """0 or 255, whichever fills more of the picture."""
    spread = ndimage.maximum_filter(grey, 3) - ndimage.minimum_filter(grey, 3)
    flat = grey[spread <= 2]
    black = int((flat < _GROUND_LEVELS).sum())
    white = int((flat > 255 - _GROUND_LEVELS).sum())
    if max(black, white) < _MIN_GROUND * grey.size:
        raise DataError(f"{path} shows no black or white gaps between particles.", _REMEDY)
    return 0 if black >= white else 255


def _apart_from_ground(grey: NDArray[np.uint8], ground: int) -> NDArray[np.bool_]:
    """Pixels nearer to the level of the tiles than to that of the ground."""
    apart = np.abs(grey.astype(np.int16) - ground)
    others = apart[apart >= _GROUND_LEVELS]
    level = float(np.median(others)) if others.size else 255.0
    return np.asarray(apart > level / 2)


def _is_blurred(page: Picture, ground: int, boxes: list[Box]) -> bool:
    """Whether pixels between the regions are mixed with the tiles, as in a scaled collage."""
    between = np.abs(page.grey.astype(np.int16) - ground) >= _GROUND_LEVELS
    if page.opaque is not None:
        # Frames drawn over the collage may be blurred themselves.
        between &= ndimage.binary_erosion(page.opaque, iterations=2, border_value=1)
    for x, y, w, h in boxes:
        between[y : y + h, x : x + w] = False
    return int(between.sum()) >= len(boxes)


def _why_no_tile(inside: NDArray[np.bool_], grey: NDArray[np.uint8]) -> str | None:
    if min(inside.shape) < _MIN_SIDE:
        return "annotation: too small for a tile"
    levels = grey[inside].astype(np.int16)
    # Pen strokes have one level and blurred edges; a camera's background has grain.
    if max((levels >= levels.max() - 2).mean(), (levels <= levels.min() + 2).mean()) > 0.5:
        return "annotation: a single grey level"
    fill = ndimage.binary_fill_holes(inside).mean()
    sides = [line.mean() for line in (inside[0], inside[-1], inside[:, 0], inside[:, -1])]
    # A particle as dark as the ground that touches the tile's edge leaves a notch in it.
    if fill < _MIN_FILL and (fill < _MIN_NOTCHED or min(sides) < _MIN_NOTCHED):
        return "annotation: not a filled rectangle"
    return None


def _trimmed(box: Box, grey: NDArray[np.uint8], ground: int) -> Box:
    """The box without outermost lines that are mixed with the ground."""
    x, y, w, h = box
    apart = np.abs(grey[y : y + h, x : x + w].astype(np.float32) - ground)
    least = (1 - _MIXED) * float(np.median(apart))
    top, bottom, left, right = (
        _mixed_lines(lines, least) for lines in (apart, apart[::-1], apart.T, apart.T[::-1])
    )
    return x + left, y + top, w - left - right, h - top - bottom


def _mixed_lines(lines: NDArray[np.float32], least: float) -> int:
    """How many of the first lines are nearer to the ground than a tile, before one that is not."""
    pure = np.median(lines[: _MAX_MIXED + 1], axis=1) >= least
    return int(pure.argmax()) if pure.any() else 0


def _within(box: Box, tiles: NDArray[np.int64]) -> bool:
    """Whether a region is the bright middle of a dark particle, say, and not an annotation."""
    x, y, w, h = box
    left, top, width, height = tiles.T
    inside = (x >= left) & (y >= top) & (x + w <= left + width) & (y + h <= top + height)
    return bool(inside.any())


def _reading_order(boxes: NDArray[np.int64]) -> NDArray[np.intp]:
    """By shelf and then from left to right; tiles of a shelf overlap in height."""
    order = np.argsort(boxes[:, 1], kind="stable")
    shelf = np.zeros(len(boxes), dtype=np.int64)
    bottom, current = -1, -1
    for k in order.tolist():
        top, height = boxes[k, 1], boxes[k, 3]
        if top >= bottom:
            current, bottom = current + 1, top + height
        else:
            bottom = min(bottom, top + height)
        shelf[k] = current
    return np.lexsort((boxes[:, 0], shelf))


def _drawn(path: Path) -> NDArray[np.bool_]:
    """Pixels of colours that were drawn: strong, and exactly the same many times."""
    with Image.open(path) as image:
        if image.mode not in ("RGB", "RGBA", "P"):
            return np.zeros((image.height, image.width), dtype=bool)
        colour = np.asarray(image.convert("RGB")).astype(np.int32)
    strong = np.ptp(colour, axis=2) > _STRONG_COLOUR
    codes = colour[strong] @ np.array([1 << 16, 1 << 8, 1])
    values, counts = np.unique(codes, return_counts=True)
    drawn = np.zeros(strong.shape, dtype=bool)
    drawn[strong] = np.isin(codes, values[counts >= _DRAWN_PX])
    return drawn
