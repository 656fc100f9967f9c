"""From particles listed in a table to a store, in flat memory, decoding in threads."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.window import frame, window_counts
from svp_lightning.data.store import StoreWriter
from svp_lightning.runtime.files import nothing_left_on_failure

Progress = Callable[[int], None]
"""Called with the number of images just done."""

_ROWS_PER_WRITE = 2048
_WINDOW_COLUMNS = ("width_px", "height_px", "background_grey", "scale", "cut")


@dataclass(frozen=True)
class Cut:
    """Images of consecutive table rows, as they were recorded.

    Attributes:
        images: (h, w) uint8 each.
        opaque: what to keep of each image; None for all of it.
        columns: measurements made on the way, one value per image.
    """

    images: list[NDArray[np.uint8]]
    opaque: list[NDArray[np.bool_] | None] | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a store is made from.

    Attributes:
        particles: one row per image, in the order to write.
        units: consecutive ranges of rows, each read in one go (a file, a collage, a frame).
        read: reads one unit; called from several threads at once.
        image_size: side of the stored images, px.
        background: grey level every background is scaled to; None keeps it.
        fit: what becomes of particles larger than the images.
        class_names: in the order of the class indices.
        pixel_size_um: calibration, if there is a single one.
        made_by: for the manifest.
        skipped: columns ``file``, ``reason``, ``particle_lost``; kept in the store if not empty.
    """

    particles: pd.DataFrame
    units: Sequence[range]
    read: Callable[[range], Cut]
    image_size: int
    background: int | None
    fit: Literal["cut", "shrink"]
    class_names: tuple[str, ...]
    pixel_size_um: float | None
    made_by: dict[str, Any]
    skipped: pd.DataFrame


def write_plan(path: Path, plan: Plan, num_threads: int, progress: Progress) -> None:
    """Read, frame and store every image of ``plan``.

    Raises:
        DataError: an image cannot be read; nothing is left at ``path``.
    """
    with nothing_left_on_failure(path):
        writer = StoreWriter(path, len(plan.particles), plan.image_size)
        # Pieces go down in order, so an interrupted import left all rows up to the first gap.
        gaps = writer.pending(max(len(plan.particles), 1))
        units = [unit for unit in plan.units if gaps and unit.start >= gaps[0].start]
        for rows, images, table in _gathered(_framed_units(plan, units, num_threads)):
            writer.write(rows.start, images, table)
            progress(len(rows))
        if plan.particles.empty:  # runs of water: a result, too
            columns = dict.fromkeys(_WINDOW_COLUMNS, pd.Series(dtype=float))
            no_images = np.empty((0, plan.image_size, plan.image_size), np.uint8)
            writer.write(0, no_images, plan.particles.assign(**columns))
        if len(plan.skipped):
            plan.skipped.to_csv(path / "skipped.csv", index=False)
        made_by = {
            **plan.made_by,
            "skipped": _count_reasons(plan.skipped),
            "complete": not plan.skipped["particle_lost"].any(),
            "window": {"fit": plan.fit, "sizes": window_counts(writer.particles())},
        }
        writer.finish(plan.class_names, plan.pixel_size_um, made_by)


_Piece = tuple[range, NDArray[np.uint8], pd.DataFrame]


def _framed_units(plan: Plan, units: Sequence[range], num_threads: int) -> Iterator[_Piece]:
    """Units in order, at most a few more of them in memory than there are threads."""
    waiting: deque[Future[_Piece]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for unit in units:
                waiting.append(pool.submit(_frame_unit, plan, unit))
                if len(waiting) > 2 * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _frame_unit(plan: Plan, unit: range) -> _Piece:
    cut = plan.read(unit)
    opaque = cut.opaque or [None] * len(cut.images)
    framed = [
        frame(image, plan.image_size, mask, plan.background, plan.fit)
        for image, mask in zip(cut.images, opaque, strict=True)
    ]
    window = [
        (image.shape[1], image.shape[0], one.background_grey, one.scale, one.cut)
        for image, one in zip(cut.images, framed, strict=True)
    ]
    table = plan.particles.iloc[unit.start : unit.stop].assign(
        **dict(zip(_WINDOW_COLUMNS, zip(*window, strict=True), strict=True)),
        **cut.columns,
    )
    return unit, np.stack([one.image for one in framed]), table


def _gathered(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """Join small neighbouring pieces, so that files on disk stay few."""
    held: list[_Piece] = []
    for piece in pieces:
        held.append(piece)
        if sum(len(rows) for rows, _, _ in held) >= _ROWS_PER_WRITE:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(held: list[_Piece]) -> _Piece:
    rows = range(held[0][0].start, held[-1][0].stop)
    tables = pd.concat([table for _, _, table in held], ignore_index=True)
    return rows, np.concatenate([images for _, images, _ in held]), tables


def _count_reasons(skipped: pd.DataFrame) -> dict[str, int]:
    return {str(reason): int(n) for reason, n in skipped["reason"].value_counts().items()}
