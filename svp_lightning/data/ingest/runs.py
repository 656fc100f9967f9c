"""What FlowCam and MFI imports share: labels by particle, splits by run, the final plan."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from svp_lightning.data.ingest.framing import automatic_size
from svp_lightning.data.ingest.naming import class_name, ordered
from svp_lightning.data.ingest.splitting import assign_splits, refuse_single_class
from svp_lightning.data.ingest.tables import read_rows, refuse_repeats, require_columns
from svp_lightning.data.ingest.writing import Cut, Plan
from svp_lightning.data.settings import FlowCamSettings, MfiSettings
from svp_lightning.errors import DataError

_PIXEL_TOLERANCE = 0.005
"""Calibrations that differ by less (relative) are one instrument setting."""


def label_from_table(particles: pd.DataFrame, table: Path) -> list[str | None]:
    """Labels from a CSV with the columns ``run,particle_id,label`` (``run`` if several).

    Args:
        particles: with ``group`` (the run) and ``particle_id``.
        table: the CSV; particles it does not list stay unlabelled.

    Raises:
        DataError: a column is missing, or a row names no particle of these runs.
    """
    rows = read_rows(table).rename(columns=str.lower)
    runs = particles["group"].unique()
    if "run" not in rows and len(runs) == 1:
        rows["run"] = runs[0]
    require_columns(table, rows, ("run", "particle_id", "label"))
    refuse_repeats(table, rows, "run", "particle_id")
    rows = rows[rows["label"] != ""]
    keys = list(zip(rows["run"], rows["particle_id"], strict=True))
    known = list(zip(particles["group"], particles["particle_id"].astype(str), strict=True))
    if strangers := set(keys) - set(known):
        run, particle = min(strangers)
        raise DataError(
            f"{table}: run {run!r} has no particle {particle}; the runs found are "
            f"{', '.join(map(repr, sorted(runs)[:5]))}.",
            "Name runs as the importer does, and particles by their number in the run.",
        )
    labels = dict(zip(keys, map(class_name, rows["label"]), strict=True))
    return [labels.get(key) for key in known]


def plan_runs(
    particles: pd.DataFrame,
    read: Callable[[range], Cut],
    unit_columns: list[str],
    settings: FlowCamSettings | MfiSettings,
    sides_px: pd.Series,
    made_by: dict[str, Any],
) -> Plan:
    """Split by run and lay out the store.

    Args:
        particles: one row per particle with ``group`` (the run), ``label``, ``pixel_size_um``,
            sorted by ``unit_columns``.
        read: reads one unit.
        unit_columns: rows that agree in these are read in one go.
        settings: of the import.
        sides_px: larger side of each particle's crop.
        made_by: for the manifest.
    """
    particles = particles.assign(origin="real", split=None)
    if settings.labelled:
        refuse_single_class(particles, settings.root)
        particles = assign_splits(particles, settings.fractions, settings.seed)
    else:
        particles = particles.assign(label=None, split="")
    return Plan(
        particles=particles,
        units=_units(particles[unit_columns]),
        read=read,
        image_size=settings.image_size or automatic_size(sides_px.to_numpy(np.int64)),
        background=settings.background,
        class_names=ordered(particles["label"].dropna()),
        pixel_size_um=_common(particles["pixel_size_um"]),
        made_by={"source": settings.source, "seed": settings.seed, **made_by},
        skipped=pd.DataFrame(columns=["file", "reason"]),
    )


def run_names(root: Path, files: list[Path]) -> list[str]:
    """One name per run file: its stem, with its folder where stems repeat."""
    stems = [file.stem for file in files]
    return [
        file.stem
        if stems.count(file.stem) == 1
        else file.relative_to(root).with_suffix("").as_posix()
        for file in files
    ]


def _units(keys: pd.DataFrame) -> list[range]:
    changed = (keys != keys.shift()).any(axis=1).to_numpy()
    starts = [*np.flatnonzero(changed).tolist(), len(keys)]
    return [range(a, b) for a, b in pairwise(starts)]


def _common(pixel_sizes: pd.Series) -> float | None:
    """The calibration all particles share, or None."""
    known = pixel_sizes.dropna()
    if len(known) < len(pixel_sizes) or np.ptp(known) > _PIXEL_TOLERANCE * known.min():
        return None
    return float(known.median())
