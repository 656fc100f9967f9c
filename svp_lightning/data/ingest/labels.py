"""Labels from a CSV, joined to particles by their id."""

import re
from pathlib import Path

import pandas as pd

from svp_lightning.data.ingest.naming import class_names
from svp_lightning.data.ingest.skips import Skips
from svp_lightning.data.ingest.tables import (
    read_rows,
    refuse_empty,
    refuse_repeats,
    require_columns,
    with_canonical_names,
)
from svp_lightning.errors import DataError

_COLUMNS = ("id", "run", "particle_id", "label")
_SYNONYMS = {"class": "label"}


def label_from_table(particles: pd.DataFrame, table: Path, skips: Skips) -> list[str | None]:
    """Labels from a CSV with the columns ``id,label`` or ``run,particle_id,label``.

    ``run`` may lack where there is only one; ``1``, ``1.0`` and ``000001`` are the same
    ``particle_id``. Particles the CSV does not list, or lists with an empty label, stay
    unlabelled.

    Args:
        particles: with ``id``, and ``group`` (the run) and ``particle_id`` where they have one.
        table: the CSV.
        skips: where labels of particles that are not there go, and rows that are too long.

    Raises:
        DataError: a column is missing, or a row names no particle.
    """
    rows = with_canonical_names(table, read_rows(table, skips=skips, pad=True), _COLUMNS, _SYNONYMS)
    if "id" in rows or "particle_id" not in particles:
        return _joined(table, rows, ["id"], [(name,) for name in particles["id"]], skips)
    runs = particles["group"].unique()
    if "run" not in rows and len(runs) == 1:
        rows["run"] = runs[0]
    require_columns(table, rows, ("run", "particle_id", "label"))
    rows["particle_id"] = rows["particle_id"].map(_whole)
    known: list[tuple[str, ...]] = list(
        zip(particles["group"], particles["particle_id"].astype(str), strict=True)
    )
    if len(set(known)) < len(known):
        raise DataError(
            f"{table}: particle numbers occur more than once in a run here.",
            "Name particles by the column id; task=ingest data.labels=null writes the ids.",
        )
    return _joined(table, rows, ["run", "particle_id"], known, skips)


def _joined(
    table: Path,
    rows: pd.DataFrame,
    columns: list[str],
    known: list[tuple[str, ...]],
    skips: Skips,
) -> list[str | None]:
    require_columns(table, rows, (*columns, "label"))
    for name in columns:
        refuse_empty(table, rows[rows["label"] != ""], name)
    refuse_repeats(table, rows, *columns)
    rows = rows[rows["label"] != ""]
    keys = list(rows[columns].itertuples(index=False, name=None))
    strangers = sorted(set(keys) - set(known))
    for key in strangers:
        examples = ", ".join(map("/".join, known[:2]))
        error = DataError(
            f"{table} labels {len(strangers)} particles that were not found (first: "
            f"{'/'.join(key)}); those found are named like {examples}.",
            "Name particles as the importer does (task=ingest data.labels=null lists the ids).",
        )
        skips.add("/".join(key), "labelled, but not imported", error)
    names = class_names(rows["label"], table)
    labels = dict(zip(keys, map(names.get, rows["label"]), strict=True))
    return [labels.get(key) for key in known]


def _whole(cell: str) -> str:
    """``"000001"`` and ``"1.0"`` -> ``"1"``: spreadsheets write whole numbers in many ways."""
    match = re.fullmatch(r"0*(\d+)(?:[.,]0*)?", cell, re.ASCII)
    return match[1] if match else cell
