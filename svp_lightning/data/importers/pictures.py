"""Pictures of particles, and particles cut out of larger ones at their boxes."""

import contextlib
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
    Header,
    depth_needed,
    read_header,
    read_picture,
    to_8_bit,
)
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.writer import Cut
from svp_lightning.errors import DataError

BOX = ["x", "y", "w", "h"]
"""Left and top edge, width and height, in px of the picture."""
SAME_RUN = "Table and pictures must be of the same run; copy the run folder again."


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


class Pictures:
    """The pictures of an import, each looked at once.

    Args:
        root: pictures must be named below it. A folder there may be a link, as it is the user who
            put it there; a picture that is one must lead into ``root`` or stay in its folder.
        num_threads: reading threads.
        decode: whether to decode all pixels to know that they can be.
        least_bits: of 16-bit samples.
    """

    def __init__(self, root: Path, num_threads: int, decode: bool, least_bits: int = 8) -> None:
        self._root = root if root.is_dir() else root.parent
        self._num_threads = num_threads
        self._decode = decode
        self._least_bits = least_bits
        self._looks: dict[str, Header | DataError] = {}
        self._bits: dict[str, int] = {}

    def looks(self, paths: Iterable[str | Path]) -> dict[str, Header | DataError]:
        """Path -> what its header says, or what is wrong with the picture."""
        names = list(dict.fromkeys(map(str, paths)))
        new = [name for name in names if name not in self._looks]
        with ThreadPoolExecutor(self._num_threads) as pool:
            self._looks |= dict(zip(new, pool.map(self._look_at, map(Path, new)), strict=True))
        return {name: self._looks[name] for name in names}

    def shapes(self, paths: Iterable[str | Path]) -> dict[str, tuple[int, int]]:
        """Path -> height and width, px, of the pictures that can be read."""
        looks = self.looks(paths)
        return {name: one[:2] for name, one in looks.items() if isinstance(one, Header)}

    def _look_at(self, path: Path) -> Header | DataError:
        try:
            if _leads_out(path, self._root):
                raise DataError(
                    f"{path} leads out of data.root to {path.resolve()}.",
                    "Copy the file into the run folder.",
                )
            header = read_header(path)
            if self._decode:
                self.page(path)
            return header
        except DataError as error:
            return error

    def page(self, path: Path, bits: int = 0) -> Page:
        """A picture in 8 bit; 16-bit samples use ``bits``, or as many as nearly all need.

        Raises:
            DataError: as in :func:`~svp_lightning.data.importers.images.read_picture`.
        """
        picture = read_picture(path)
        needed = self._bits[str(path)] = max(self._least_bits, depth_needed(picture.grey))
        return Page(to_8_bit(picture.grey, max(bits, needed)), picture.opaque)

    def reader(self, paths: Iterable[str]) -> ReadPage:
        """:meth:`page` with one depth for these 16-bit pictures: a grey level means one thing.

        It is that of the picture that needs most; those are decoded once to know it.
        """
        deep = [n for n, one in self.looks(paths).items() if isinstance(one, Header) and one.deep]
        with ThreadPoolExecutor(self._num_threads) as pool:
            list(pool.map(self._measure_depth, [n for n in deep if n not in self._bits]))
        return partial(self.page, bits=max((self._bits.get(name, 0) for name in deep), default=0))

    def _measure_depth(self, name: str) -> None:
        with contextlib.suppress(DataError):  # reported where the picture is cut
            self.page(Path(name))

    def holding(self, particles: pd.DataFrame, skips: Skips) -> pd.DataFrame:
        """The particles that can be cut out of their pictures; others are refused or left out.

        Args:
            particles: with ``id``, ``picture`` (path as text) and :data:`BOX`.
            skips: where particles left out go.
        """
        looks = self.looks(particles["picture"].unique())
        problems = outside(particles, self.shapes(looks))
        for row, name in enumerate(particles["picture"]):
            if isinstance(error := looks[name], DataError):
                problems[row] = "its picture cannot be read", error
        for row in sorted(problems):
            skips.add(str(particles["id"].iloc[row]), *problems[row])
        return particles.drop(index=particles.index[list(problems)]).reset_index(drop=True)


def _leads_out(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root) or os.pardir in path.relative_to(root).parts:
        return True
    real = path.resolve()
    return not any(real.is_relative_to(base.resolve()) for base in (root, path.parent))


def outside(
    particles: pd.DataFrame, shapes: Mapping[str, tuple[int, int]]
) -> dict[int, tuple[str, DataError]]:
    """Row -> reason and error, for boxes that are empty or not in their picture of known shape."""
    limits = np.array([shapes.get(name, (0, 0)) for name in particles["picture"]]).reshape(-1, 2)
    x, y, w, h = particles[BOX].to_numpy(np.int64).T
    beyond = (x < 0) | (y < 0) | (w < 1) | (h < 1)
    beyond |= (y + h > limits[:, 0]) | (x + w > limits[:, 1])
    return {
        k: (
            "box outside its picture",
            DataError(
                f"Particle {particles['id'].iloc[k]} lies at x {x[k]}..{x[k] + w[k] - 1}, "
                f"y {y[k]}..{y[k] + h[k] - 1}, outside {particles['picture'].iloc[k]} "
                f"({limits[k][1]} x {limits[k][0]} px).",
                SAME_RUN,
            ),
        )
        for k in np.flatnonzero(beyond & (limits[:, 0] > 0)).tolist()
    }


def whole_pictures(
    table: pd.DataFrame,
    shapes: Mapping[str, tuple[int, int]],
    file: Path,
    skips: Skips,
    at_edge: Callable[[NDArray[Any]], NDArray[np.bool_]] | None = None,
) -> pd.DataFrame:
    """Boxes that hold all of each particle's own picture.

    Pictures are larger than the boxes of their table by one margin, except where the frame ended:
    others are of another particle, and left out. One that cannot be read gets any box here, and
    is reported when pictures are checked.

    Args:
        table: with ``id`` and ``picture``, and ``w`` and ``h`` where the table has them.
        shapes: see :meth:`Pictures.shapes`.
        file: the table.
        skips: where particles left out go.
        at_edge: which margins, given as (height, width), the frame may have cut.
    """
    shown = np.array([shapes.get(n, (1, 1)) for n in table["picture"]], np.int64).reshape(-1, 2)
    readable = table["picture"].isin(shapes).to_numpy()
    if "w" in table and "h" in table and readable.any():
        extra = shown - table[["h", "w"]].to_numpy()
        usual = np.maximum(np.median(extra[readable], axis=0), 0)
        whole = np.ones(len(table), dtype=bool) if at_edge is None else ~at_edge(usual)
        odd = ((extra > usual) | (extra < 0) | (extra != usual) & whole[:, None]).any(axis=1)
        margin = f"{usual[1]:g} x {usual[0]:g} px"
        sides = table.assign(high=shown[:, 0], wide=shown[:, 1])
        kept = skips.leave_out(
            sides,
            readable & odd,
            "image of another size than its box",
            lambda row: (
                str(row.id),
                DataError(
                    f"{row.picture} is {row.wide} x {row.high} px, and the box of particle "
                    f"{row.id} in {file.name} is {row.w} x {row.h} px; most pictures are larger "
                    f"than their box by {margin}.",
                    SAME_RUN,
                ),
            ),
        )
        table, shown = table.loc[kept.index], kept[["high", "wide"]].to_numpy()
    return table.assign(x=0, y=0, h=shown[:, 0], w=shown[:, 1])


def cut(rows: pd.DataFrame, read: ReadPage, measure: Measure | None = None) -> Cut:
    """The particles of one picture.

    Args:
        rows: of one ``picture``, with ``id`` and :data:`BOX`.
        read: gives the picture as 8 bit.
        measure: further columns from the rows and their tiles.

    Raises:
        DataError: the picture cannot be decoded, or is not the one that was looked at.
    """
    page = read(Path(rows["picture"].iloc[0]))
    height, width = page.grey.shape
    for _, error in outside(rows, {rows["picture"].iloc[0]: (height, width)}).values():
        raise error
    boxes = rows[BOX].itertuples(index=False, name=None)
    windows = [(slice(y, y + h), slice(x, x + w)) for x, y, w, h in boxes]
    images: list[NDArray[np.uint8]] = [page.grey[window] for window in windows]
    opaque = None if page.opaque is None else [_unless_all(page.opaque[w]) for w in windows]
    return Cut(images, opaque, measure(rows, images) if measure else {})


def _unless_all(opaque: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return None if opaque.all() else opaque
