"""A look into every image before it is stored: is it readable, of one particle, and unmarked?

An image of many particles must not be classified as one, and what is burnt into images (a scale
bar, a text) shifts the centring and may tell the class. Marks are found where many images of a
class have the same grey level near their border, and replaced by background where the user
names them (:class:`Mask`).
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, label, uniform_filter

from svp_lightning.data.importers.collage import find_tiles
from svp_lightning.data.importers.cutting import Page
from svp_lightning.data.importers.images import (
    depth_needed,
    digest_of,
    read_picture,
    to_8_bit,
)
from svp_lightning.errors import DataError

Grey = NDArray[np.uint8]
Box = tuple[slice, ...]
"""Rows and columns."""

_FRAME_PIXELS = 256 * 256
"""Images with fewer are crops: no camera's frame is that small."""
_BLANK_PIXELS = 640 * 480
"""Images with more must show something."""
_MANY = 4
"""Objects of similar size, each a small part of the image: no crop of one particle."""
_MIN_CONTRAST = 12.0
"""Grey levels between an object and the background, after a mean over 3 x 3 px."""
_MAX_NOISE = 5.0
"""Grey levels, likewise; where the border varies more it shows a particle, as of a tight crop."""

_SAMPLE = 64
"""Images of each class in which marks are looked for."""
_MIN_SAMPLE = 8
_MARK_CONTRAST = 25.0
"""Grey levels between a mark and the background."""
_MARK_PIXELS = 5
"""Fewer are defects of the sensor, which all classes share."""


class Facts(NamedTuple):
    """What an image file holds.

    Attributes:
        height_px: 0 where it cannot be read.
        width_px: likewise.
        bits: depth that holds nearly all of its pixels; 0 for files of 8 bit.
        brightest: largest sample of a 16-bit file, else 0.
        digest: equal for equal pixels.
        error: why it is refused.
        reason: the same in few words, for the list of what is left out.
    """

    height_px: int = 0
    width_px: int = 0
    bits: int = 0
    brightest: int = 0
    digest: str = ""
    error: DataError | None = None
    reason: str | None = None


def survey(paths: Sequence[Path], num_threads: int) -> pd.DataFrame:
    """Decode every file once: a row of :class:`Facts` each, in order."""
    with ThreadPoolExecutor(num_threads) as pool:
        found = list(pool.map(_look, paths))
    whole = dict.fromkeys(("height_px", "width_px", "bits", "brightest"), np.int64)
    return pd.DataFrame(found, columns=Facts._fields).astype(whole)


def _look(path: Path) -> Facts:
    try:
        grey = read_picture(path).grey
    except DataError as error:
        return Facts(error=error, reason="cannot be decoded")
    height, width = grey.shape
    deep = grey.dtype == np.uint16
    bits = depth_needed(grey) if deep else 0
    facts = Facts(height, width, bits, int(grey.max()) if deep else 0, digest_of(grey))
    if what := not_one_particle(to_8_bit(grey, bits)):
        return facts._replace(
            error=DataError(
                f"{path} ({width} x {height} px) {what}: it is no image of one particle.",
                "Import runs with data=flowcam or data=mfi, collages with data=collage, or cut the "
                "particles out; data.unreadable=skip leaves such images out.",
            ),
            reason="no image of one particle",
        )
    return facts


def not_one_particle(grey: Grey) -> str | None:
    """What an image shows that a crop of one particle does not; None for a crop.

    Only images larger than any usual crop are judged.

    Args:
        grey: (h, w).
    """
    if grey.size < _FRAME_PIXELS:
        return None
    if tiles := _tiles(grey):
        return f"is a collage of {tiles} particles"
    objects = _objects(grey)
    if objects is None:
        return None
    boxes, areas = objects
    large = grey.size >= _BLANK_PIXELS
    if not boxes:
        return "shows nothing but background" if large else None
    shares = [float(np.prod([part.stop - part.start for part in box])) for box in boxes]
    largest = int(np.argmax(shares))
    share = shares[largest] / grey.size
    many = int((areas >= 0.2 * areas[largest]).sum())
    if many >= _MANY and share < 0.05 and areas.sum() < 0.1 * grey.size:
        return f"shows {many} objects of similar size"
    alone = many == 1 and _central(boxes[largest], grey.shape)
    if large and share < 0.01 and not alone:
        return f"is background but for {share:.2%} of it"
    return None


def _tiles(grey: Grey) -> int:
    """Tiles of a collage; 0 where the image is none."""
    try:
        number = len(find_tiles(Page(grey), Path()).boxes)
    except DataError:
        return 0
    return number if number >= _MANY else 0


def _objects(grey: Grey) -> tuple[list[Box], NDArray[np.int64]] | None:
    """Boxes and areas (px) of what differs from the background; None without a background."""
    smooth = uniform_filter(grey.astype(np.float32), 3)
    level, noise = _background(smooth)
    if noise > _MAX_NOISE:
        return None
    labels, _ = label(np.abs(smooth - level) > max(6 * noise, _MIN_CONTRAST), np.ones((3, 3)))
    areas = np.bincount(labels.ravel())[1:]
    kept = np.flatnonzero(areas > 9)  # a hot pixel fills 3 x 3 px of the mean
    boxes = find_objects(labels)
    return [boxes[k] for k in kept], areas[kept]


def _background(smooth: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Grey level of the background at every pixel, and its noise.

    A quadratic surface through the image's border, as a lamp may be brighter in the middle.
    """
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in smooth.shape)
    rows, columns = (max(n // 20, 2) for n in smooth.shape)
    border = np.ones(smooth.shape, dtype=bool)
    border[rows:-rows, columns:-columns] = False
    at = np.flatnonzero(border)[:: max(1, int(border.sum()) // 4000)]
    values = smooth.ravel()[at]
    terms = _terms(y[at // len(x)], x[at % len(x)])
    inside = np.ones(len(at), dtype=bool)
    for _ in range(4):  # particles on the border are left out
        factors = np.linalg.lstsq(terms[inside], values[inside], rcond=None)[0]
        rest = np.abs(values - terms @ factors)
        noise = 1.4826 * float(np.median(rest))
        inside = rest <= max(3 * noise, 1.0)
    surface = _terms(y[:, None], x[None, :]) @ factors
    return surface.astype(np.float32), noise


def _terms(y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = np.broadcast_arrays(np.ones_like(x), x, y, x * x, y * y)
    return np.stack(parts, axis=-1)


def _central(box: Box, shape: tuple[int, ...]) -> bool:
    """Whether an object is where cropping around it puts it."""
    middles = [(part.start + part.stop) / 2 / n for part, n in zip(box, shape, strict=True)]
    return all(abs(middle - 0.5) < 0.15 for middle in middles)


@dataclass(frozen=True)
class Mask:
    """Where pixels of every image are to be replaced by background.

    Attributes:
        box: left, top, right and bottom, px; negative ones count from the right and bottom
            edges, None is an edge. Ignored where ``image`` is given.
        image: (h, w) bool, True where a pixel is replaced; every image must be of its size.
    """

    box: tuple[int | None, ...] = ()
    image: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, given: str, root: Path) -> "Mask":
        """From ``left:top:right:bottom``, or the name of an image that is not 0 where a mark is.

        Raises:
            DataError: neither of the two.
        """
        if re.fullmatch(r"(-?\d*):(-?\d*):(-?\d*):(-?\d*)", given):
            return cls(box=tuple(int(n) if n.strip("-") else None for n in given.split(":")))
        if not (root / given).is_file():
            raise DataError(
                f"data.mask={given} is neither a box nor an image in {root}.",
                "Give left:top:right:bottom in px (:-12:: is the lowest 12 rows), or an image "
                "that is not black where pixels are to be replaced.",
            )
        return cls(image=read_picture(root / given).grey > 0)

    def covers(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """(h, w), True where pixels of an image of this shape are to be replaced.

        Raises:
            DataError: the mask image has another size, or nothing would be left.
        """
        covered = np.zeros(shape, dtype=bool)
        if self.image is None:
            left, top, right, bottom = self.box
            covered[top:bottom, left:right] = True
        elif self.image.shape == shape:
            covered = self.image
        else:
            sizes = [f"{w} x {h} px" for h, w in (self.image.shape, shape)]
            raise DataError(
                f"data.mask is an image of {sizes[0]}, but an image to import has {sizes[1]}.",
                "Give the mask as a box, or import images of one size.",
            )
        if covered.all():
            raise DataError(
                f"data.mask covers the whole of an image of {shape[1]} x {shape[0]} px.",
                "Give a smaller box.",
            )
        return covered


class _Mark(NamedTuple):
    """A box in px as :class:`Mask` takes it: from the edges it is found at."""

    left: int
    top: int
    right: int | None
    bottom: int | None

    def __str__(self) -> str:
        return ":".join("" if n is None else str(n) for n in self)


def marks(labels: pd.Series, read: Callable[[int], Grey], num_threads: int) -> list[str]:
    """A warning for each mark that the images of a class have in common near the border.

    Args:
        labels: class of each image, null where unknown.
        read: gives an image by its position, masked pixels at the level of its border.
        num_threads: decoding threads.
    """
    found: dict[str, list[_Mark]] = {}
    names = labels.astype(object).where(labels.notna(), "").to_numpy(object)
    for name in sorted(set(names)):
        rows = np.flatnonzero(names == name)
        chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(int)]
        with ThreadPoolExecutor(num_threads) as pool:
            images = list(pool.map(read, chosen.tolist()))
        if len(images) >= _MIN_SAMPLE:
            found[name] = _common_marks(images)
    return _warnings(found)


def _warnings(found: dict[str, list[_Mark]]) -> list[str]:
    classes_of: dict[_Mark, list[str]] = {}
    for name, here in found.items():
        for mark in here:
            known = next((other for other in classes_of if _overlap(mark, other)), mark)
            classes_of.setdefault(known, []).append(name)
    lines = []
    for mark, names in classes_of.items():
        if len(set(names)) == len(found):
            what = "Images hold the same mark (a scale bar, a text)"
            why = "It shifts the centring."
        else:
            what = f"Images of {', '.join(sorted(set(names)))} hold a mark that others lack"
            why = "It tells the class without the particle."
        lines.append(
            f"Warning: {what} at {mark} (left:top:right:bottom, px). {why} "
            f"data.mask={mark} replaces it by background."
        )
    return lines


def _overlap(a: _Mark, b: _Mark) -> bool:
    return max(abs((x or 0) - (y or 0)) for x, y in zip(a, b, strict=True)) <= 4


def _common_marks(images: list[Grey]) -> list[_Mark]:
    """Boxes of constant pixels near the border, from the corner where they are constant."""
    height, width = (int(np.percentile([i.shape[k] for i in images], 10)) for k in (0, 1))
    fitting = [image for image in images if image.shape[0] >= height and image.shape[1] >= width]
    one_size = len({image.shape for image in fitting}) == 1
    found = []
    for bottom, right in [(False, False)] if one_size else product((False, True), repeat=2):
        rows = slice(-height, None) if bottom else slice(height)
        columns = slice(-width, None) if right else slice(width)
        stack = np.stack([image[rows, columns] for image in fitting])
        edges = [one_size or here for here in (not bottom, bottom, not right, right)]
        for box in _constant_boxes(stack, edges):
            top, left = box[0].start - height * bottom, box[1].start - width * right
            ends = box[0].stop - height * bottom, box[1].stop - width * right
            found.append(_Mark(left, top, ends[1] or None, ends[0] or None))
    return found


def _constant_boxes(stack: NDArray[Any], edges: list[bool]) -> list[Box]:
    """Boxes of marks in (n, h, w) images, near the given edges (top, bottom, left, right)."""
    low, level, high = np.percentile(stack, [5, 50, 95], axis=0)
    height, width = level.shape
    near = np.zeros(level.shape, dtype=bool)
    rows, columns = height // 4, width // 4
    bands = (near[:rows], near[-rows:], near[:, :columns], near[:, -columns:])
    for edge, band in zip(edges, bands, strict=True):
        band |= edge
    contrast = np.abs(level - np.median(level[near])) if near.any() else np.zeros(level.shape)
    constant = (high - low <= np.maximum(4, 0.08 * contrast)) & (contrast >= _MARK_CONTRAST) & near
    labels, _ = label(binary_dilation(constant, iterations=2))
    boxes = find_objects(np.where(constant, labels, 0))
    sizes = np.bincount(labels[constant], minlength=len(boxes) + 1)
    return [box for number, box in enumerate(boxes, 1) if box and sizes[number] >= _MARK_PIXELS]
