"""From particles listed in a table to a store, in flat memory, decoding in threads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.labels import ordered
from svp_lightning.data.importers.window import choose_window, frame, window_counts
from svp_lightning.data.settings import FolderSettings, RunSettings
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.runtime.files import nothing_left_on_failure
from svp_lightning.runtime.user_files import in_threads

_ROWS_PER_WRITE = 2048
_WINDOW_COLUMNS = ("width_px", "height_px", "background_grey", "scale", "cut")


class Cut(NamedTuple):
    """Images of consecutive table rows, as they were recorded.

    Attributes:
        images: (h, w) uint8 each.
        opaque: what to keep of each image; None for all of it.
        columns: measurements made on the way, one value per image.
    """

    images: list[NDArray[np.uint8]]
    opaque: list[NDArray[np.bool_] | None]
    columns: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a store is made from.

    Attributes:
        particles: one row per image, in the order to write.
        sides: (N,) larger side of each crop, px.
        units: consecutive ranges of rows, each read in one go (a file, a collage, a frame).
        read: reads one unit; called from several threads at once.
        settings: of the import.
        pixel_size_um: calibration, if there is a single one.
        made_by: for the manifest.
        skipped: columns ``file``, ``reason``, ``particle_lost``; kept in the store if not empty.
    """

    particles: pd.DataFrame
    sides: NDArray[np.int64]
    units: Sequence[range]
    read: Callable[[range], Cut]
    settings: FolderSettings | RunSettings
    pixel_size_um: float | None
    made_by: dict[str, Any]
    skipped: pd.DataFrame

    @cached_property
    def image_size(self) -> int:
        """Side of the stored images, px."""
        ecd = self.particles["ecd_um"].to_numpy(float) if "ecd_um" in self.particles else None
        return self.settings.image_size or choose_window(self.sides, ecd, self.settings.window)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the class indices."""
        return ordered(self.particles["label"].dropna())


def write_plan(path: Path, plan: Plan, num_threads: int, progress: Callable[[int], None]) -> None:
    """Read, frame and store every image of ``plan``.

    The files are the same for the same images and settings. ``progress`` is called with the
    number of images just done.

    Raises:
        DataError: an image cannot be read; nothing is left at ``path``.
    """
    with nothing_left_on_failure(path):
        writer = StoreWriter(path, len(plan.particles), plan.image_size)
        # Pieces go down in order, so an interrupted import left all rows up to the first gap.
        gaps = writer.pending(max(len(plan.particles), 1))
        units = [unit for unit in plan.units if gaps and unit.start >= gaps[0].start]
        for pieces in _gathered(in_threads(partial(_frame_unit, plan), units, num_threads)):
            rows = range(pieces[0].rows.start, pieces[-1].rows.stop)
            columns = {
                name: np.concatenate([piece.columns[name] for piece in pieces])
                for name in pieces[0].columns
            }
            table = plan.particles.iloc[rows.start : rows.stop].assign(**columns)
            writer.write(rows.start, np.concatenate([piece.images for piece in pieces]), table)
            progress(len(rows))
        if plan.particles.empty:  # runs of water: a result, too
            nothing = dict.fromkeys(_WINDOW_COLUMNS, pd.Series(dtype=float))
            no_images = np.empty((0, plan.image_size, plan.image_size), np.uint8)
            writer.write(0, no_images, plan.particles.assign(**nothing))
        if len(plan.skipped):
            plan.skipped.to_csv(path / "skipped.csv", index=False)
        made_by = {
            **plan.made_by,
            "skipped": {str(k): int(n) for k, n in plan.skipped["reason"].value_counts().items()},
            "complete": not plan.skipped["particle_lost"].any(),
            "window": {"fit": plan.settings.fit, "sizes": window_counts(writer.particles())},
        }
        writer.finish(plan.class_names, plan.pixel_size_um, made_by)


class _Piece(NamedTuple):
    """Framed images of consecutive rows, and the columns that were found on the way."""

    rows: range
    images: NDArray[np.uint8]
    columns: dict[str, NDArray[Any]]


def _frame_unit(plan: Plan, unit: range) -> _Piece:
    images, opaque, columns = plan.read(unit)
    settings, size = plan.settings, plan.image_size
    framed = [
        frame(image, size, mask, settings.background, settings.fit)
        for image, mask in zip(images, opaque, strict=True)
    ]
    sides = (image.shape[::-1] for image in images)
    window = zip(*((*side, *one[1:]) for side, one in zip(sides, framed, strict=True)), strict=True)
    found = dict(zip(_WINDOW_COLUMNS, map(np.array, window), strict=True))
    found |= {name: np.asarray(values) for name, values in columns.items()}
    return _Piece(unit, np.stack([one.image for one in framed]), found)


def _gathered(pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    """Neighbouring pieces together, so that files on disk stay few."""
    held: list[_Piece] = []
    for piece in pieces:
        held.append(piece)
        if piece.rows.stop - held[0].rows.start >= _ROWS_PER_WRITE:
            yield held
            held = []
    if held:
        yield held
