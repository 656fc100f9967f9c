"""A look into every image before it is stored: is it readable, and of one particle?

An image of many particles must not be classified as one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label, uniform_filter

from svp_lightning.data.importers.collage import find_tiles
from svp_lightning.data.importers.images import (
    Picture,
    depth_needed,
    digest_of,
    read_picture,
    to_8_bit,
)
from svp_lightning.errors import DataError
from svp_lightning.runtime.user_files import in_threads

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
    found = list(in_threads(_look, paths, num_threads))
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
        number = len(find_tiles(Picture(grey), Path())[0])
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
