"""Particles cut out of larger pictures (collages, camera frames) at their boxes."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.images import (
    depth_needed,
    is_deep,
    picture_size,
    read_picture,
    to_8_bit,
)
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.writer import Cut
from svp_lightning.errors import DataError

BOX = ("x", "y", "w", "h")
"""Left and top edge, width and height, in px of the picture."""


@dataclass(frozen=True)
class Page:
    """A picture of many particles, in 8 bit.

    Attributes:
        grey: (h, w) uint8.
        opaque: (h, w), False where a pixel shows no particle; None if nowhere.
    """

    grey: NDArray[np.uint8]
    opaque: NDArray[np.bool_] | None = None


ReadPage = Callable[[Path], Page]
Measure = Callable[[pd.DataFrame, list[NDArray[np.uint8]]], dict[str, Any]]
_AGAIN = "Table and pictures must be of the same run; copy the run folder again."


def inside_pictures(
    particles: pd.DataFrame, root: Path, num_threads: int, skips: Skips
) -> pd.DataFrame:
    """The particles that can be cut; others are refused or left out.

    Where broken files are skipped every picture is decoded once, otherwise its header is
    read, and an error while cutting ends the import.

    Args:
        particles: with ``id``, ``picture`` (path as text) and :data:`BOX`.
        root: pictures must lie below it (see :func:`picture_sizes`).
        num_threads: reading threads.
        skips: where particles left out go.
    """
    names = particles["picture"].unique().tolist()
    sizes = picture_sizes([Path(n) for n in names], root, num_threads, skips.policy == "skip")
    errors: dict[int, tuple[str, DataError]] = {}
    lost = {name: size for name, size in sizes.items() if isinstance(size, DataError)}
    for row in np.flatnonzero(particles["picture"].isin(lost).to_numpy()).tolist():
        errors[row] = "its picture cannot be read", lost[particles["picture"].iloc[row]]
    readable = {name: size for name, size in sizes.items() if not isinstance(size, DataError)}
    for row, error in _outside(particles, readable).items():
        errors[row] = "box outside its picture", error
    for row in sorted(errors):
        skips.add(str(particles["id"].iloc[row]), *errors[row])
    return particles.drop(index=particles.index[list(errors)]).reset_index(drop=True)


def picture_sizes(
    paths: list[Path], root: Path, num_threads: int, decode: bool
) -> dict[str, tuple[int, int] | DataError]:
    """Path -> (height, width), or what is wrong with the picture.

    Args:
        paths: picture files.
        root: they must be named below it. A folder there may be a link, as it is the user who
            put it there; a picture that is one must lead into ``root`` or stay in its folder.
        num_threads: reading threads.
        decode: whether to decode all pixels to know that they can be.
    """

    def look(path: Path) -> tuple[int, int] | DataError:
        try:
            if _leads_out(path, root):
                raise DataError(
                    f"{path} leads out of data.root to {path.resolve()}.",
                    "Copy the file into the run folder.",
                )
            return picture_size(path, decode)
        except DataError as error:
            return error

    with ThreadPoolExecutor(num_threads) as pool:
        return dict(zip(map(str, paths), pool.map(look, paths), strict=True))


def _leads_out(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root) or os.pardir in path.relative_to(root).parts:
        return True
    real = path.resolve()
    return not any(real.is_relative_to(base.resolve()) for base in (root, path.parent))


def read_page(path: Path, least_bits: int = 8) -> Page:
    """A picture in 8 bit; 16-bit samples use ``least_bits``, or as many as nearly all need."""
    picture = read_picture(path)
    depth = max(least_bits, depth_needed(picture.grey))
    return Page(to_8_bit(picture.grey, depth), picture.opaque)


def page_reader(pictures: Iterable[str], num_threads: int, least_bits: int = 8) -> ReadPage:
    """:func:`read_page` with one depth for all 16-bit pictures: a grey level means one thing.

    It is that of the picture that needs most; 16-bit pictures are decoded once to know it.
    """

    def bits(path: Path) -> int:
        try:
            return depth_needed(read_picture(path).grey)
        except DataError:  # reported where the picture is cut
            return least_bits

    with ThreadPoolExecutor(num_threads) as pool:
        deep = filter(is_deep, map(Path, pictures))
        return partial(read_page, least_bits=max([least_bits, *pool.map(bits, deep)]))


def cut(
    rows: pd.DataFrame,
    read: ReadPage,
    measure: Measure | None = None,
) -> Cut:
    """The particles of one picture.

    Args:
        rows: of one ``picture``, with ``id`` and :data:`BOX`.
        read: gives the picture as 8 bit.
        measure: further columns from the rows and their tiles.

    Raises:
        DataError: the picture cannot be decoded, or is not the one that was looked at.
    """
    path = Path(rows["picture"].iloc[0])
    page = read(path)
    height, width = page.grey.shape
    for error in _outside(rows, {str(path): (height, width)}).values():
        raise error
    boxes = rows[list(BOX)].itertuples(index=False, name=None)
    windows = [(slice(y, y + h), slice(x, x + w)) for x, y, w, h in boxes]
    images: list[NDArray[np.uint8]] = [page.grey[window] for window in windows]
    opaque = None if page.opaque is None else [_unless_all(page.opaque[w]) for w in windows]
    return Cut(images, opaque, measure(rows, images) if measure else {})


def _unless_all(opaque: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return None if opaque.all() else opaque


def _outside(particles: pd.DataFrame, sizes: Mapping[str, tuple[int, int]]) -> dict[int, DataError]:
    """Row -> error, for boxes that are empty or not inside their picture of known size."""
    known = np.flatnonzero(particles["picture"].isin(sizes).to_numpy())
    pictures = particles["picture"].to_numpy(object)[known]
    limits = np.array([sizes[name] for name in pictures], dtype=np.int64).reshape(-1, 2)
    x, y, w, h = (particles[name].to_numpy(np.int64)[known] for name in BOX)
    outside = (x < 0) | (y < 0) | (w < 1) | (h < 1)
    outside |= (y + h > limits[:, 0]) | (x + w > limits[:, 1])
    return {
        int(known[k]): DataError(
            f"Particle {particles['id'].iloc[known[k]]} lies at x {x[k]}..{x[k] + w[k] - 1}, "
            f"y {y[k]}..{y[k] + h[k] - 1}, outside {pictures[k]} "
            f"({limits[k][1]} x {limits[k][0]} px).",
            _AGAIN,
        )
        for k in np.flatnonzero(outside)
    }
