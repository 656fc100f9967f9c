"""What the imports of instrument runs share: from one table per run to the plan of a store.

An importer lists run files, reads each into a table, and says what it adds to all of them. Every
table has a row per particle with ``id``, ``particle_id``, ``group`` (the run), ``picture``
(path as text) and the box ``x, y, w, h`` in it, ``pixel_size_um``, and whatever else is kept.
``content``, if it is there, is equal where pictures are, however they are stored; without it
equal files are equal pictures. Tables of libraries have a ``run`` of their own, as their groups
are something else.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from svp_lightning.data.importers.labels import (
    class_names,
    labels_from_table,
    refuse_single_class,
)
from svp_lightning.data.importers.pictures import BOX, Measure, Pictures, ReadPage, cut
from svp_lightning.data.importers.repeats import relative_name, without_repeats
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.writer import Plan
from svp_lightning.data.settings import RunSettings
from svp_lightning.data.splits import assign_splits
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import visible_files

_COLUMNS = ["id", "particle_id", "group", "picture", *BOX, "pixel_size_um"]
_PIXEL_TOLERANCE = 0.005
"""Calibrations that differ by less (relative) are one instrument setting."""


class RunFacts(BaseModel):
    """What the manifest says of a run (``made_by["runs"][run]``); importers may add more.

    Attributes:
        particles: imported.
        particles_lost: listed, but left out: counts are too low by these.
        volume_ml: of the sample that was imaged, so that particles / volume_ml is its
            concentration, any dilution counted in; None where it is unknown or withheld.
        withheld: why no concentration may be given, if so.
        dilution: factor by which the sample was diluted before it was imaged, where known.
        pixel_size_um: calibration, µm/px, if its particles share one.
        notes: sentences that a user should read.
    """

    model_config = ConfigDict(extra="allow")

    particles: int = 0
    particles_lost: int = 0
    volume_ml: float | None = None
    withheld: str | None = None
    dilution: float | None = None
    pixel_size_um: float | None = None
    notes: list[str] = []


Facts = dict[str, dict[str, Any]]
"""Run -> what its facts are besides its counts."""


@dataclass(frozen=True)
class Found:
    """What an importer makes of the particles of all runs.

    Attributes:
        particles: with all columns, as they will be stored.
        facts: of the runs, where it knows any.
        read: gives a picture as 8 bit; called from several threads.
        measure: further columns of one picture's particles, from their rows and tiles.
        made_by: for the manifest.
    """

    particles: pd.DataFrame
    read: ReadPage
    facts: Facts = field(default_factory=dict)
    measure: Measure | None = None
    made_by: dict[str, Any] = field(default_factory=dict)


def plan_runs(
    files: list[Path],
    read_run: Callable[[Path, str], pd.DataFrame],
    complete: Callable[[pd.DataFrame], Found],
    settings: RunSettings,
    pictures: Pictures,
    skips: Skips,
) -> Plan:
    """Read, check, label and split the particles of all runs, and lay out the store.

    Each particle comes in once. A run whose table has no rows is one: a blank. Runs that cannot
    be split (one run only, one class, no labels) are imported all the same, without splits;
    ``not_split`` in the manifest says why, and training refuses them.

    Args:
        files: of the runs.
        read_run: gives the table of a run from its file and name.
        complete: called with the particles that can be cut.
        settings: of the import.
        pictures: those of the runs.
        skips: what is left out.

    Raises:
        DataError: a run cannot be read or is a copy (unless skipped), no run is left, or the
            labels do not fit the particles.
    """
    names = dict(zip(files, run_names(settings.root, files), strict=True))
    tables, lost = _read_all(names, settings.root, read_run, skips)
    blank = {file: tables.pop(file) for file in list(tables) if tables[file].empty}
    tables = without_repeats(tables, settings.root, settings.num_threads, skips)
    particles = _joined(list((tables or blank).values()))
    listed = Counter(_run_of(particles).tolist())
    particles = pictures.holding(particles, skips)
    if particles.empty and not blank:
        raise DataError(
            f"Nothing in {settings.root} could be imported.",
            "Set data.unreadable=refuse to see the first problem.",
        )
    held = Counter(_run_of(particles).tolist())
    for file, table in tables.items():
        listed[str(_run_of(table).iloc[0])] += lost[file]
    runs = sorted({*listed, *(names[file] for file in blank)})
    missing = {run: listed[run] - held[run] for run in runs}
    if "label" in particles:
        cells = particles["label"].astype(object)
        spelled = class_names(cells[cells.notna() & (cells != "")], settings.root)
        particles["label"] = [spelled.get(cell) for cell in cells] if settings.labelled else None
    found = complete(particles)
    particles = _labelled(found.particles.assign(origin="real"), settings, skips, missing)
    particles, why = _split(particles, settings)
    made_by = {
        "source": settings.source,
        "seed": settings.seed,
        "not_split": why,
        **found.made_by,
        "runs": _facts(listed, runs, particles, found.facts),
    }
    return Plan(
        particles=_for_store(particles),
        sides=particles[["w", "h"]].max(axis=1).to_numpy(np.int64),
        units=_units(particles["picture"]),
        read=lambda unit: cut(particles.iloc[unit.start : unit.stop], found.read, found.measure),
        settings=settings,
        pixel_size_um=_common(particles["pixel_size_um"]),
        made_by=made_by,
        skipped=skips.table(),
    )


def _read_all(
    names: dict[Path, str], root: Path, read_run: Callable[[Path, str], pd.DataFrame], skips: Skips
) -> tuple[dict[Path, pd.DataFrame], dict[Path, int]]:
    """Table of each run that can be read, and how many particles were left out of it."""
    tables, lost = {}, {}
    for file, name in names.items():
        before = skips.lost
        try:
            table = read_run(file, name)
            lost[file] = skips.lost - before
            if table.empty and lost[file]:
                raise DataError(
                    f"None of the {lost[file]} particles that {file} lists can be used.",
                    "Export the run again.",
                )
            tables[file] = table
        except DataError as error:
            skips.add(relative_name(root, file), "run cannot be read", error)
    return tables, lost


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    particles = pd.concat(tables or [pd.DataFrame()], ignore_index=True)
    particles = particles.reindex(columns=particles.columns.union(_COLUMNS, sort=False))
    particles = particles.drop(columns="content", errors="ignore")
    order = [str(_run_of(particles).name), "picture", "particle_id"]
    return particles.sort_values(order, ignore_index=True)


def _run_of(particles: pd.DataFrame) -> pd.Series:
    """The run of each particle: its group, unless groups are something else."""
    return particles["run" if "run" in particles else "group"]


def _labelled(
    particles: pd.DataFrame, settings: RunSettings, skips: Skips, lost: dict[str, int]
) -> pd.DataFrame:
    """With ``label``, the ``split`` given (or null), and ``run`` where groups are given instead."""
    particles = particles.assign(split=None)
    if not settings.labelled or ("label" not in particles and settings.labels is None):
        return particles.assign(label=None)
    if settings.labels is None:
        return particles
    folder = settings.root if settings.root.is_dir() else settings.root.parent
    given = labels_from_table(particles, folder / settings.labels, skips, lost)
    particles = particles.assign(label=given["label"], split=given["split"])
    run = particles["group"]
    group = given["group"].where(given["group"].notna(), run)
    return particles if group.equals(run) else particles.assign(run=run, group=group)


def _split(particles: pd.DataFrame, settings: RunSettings) -> tuple[pd.DataFrame, str | None]:
    """With the column ``split`` filled in, or empty and the reason why."""
    if settings.labelled:
        try:
            refuse_single_class(particles, settings.root)
            return assign_splits(particles, settings.fractions, settings.seed), None
        except DataError as error:
            return particles.assign(split=""), str(error)
    return particles.assign(split=""), None


def _facts(
    listed: Counter[str], runs: list[str], particles: pd.DataFrame, known: Facts
) -> dict[str, dict[str, Any]]:
    """Facts with counts and calibration, and without a volume where particles are lost."""
    run_of = _run_of(particles)
    imported = Counter(run_of.tolist())
    sizes = particles["pixel_size_um"].groupby(run_of)
    calibrations = {str(run): _common(of_run) for run, of_run in sizes}
    facts = {}
    for run in runs:
        lost, given = listed[run] - imported[run], known.get(run, {})
        reasons = [given.get("withheld"), f"{lost:,} particles could not be imported" * (lost > 0)]
        withheld = "; ".join(filter(None, reasons)) or None
        own = RunFacts.model_validate(given).model_copy(
            update={
                "particles": imported[run],
                "particles_lost": lost,
                "volume_ml": None if withheld else given.get("volume_ml"),
                "withheld": withheld,
                "pixel_size_um": calibrations.get(run),
            }
        )
        facts[run] = own.model_dump()
    return facts


def run_files(
    root: Path,
    left_out: Collection[Path],
    suffixes: Collection[str],
    is_run: Callable[[Path], bool],
    skips: Skips,
) -> list[Path]:
    """Files below ``root`` that are runs, of those of these suffixes, sorted.

    One that may not be read is refused, or listed as left out.

    Raises:
        DataError: ``root`` is no folder.
    """
    if not root.is_dir():
        raise DataError(f"data.root={root} is not a folder.", "Give a run folder, or one of runs.")
    found = []
    for file in sorted(visible_files(root, left_out)):
        try:
            if file.suffix.lower() in suffixes and is_run(file):
                found.append(file)
        except DataError as error:
            skips.add(file.name, "file cannot be read", error, particle_lost=False)
    return found


def run_names(root: Path, files: list[Path]) -> list[str]:
    """One name per run file: its stem, with its folder (and then its suffix) where these repeat."""
    names = [file.stem for file in files]
    paths = [relative_name(root, file) for file in files]
    bare = [relative_name(root, file.with_suffix("")) for file in files]
    for longer in (bare, paths, paths):
        times = Counter(names)
        names = [n if times[n] == 1 else long for n, long in zip(names, longer, strict=True)]
    return names


def _for_store(particles: pd.DataFrame) -> pd.DataFrame:
    source = [Path(name).name for name in particles["picture"]]
    boxes = {name: f"box_{name}_px" for name in BOX}
    return particles.assign(source=source).drop(columns="picture").rename(columns=boxes)


def _units(pictures: pd.Series) -> list[range]:
    changed = (pictures != pictures.shift()).to_numpy()
    starts = [*np.flatnonzero(changed).tolist(), len(pictures)]
    return [range(a, b) for a, b in pairwise(starts)]


def _common(pixel_sizes: pd.Series) -> float | None:
    """The calibration all particles share, or None."""
    sizes = pixel_sizes.astype(float)
    if sizes.empty or sizes.isna().any() or np.ptp(sizes) > _PIXEL_TOLERANCE * sizes.min():
        return None
    return float(sizes.median())
