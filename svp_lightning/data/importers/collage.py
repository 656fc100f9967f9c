"""Bare collages, pictures of many particles without a table, into a store.

Every picture below the root is split into its tiles (:mod:`svp_lightning.data.importers.tiles`).
A particle's id is ``<picture>/<number>``, numbers counting tiles in reading order from 1;
pages of one run (``run_000001.tif``, ``run_000002.tif``) share the group ``run``. Labels come
from a CSV with the columns ``id,label``; sizes are not known beyond those of the tiles.
"""

import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from svp_lightning.data.importers.cutting import picture_sizes
from svp_lightning.data.importers.images import SUFFIXES, digest_of
from svp_lightning.data.importers.runs import Runs, gather, plan_runs, run_names
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.tiles import find_tiles, read_collage
from svp_lightning.data.importers.writer import Plan
from svp_lightning.data.settings import CollageSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import visible_files


def plan_collage(settings: CollageSettings, left_out: Collection[Path] = ()) -> Plan:
    """Split all collages and decide what the store will hold.

    Args:
        settings: see there.
        left_out: folders below the root that are none of the user's data.

    Raises:
        DataError: naming the picture that is wrong.
    """
    skips = Skips(settings.unreadable)
    files = _pictures(settings.root, left_out)
    groups = _groups(settings.root, files)
    particles, _ = gather(
        files,
        settings,
        lambda file, name: _read_page(file, name, settings, skips).assign(group=groups[file]),
        skips,
    )
    return plan_runs(Runs(particles, read=read_collage), settings, skips)


def _pictures(root: Path, left_out: Collection[Path]) -> list[Path]:
    if root.is_file():
        return [root]
    files = sorted(p for p in visible_files(root, left_out) if p.suffix.lower() in SUFFIXES)
    files = [file for file in files if not re.match(r"(cal_image|rawfile)_|.*_bin$", file.stem)]
    if not files:
        raise DataError(
            f"{root} holds no collages.", "Give a picture (PNG, TIFF, JPEG, BMP) or a folder."
        )
    return files


def _groups(root: Path, files: list[Path]) -> dict[Path, str]:
    """Page -> its run: pages of one folder whose names differ in number or suffix alone."""
    run_of = {file: (file.parent, re.sub(r"_\d+$", "", file.stem)) for file in files}
    runs = {run: file.with_name(run[1] + file.suffix) for file, run in run_of.items()}
    names = dict(zip(runs, run_names(root, list(runs.values())), strict=True))
    return {file: names[run] for file, run in run_of.items()}


def _read_page(file: Path, name: str, settings: CollageSettings, skips: Skips) -> pd.DataFrame:
    """One row per tile; annotations are left out of any import, and listed."""
    root = settings.root if settings.root.is_dir() else settings.root.parent
    size = picture_sizes([file], root, 1, decode=False)[str(file)]
    if isinstance(size, DataError):
        raise size
    page = read_collage(file)
    tiles = find_tiles(page, file)
    for (x, y, w, h), reason in tiles.left_out:
        skips.note(f"{file.name}, {w} x {h} px at x {x}, y {y}", reason)
    table = pd.DataFrame(tiles.boxes, columns=list("xywh"))
    numbers = range(1, len(table) + 1)
    return table.assign(
        id=[f"{name}/{number:06d}" for number in numbers],
        particle_id=list(numbers),
        picture=str(file),
        content=digest_of(page.grey),
        pixel_size_um=settings.pixel_size_um,
    )
