"""Labels from a CSV, and groups and splits beside them, joined to particles by their id."""

import re
from pathlib import Path

import pandas as pd

from svp_lightning.data.importers.naming import SPLIT_NAMES, class_names
from svp_lightning.data.importers.skips import Skips
from svp_lightning.data.importers.tables import (
    read_rows,
    refuse_empty,
    refuse_repeats,
    require_columns,
    with_canonical_names,
)
from svp_lightning.errors import DataError

GROUP_SYNONYMS = {"vial": "group", "sample": "group", "run": "group"}
"""Columns that name the group where no column ``group`` does, the coarsest first."""
_COLUMNS = ("id", "run", "particle_id", "label", "group", "split")
_SYNONYMS = {"class": "label"}
_GIVEN = ["label", "group", "split"]


def labels_from_table(particles: pd.DataFrame, table: Path, skips: Skips) -> pd.DataFrame:
    """Labels from a CSV with the columns ``id,label`` or ``run,particle_id,label``.

    ``run`` may lack where there is only one; ``1``, ``1.0`` and ``000001`` are the same
    ``particle_id``. Particles the CSV does not list, or lists with an empty label, stay
    unlabelled. ``group`` (or ``vial``, ``sample``; where particles are named by ``id``, ``run``)
    and ``split`` are optional.

    Args:
        particles: with ``id``, and ``group`` (the run) and ``particle_id`` where they have one.
        table: the CSV.
        skips: where labels of particles that are not there go, and rows that are too long.

    Returns:
        A row per particle: ``label``, ``group`` and ``split``, each null where it is not given.

    Raises:
        DataError: a column is missing, a split has no such name, or a row names no particle.
    """
    rows = read_rows(table, skips=skips, pad=True)
    by_id = any(str(name).lower() == "id" for name in rows) or "particle_id" not in particles
    groups = {k: v for k, v in GROUP_SYNONYMS.items() if by_id or k != "run"}
    rows = with_canonical_names(table, rows, _COLUMNS, _SYNONYMS | groups)
    if by_id:
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
) -> pd.DataFrame:
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
    given = pd.DataFrame(index=rows.index, columns=_GIVEN, dtype=object)
    given["label"] = rows["label"].map(names)
    if "group" in rows:
        given["group"] = rows["group"].where(rows["group"] != "")
    given["split"] = splits_given(table, rows)
    of_key = dict(zip(keys, given.itertuples(index=False, name=None), strict=True))
    nothing = (None,) * len(_GIVEN)
    found = pd.DataFrame([of_key.get(key, nothing) for key in known], columns=_GIVEN, dtype=object)
    return found.where(found.notna(), None)


def splits_given(table: Path, rows: pd.DataFrame) -> list[str] | None:
    """The column ``split`` under its canonical names; None where it is missing or empty.

    Raises:
        DataError: a row has no split where others have one, or one of another name.
    """
    if "split" not in rows or (rows["split"] == "").all():
        return None
    names = rows["split"].str.lower().map(SPLIT_NAMES)
    if names.isna().any():
        number = names.index[int(names.isna().to_numpy().argmax())]
        raise DataError(
            f"{table}, row {number}: the split is {rows['split'][number]!r}.",
            "Use train, val and test in every row, or leave the column out.",
        )
    return names.tolist()


def _whole(cell: str) -> str:
    """``"000001"`` and ``"1.0"`` -> ``"1"``: spreadsheets write whole numbers in many ways."""
    match = re.fullmatch(r"0*(\d+)(?:[.,]0*)?", cell, re.ASCII)
    return match[1] if match else cell
