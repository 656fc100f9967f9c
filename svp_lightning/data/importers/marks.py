"""What is burnt into images (a scale bar, a text), and what to leave out of each image.

Marks shift the centring and may show the class. They are found where many images of a class have
the same grey level near their border, and replaced by background where the user names them
(:class:`Mask`).
"""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, label

from svp_lightning.data.importers.images import read_picture
from svp_lightning.errors import DataError
from svp_lightning.runtime.user_files import in_threads

Grey = NDArray[np.uint8]
_Edges = tuple[int | None, ...]
"""Left, top, right and bottom, px; negative ones count from the right and bottom edges."""

_SAMPLE = 64
"""Images of each class in which marks are looked for."""
_MIN_SAMPLE = 8
_MARK_CONTRAST = 25.0
"""Grey levels between a mark and the background."""
_MARK_PIXELS = 5
"""Fewer are defects of the sensor, which all classes share."""


def is_box(given: str) -> bool:
    """Whether a mask is ``left:top:right:bottom``, and no image."""
    return re.fullmatch(r"(-?\d*):(-?\d*):(-?\d*):(-?\d*)", given) is not None


class Mask:
    """Where pixels of every image are to be replaced by background.

    Args:
        given: ``left:top:right:bottom`` in px (negative ones count from the right and bottom
            edges, empty ones are edges), or the name of an image in ``root`` that is not 0 where
            a mark is; every image then must be of its size.
        root: of the images.

    Raises:
        DataError: ``given`` is neither of the two.
    """

    def __init__(self, given: str, root: Path) -> None:
        self._box: tuple[slice, ...] = ()
        self._image: NDArray[np.bool_] | None = None
        if is_box(given):
            edges = [int(n) if n.strip("-") else None for n in given.split(":")]
            self._box = (slice(edges[1], edges[3]), slice(edges[0], edges[2]))
        elif (root / given).is_file():
            self._image = read_picture(root / given).grey > 0
        else:
            raise DataError(
                f"data.mask={given} is neither a box nor an image in {root}.",
                "Give left:top:right:bottom in px (:-12:: is the lowest 12 rows), or an image "
                "that is not black where pixels are to be replaced.",
            )

    def covers(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """(h, w), True where pixels of an image of this shape are to be replaced.

        Raises:
            DataError: the mask image has another size, or nothing would be left.
        """
        covered = np.zeros(shape, dtype=bool)
        if self._image is None:
            covered[self._box] = True
        elif self._image.shape == shape:
            covered = self._image
        else:
            sizes = [f"{w} x {h} px" for h, w in (self._image.shape, shape)]
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


def marks(labels: pd.Series, read: Callable[[int], Grey], num_threads: int) -> list[str]:
    """A warning for each mark that the images of a class have in common near the border.

    ``read`` gives an image by its position in ``labels`` (classes, null where unknown).
    """
    classes_of: dict[_Edges, set[str]] = {}
    names = labels.astype(object).where(labels.notna(), "").to_numpy(object)
    judged = 0
    for name in sorted(set(names)):
        rows = np.flatnonzero(names == name)
        chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(int)]
        if len(chosen) < _MIN_SAMPLE:
            continue
        judged += 1
        images = list(in_threads(read, chosen.tolist(), num_threads))
        for mark in _common_marks(images):
            known = next((other for other in classes_of if _overlap(mark, other)), mark)
            classes_of.setdefault(known, set()).add(name)
    return [_warning(mark, held, len(held) == judged) for mark, held in classes_of.items()]


def _warning(mark: _Edges, classes: set[str], all_classes: bool) -> str:
    box = ":".join("" if edge is None else str(edge) for edge in mark)
    what = f"Images of {', '.join(sorted(classes))} hold a mark that others lack"
    why = "It tells the class without the particle."
    if all_classes:
        what, why = "Images hold the same mark (a scale bar, a text)", "It shifts the centring."
    return (
        f"Warning: {what} at {box} (left:top:right:bottom, px). {why} "
        f"data.mask={box} replaces it by background."
    )


def _overlap(a: _Edges, b: _Edges) -> bool:
    return max(abs((x or 0) - (y or 0)) for x, y in zip(a, b, strict=True)) <= 4


def _common_marks(images: list[Grey]) -> list[_Edges]:
    """Boxes of constant pixels near the border, from the corner where they are constant."""
    height, width = (int(np.percentile([i.shape[k] for i in images], 10)) for k in (0, 1))
    fitting = [image for image in images if image.shape[0] >= height and image.shape[1] >= width]
    one_size = len({image.shape for image in fitting}) == 1
    found: list[_Edges] = []
    for bottom, right in [(False, False)] if one_size else product((False, True), repeat=2):
        rows = slice(-height, None) if bottom else slice(height)
        columns = slice(-width, None) if right else slice(width)
        stack = np.stack([image[rows, columns] for image in fitting])
        edges = [one_size or here for here in (not bottom, bottom, not right, right)]
        for box in _constant_boxes(stack, edges):
            top, left = box[0].start - height * bottom, box[1].start - width * right
            ends = box[0].stop - height * bottom, box[1].stop - width * right
            found.append((left, top, ends[1] or None, ends[0] or None))
    return found


def _constant_boxes(stack: NDArray[Any], edges: list[bool]) -> list[tuple[slice, ...]]:
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
