"""MFI (5000 series) runs: a particle table with frames or crops, into a store.

A run is a ``.csv`` or ``.txt`` table (see :mod:`svp_lightning.data.importers.mfi_table`) with
its pictures in the same folder or below it. Pictures are either the camera's frames, of which
particles are cut out at their boxes, or crops, one for each particle. Frames are recognised by
their size: they hold the boxes of the table. The last number in a frame's name is its own, that
in a crop's name its particle's; where particles are numbered from 1 in each frame, the last two
are the crop's frame and particle. Runs are the groups of the split.

Table and pictures must be of the same run: crops must be larger than their box by the same
margin, and the intensities of the table must be those of the pixels.
"""

import re
from collections.abc import Collection
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.mfi_table import (
    CAMERA_BITS,
    EDGES,
    particle_header,
    pixel_sizes,
    read_mfi_table,
)
from svp_lightning.data.importers.pictures import BOX, SAME_RUN, whole_pictures
from svp_lightning.data.importers.runs import RunImport
from svp_lightning.data.importers.window import border
from svp_lightning.data.settings import IMAGE_SUFFIXES, MfiSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.user_files import in_threads, visible_files

_DARKEST, _BRIGHTEST = "intensity_min_vendor_grey", "intensity_max_vendor_grey"
_FRAME = (1024, 1280)
"""Rows and columns of the camera."""

_LEAST_CONTRAST = 16.0
"""Grey levels from the background by which a particle is known from noise."""
_BLANK = 8.0
"""Grey levels from the background that noise alone does not reach."""
_LEAST_FITTING = 0.5
"""Share of a run's particles whose contrast in the pixels is that of the table."""
_LEAST_CORRELATION = 0.5
_LEAST_CORRELATED = 10
"""Particles of which a rank correlation shows anything."""
_LEAST_IN_PICTURE = 4
"""Particles of a picture, all of another contrast, by which it is of another run."""


class _Mfi(RunImport):
    settings: MfiSettings
    least_bits = CAMERA_BITS

    def files(self) -> list[Path]:
        files = self.run_files((".csv", ".txt"), lambda f: f.is_file() and bool(particle_header(f)))
        if not files:
            raise DataError(
                f"{self.settings.root} holds no MFI run (no .csv or .txt with the columns "
                "Frame #, Particle #, X Left, X Right, Y Top, Y Bottom).",
                "Give the folder with the exported table and the frame images or crops.",
            )
        return files

    def read(self, file: Path, run: str) -> pd.DataFrame:
        table = read_mfi_table(file, self.skips)
        if table.empty:
            return table
        numbers = table[_numbered_by(table)].itertuples(index=False, name=None)
        ids = [f"{run}/" + "/".join(f"{number:06d}" for number in key) for key in numbers]
        table = self._with_pictures(file, table.assign(id=ids, group=run))
        return self._of_their_pictures(file, table)

    def complete(self, particles: pd.DataFrame) -> pd.DataFrame:
        """With the pixel size of each run."""
        self.facts = pixel_sizes(particles, self.settings.pixel_size_um)
        self.made_by = {"size_definition": "ECD (vendor)", "margin_px": self.settings.margin_px}
        size = {run: fact["pixel_size_um"] for run, fact in self.facts.items()}
        return particles.assign(pixel_size_um=particles["group"].map(size).astype(float))

    def _with_pictures(self, file: Path, table: pd.DataFrame) -> pd.DataFrame:
        """With ``picture``, the box ``x, y, w, h`` to cut from it, and the place in the frame."""
        files = sorted(visible_files(file.parent, self.left_out))
        files = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise DataError(
                f"{file.parent} holds no frames or crops for {file.name}.",
                "Put the pictures of the run into the folder of its table.",
            )
        x, y = table["x_left"], table["y_top"]
        w, h = table["x_right"] - x + 1, table["y_bottom"] - y + 1
        table = table.drop(columns=EDGES).assign(x=x, y=y, w=w, h=h, frame_x_px=x, frame_y_px=y)
        shapes = self.pictures.shapes(files)
        # Crops are all smaller than the part of the frame that half of the boxes reach.
        down, across = (y + h).median(), (x + w).median()
        if not shapes or any(high >= down and wide >= across for high, wide in shapes.values()):
            table = self._found(file, table, files, ["frame"], "frame")
            return _with_margin(table, shapes, self.settings.margin_px)
        table = self._found(file, table, files, _numbered_by(table), "particle")

        def at_edge(margin: NDArray[np.float64]) -> NDArray[np.bool_]:
            corner, box = table[["y", "x"]].to_numpy(), table[["h", "w"]].to_numpy()
            cut = (corner <= margin) | (corner + box >= np.array(_FRAME) - margin)
            flagged = table["edge_of_frame"].astype(object).fillna(False).to_numpy(bool)
            return np.asarray(cut.any(axis=1) | flagged)

        return whole_pictures(table, shapes, file, self.skips, at_edge)

    def _found(
        self, file: Path, table: pd.DataFrame, pictures: list[Path], columns: list[str], kind: str
    ) -> pd.DataFrame:
        """The particles of which there is a picture, with the column ``picture``.

        The last numbers in a picture's name are its ``columns``.
        """
        of_number: dict[str, str] = {}
        for path in pictures:
            key = [str(int(number)) for number in re.findall(r"[0-9]+", path.stem)[-len(columns) :]]
            if len(key) < len(columns):
                continue
            name = "/".join(key)
            if name in of_number:
                raise DataError(
                    f"{of_number[name]} and {path} are both {kind} {name}.",
                    "Keep each run, table and pictures, in a folder of its own.",
                )
            of_number[name] = str(path)
        numbers = table[columns].itertuples(index=False, name=None)
        keys = pd.Series(["/".join(map(str, key)) for key in numbers], table.index)
        missing = keys[~keys.isin(of_number)].nunique()
        table = table.assign(key=keys, picture=keys.map(of_number))
        return self.skips.leave_out(
            table,
            {f"its {kind} picture is missing": table["picture"].isna()},
            lambda row, _: DataError(
                f"{file} refers to {kind} {row.key} ({missing} such), but {file.parent} holds "
                f"{len(of_number)} {kind}s.",
                f"Put all {kind}s of the run into the folder of its table. {SAME_RUN}",
            ),
        ).drop(columns="key")

    def _of_their_pictures(self, file: Path, table: pd.DataFrame) -> pd.DataFrame:
        """The particles whose intensities in the table are those of the pixels in their boxes.

        The contrast of each particle to its background is compared. The pictures are of another
        run if less than half of the particles fit, and intensities are not correlated either, as
        they are where pictures were made brighter. Otherwise, so is a picture without any that
        fits. A particle of a table without intensities fits if its box is not blank.
        """
        if table.empty:
            return table
        boxes: dict[str, list[tuple[int, ...]]] = {}
        rows = table[BOX].clip(lower=0).itertuples(name=None)
        for picture, row in zip(table["picture"], rows, strict=True):
            boxes.setdefault(picture, []).append(row)
        parts = in_threads(self._levels, sorted(boxes.items()), self.settings.num_threads)
        # A table for each crop would take longer than to read it.
        seen = pd.DataFrame(
            chain.from_iterable(parts), columns=["row", "low", "high", "ground"], dtype=float
        )
        seen = seen.set_index(seen.pop("row").astype(table.index.dtype))
        seen = seen.join(table.reindex(columns=["picture", _DARKEST, _BRIGHTEST]))
        contrast = _contrast(seen, "low", "high")
        judged = seen.assign(fits=contrast >= _BLANK)
        if seen[_DARKEST].notna().any():
            stated = _contrast(seen, _DARKEST, _BRIGHTEST)
            fits = (contrast / stated).between(0.5, 2)
            judged = seen.assign(fits=fits)[stated >= _LEAST_CONTRAST]
        others: Collection[str] = []
        if judged.empty or judged["fits"].mean() >= _LEAST_FITTING:
            each = judged.groupby("picture")["fits"].agg(["size", "any"])
            others = each.index[(each["size"] >= _LEAST_IN_PICTURE) & ~each["any"].astype(bool)]
        elif not _correlated(seen):
            others = table["picture"].unique()
        wrong = judged[judged["picture"].isin(others)]
        more = f" and {len(others) - 1} more pictures" if len(others) > 1 else ""
        error = DataError(
            f"{file} and {next(iter(others), '')}{more} are not of the same run: "
            f"{(~wrong['fits'].astype(bool)).sum()} of {len(wrong)} particles are not in the "
            "pictures as the table says.",
            f"{SAME_RUN} data.unreadable=skip leaves these particles out.",
        )
        elsewhere = {"its picture is of another run": table["picture"].isin(others)}
        return self.skips.leave_out(table, elsewhere, lambda *_: error)

    def _levels(self, of: tuple[str, list[tuple[int, ...]]]) -> list[tuple[float, ...]]:
        """Of a picture and (row, x, y, w, h) of its boxes: (row, darkest, brightest, border).

        Without those of a picture that cannot be read and of boxes outside: these are reported
        when pictures are checked.
        """
        picture, boxes = of
        try:
            page = self.pictures.page(Path(picture), again=True).grey
        except DataError:
            return []
        tiles = ((row, page[y : y + h, x : x + w]) for row, x, y, w, h in boxes)
        return [
            (row, tile.min(), tile.max(), float(np.median(border(tile))))
            for row, tile in tiles
            if tile.size
        ]


plan_mfi = _Mfi.planned
"""As :meth:`~.runs.RunImport.plan`."""


def _numbered_by(table: pd.DataFrame) -> list[str]:
    """Particle numbers may begin at 1 in each frame, which then is part of the name."""
    repeated = table["particle_id"].duplicated().any()
    return ["frame", "particle_id"] if repeated else ["particle_id"]


def _with_margin(
    table: pd.DataFrame, shapes: dict[str, tuple[int, int]], margin_px: int
) -> pd.DataFrame:
    """Boxes enlarged as far as the frame goes; those beyond it are left for the check."""
    limits = np.array([shapes.get(name, (0, 0)) for name in table["picture"]]).reshape(-1, 2)
    corners: dict[str, NDArray[np.int64]] = {}
    for start, length, limit in (("x", "w", limits[:, 1]), ("y", "h", limits[:, 0])):
        first, last = table[start].to_numpy(), (table[start] + table[length]).to_numpy()
        # An empty box (right of left) must stay empty.
        room = (np.minimum(first, limit - last) >= 0) & (last > first)
        before = np.clip(first, 0, margin_px) * room
        after = np.clip(limit - last, 0, margin_px) * room
        corners |= {start: first - before, length: last - first + before + after}
    return table.assign(**corners)


def _contrast(seen: pd.DataFrame, low: str, high: str) -> pd.Series:
    """Largest distance of a particle's grey levels from the background."""
    return pd.concat([seen["ground"] - seen[low], seen[high] - seen["ground"]], axis=1).max(axis=1)


def _correlated(rows: pd.DataFrame) -> bool:
    if len(rows) < _LEAST_CORRELATED or rows[_DARKEST].isna().all():
        return False
    return bool(rows["low"].corr(rows[_DARKEST], method="spearman") >= _LEAST_CORRELATION)
