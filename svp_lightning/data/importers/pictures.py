"""Pictures of particles: found, looked at once, and read in one depth."""

import contextlib
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.images import (
    Header,
    Picture,
    depth_needed,
    read_header,
    read_picture,
    to_8_bit,
)
from svp_lightning.data.importers.tables import Skips
from svp_lightning.errors import DataError
from svp_lightning.runtime.user_files import in_threads

BOX = ["x", "y", "w", "h"]
"""Left and top edge, width and height, in px of the picture."""
NO_PARTICLES = re.compile(r"(cal_image|rawfile)_|.*_bin$")
"""Stems of pictures that lie beside those of particles: of the calibration, raw frames, masks."""
SAME_RUN = "Table and pictures must be of the same run; copy the run folder again."
_KEPT_BYTES = 1 << 28
"""Decoded pictures that are kept to be read again; others are decoded again."""


class AnyCase:
    """Finds files whatever the case of their names (Windows, where runs are made, has none)."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, str]] = {}

    def __call__(self, path: Path) -> Path:
        """``path``, or the one file whose name differs from it in case alone, if there is one."""
        folder = path.parent
        if os.path.isfile(path):  # Path.is_file() raises on names too long
            return path
        if folder not in self._names:
            there = os.listdir(folder) if os.path.isdir(folder) else []
            times = Counter(map(str.lower, there))
            self._names[folder] = {n.lower(): n for n in there if times[n.lower()] == 1}
        return folder / self._names[folder].get(path.name.lower(), path.name)


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
        self._shared_bits = 0
        self._looks: dict[str, Header | DataError] = {}
        self._bits: dict[str, int] = {}
        self._kept: dict[str, Picture] = {}
        self._room = _KEPT_BYTES
        self._lock = Lock()

    def looks(self, paths: Iterable[str | Path]) -> dict[str, Header | DataError]:
        """Path -> what its header says, or what is wrong with the picture."""
        names = list(dict.fromkeys(map(str, paths)))
        new = [name for name in names if name not in self._looks]
        found = in_threads(self._look_at, map(Path, new), self._num_threads)
        self._looks |= dict(zip(new, found, strict=True))
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
                self.page(path, again=True)
            return header
        except DataError as error:
            return error

    def picture(self, path: Path, again: bool = False) -> Picture:
        """A picture as stored; one that will be read ``again`` is kept if memory allows.

        Raises:
            DataError: as in :func:`~svp_lightning.data.importers.images.read_picture`.
        """
        with self._lock:
            kept = self._kept.pop(str(path), None)
            self._room += kept.grey.nbytes if kept else 0
        picture = kept or read_picture(path)
        with self._lock:
            if again and picture.grey.nbytes <= self._room:
                self._kept[str(path)] = picture
                self._room -= picture.grey.nbytes
        return picture

    def page(self, path: Path, again: bool = False) -> Picture:
        """:meth:`picture` in 8 bit; 16-bit samples use as many bits as nearly all need."""
        grey, opaque = self.picture(path, again)
        needed = self._bits[str(path)] = max(self._least_bits, depth_needed(grey))
        return Picture(to_8_bit(grey, max(self._shared_bits, needed)), opaque)

    def share_depth(self, paths: Iterable[str]) -> None:
        """Read these 16-bit pictures in the depth of the one that needs most from now on.

        A grey level then means one thing. Each is decoded once to know it.
        """
        looks = self.looks(paths)
        deep = [n for n, one in looks.items() if isinstance(one, Header) and one.deep]

        def measure(name: str) -> None:
            with contextlib.suppress(DataError):  # reported where the picture is cut
                self.page(Path(name), again=True)

        unknown = [name for name in deep if name not in self._bits]
        deque(in_threads(measure, unknown, self._num_threads), maxlen=0)
        self._shared_bits = max((self._bits.get(name, 0) for name in deep), default=0)

    def holding(self, particles: pd.DataFrame, skips: Skips) -> pd.DataFrame:
        """The particles that can be cut out of their pictures at their boxes."""
        looks = self.looks(particles["picture"].unique())
        limits = _sides(particles["picture"], self.shapes(looks), (0, 0))
        x, y, w, h = particles[BOX].to_numpy(np.int64).T
        beyond = (x < 0) | (y < 0) | (w < 1) | (h < 1)
        beyond |= (y + h > limits[:, 0]) | (x + w > limits[:, 1])
        problems = {
            "its picture cannot be read": limits[:, 0] == 0,
            "box outside its picture": beyond,
        }

        def error(row: Any, _: str) -> DataError:
            look = looks[row.picture]
            if isinstance(look, DataError):
                return look
            return DataError(
                f"Particle {row.id} lies at x {row.x}..{row.x + row.w - 1}, "
                f"y {row.y}..{row.y + row.h - 1}, outside {row.picture} "
                f"({look.width} x {look.height} px).",
                SAME_RUN,
            )

        return skips.leave_out(particles, problems, error).reset_index(drop=True)


def _leads_out(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root) or os.pardir in path.relative_to(root).parts:
        return True
    real = path.resolve()
    return not any(real.is_relative_to(base.resolve()) for base in (root, path.parent))


def _sides(
    pictures: pd.Series, shapes: Mapping[str, tuple[int, int]], unknown: tuple[int, int]
) -> NDArray[np.int64]:
    """(N, 2) height and width of each picture, px."""
    return np.array([shapes.get(name, unknown) for name in pictures], np.int64).reshape(-1, 2)


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
        table: with ``id`` and ``picture``, and ``w`` and ``h`` where ``file`` has them.
        shapes: of the pictures that can be read.
        file: the table's.
        skips: where particles left out go.
        at_edge: particles that the frame may have cut, at a margin of (height, width) px.
    """
    shown = _sides(table["picture"], shapes, (1, 1))
    table = table.assign(high=shown[:, 0], wide=shown[:, 1])
    readable = table["picture"].isin(shapes).to_numpy()
    if "w" in table and "h" in table and readable.any():
        extra = shown - table[["h", "w"]].to_numpy()
        usual = np.maximum(np.median(extra[readable], axis=0), 0)
        whole = np.ones(len(table), dtype=bool) if at_edge is None else ~at_edge(usual)
        odd = ((extra > usual) | (extra < 0) | (extra != usual) & whole[:, None]).any(axis=1)
        table = skips.leave_out(
            table,
            {"image of another size than its box": readable & odd},
            lambda row, _: DataError(
                f"{row.picture} is {row.wide} x {row.high} px, and the box of particle {row.id} "
                f"in {file.name} is {row.w} x {row.h} px; most pictures are larger than their box "
                f"by {usual[1]:g} x {usual[0]:g} px.",
                SAME_RUN,
            ),
        )
    high, wide = table["high"], table["wide"]
    return table.drop(columns=["high", "wide"]).assign(x=0, y=0, h=high, w=wide)
