"""Bare collages, pictures of many particles without a table, into a store.

Every picture below the root is split into its tiles (:mod:`svp_lightning.data.ingest.tiles`).
A particle's id is ``<picture>/<number>``, numbers counting tiles in reading order from 1;
pages of one run (``run_000001.tif``, ``run_000002.tif``) share the group ``run``. Labels come
from a CSV with the columns ``id,label``; sizes are not known beyond those of the tiles.
"""

import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from svp_lightning.data.ingest.cutting import picture_sizes
from svp_lightning.data.ingest.pictures import SUFFIXES
from svp_lightning.data.ingest.runs import Runs, gather, plan_runs
from svp_lightning.data.ingest.skips import Skips
from svp_lightning.data.ingest.tiles import find_tiles, read_collage
from svp_lightning.data.ingest.walking import files_below
from svp_lightning.data.ingest.writing import Plan, Progress, write_plan
from svp_lightning.data.settings import CollageSettings
from svp_lightning.errors import DataError


def ingest_collage(
    path: Path, settings: CollageSettings, progress: Progress, left_out: Collection[Path] = ()
) -> None:
    """Write the store at ``path`` from the collages below ``settings.root``.

    Args:
        path: where to write.
        settings: see there.
        progress: called with the number of images just written.
        left_out: folders below the root that are none of the user's data.

    Raises:
        DataError: naming the picture that is wrong; nothing is left at ``path``.
    """
    write_plan(path, plan_collage(settings, left_out), settings.num_threads, progress)


def plan_collage(settings: CollageSettings, left_out: Collection[Path] = ()) -> Plan:
    """Split all collages and decide what the store will hold; see :func:`ingest_collage`."""
    skips = Skips(settings.unreadable)
    # Annotations are left out of any import, and listed.
    annotations = Skips("skip")
    particles, _ = gather(
        _pictures(settings.root, left_out),
        settings,
        lambda file, name: _read_page(file, name, settings, annotations),
        skips,
    )
    found = Runs(particles, read=read_collage)
    return plan_runs(found, settings, skips, annotations)


def _pictures(root: Path, left_out: Collection[Path]) -> list[Path]:
    if root.is_file():
        return [root]
    files = sorted(p for p in files_below(root, left_out) if p.suffix.lower() in SUFFIXES)
    files = [file for file in files if not re.match(r"(cal_image|rawfile)_|.*_bin$", file.stem)]
    if not files:
        raise DataError(
            f"{root} holds no collages.", "Give a picture (PNG, TIFF, JPEG, BMP) or a folder."
        )
    return files


def _read_page(
    file: Path, name: str, settings: CollageSettings, annotations: Skips
) -> pd.DataFrame:
    """One row per tile."""
    root = settings.root if settings.root.is_dir() else settings.root.parent
    size = picture_sizes([file], root, 1, decode=False)[str(file)]
    if isinstance(size, DataError):
        raise size
    tiles = find_tiles(read_collage(file), file)
    for (x, y, w, h), reason in tiles.left_out:
        where = f"{file.name}, {w} x {h} px at x {x}, y {y}"
        annotations.add(where, reason, DataError(where, reason))
    table = pd.DataFrame(tiles.boxes, columns=list("xywh"))
    numbers = range(1, len(table) + 1)
    return table.assign(
        id=[f"{name}/{number:06d}" for number in numbers],
        particle_id=list(numbers),
        group=re.sub(r"_\d+$", "", name),
        picture=str(file),
        pixel_size_um=settings.pixel_size_um,
    )
