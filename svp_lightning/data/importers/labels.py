"""Class names, labels from a CSV, and splits: what a particle is and where it goes.

Labels, groups and splits of a CSV join particles by their id. Splits that a user gave are kept and
checked; others are made by group.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.data.importers.tables import (
    Skips,
    read_rows,
    refuse_empty,
    refuse_repeats,
    require_columns,
    with_canonical_names,
)
from svp_lightning.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
GROUP_SYNONYMS = {"vial": "group", "sample": "group", "run": "group"}
"""Columns that name the group where no column ``group`` does, the coarsest first."""
_COLUMNS = ("id", "run", "particle_id", "label", "group", "split")
_SYNONYMS = {"class": "label", "filename": "id", "path": "id"}
_GIVEN = ["label", "group", "split"]


def class_name(given: str) -> str:
    """``" Silicone Oil"`` -> ``"silicone_oil"``: lower case, words joined by underscores.

    Raises:
        DataError: nothing is left of the name.
    """
    name = re.sub(r"\W+", "_", _written(given)).strip("_")
    if not name:
        raise DataError(f"{given!r} is no class name.", "Name classes with letters or digits.")
    return name


def class_names(given: Iterable[str], where: object) -> dict[str, str]:
    """The class name of every spelling in ``given``.

    Spellings that differ in case, blanks, hyphens or underscores are one class.

    Args:
        given: class names as folders or tables spell them; repeats are fine.
        where: the folder or table, for the message.

    Raises:
        DataError: two spellings that differ in more (``protein+``, ``protein-``) would become
            one class, or nothing is left of a name.
    """
    names: dict[str, str] = {}
    first: dict[str, str] = {}
    for spelling in dict.fromkeys(given):
        names[spelling] = name = class_name(spelling)
        other = first.setdefault(name, spelling)
        if _plain(spelling) != _plain(other):
            raise DataError(
                f"{where} names the classes {other!r} and {spelling!r}, which would both "
                f"become {name}.",
                "Rename one so that they differ in letters or digits, or both to the same.",
            )
    return names


def _written(given: str) -> str:
    # Systems store an accented letter as one character or as two.
    return unicodedata.normalize("NFC", given.strip().lower())


def _plain(given: str) -> str:
    return re.sub(r"[\s_\u2010-\u2015-]+", " ", _written(given)).strip()


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: the paper's classes in its order, then the others by alphabet."""
    present = set(names)
    known = [name for name in PAPER_CLASSES if name in present]
    return (*known, *sorted(present - set(known)))


def labels_from_table(
    particles: pd.DataFrame, table: Path, skips: Skips, lost: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Labels from a CSV with ``id,label`` (``filename,class``) or ``run,particle_id,label``.

    ``run`` may lack where there is only one; ``1``, ``1.0`` and ``000001`` are the same
    ``particle_id``. Particles the CSV does not list, or lists with an empty label, stay
    unlabelled. ``group`` (or ``vial``, ``sample``; where particles are named by ``id``, ``run``)
    and ``split`` are optional.

    Args:
        particles: with ``id``, and ``group`` (the run) and ``particle_id`` where they have one.
        table: the CSV.
        skips: where labels of particles that are not there go, and rows that are too long. Where
            they name more particles of a run than were left out of it, its list may have been
            renumbered, and all labels of that run go.
        lost: run -> particles that were left out of it.

    Returns:
        A row per particle: ``label``, ``group`` and ``split``, each null where it is not given.

    Raises:
        DataError: a column is missing, a split has no such name, or a row names no particle.
    """
    rows = read_rows(table, skips=skips, pad=True, of_particles=False)
    of_ids = ("id", "filename", "path")
    by_id = any(str(n).lower() in of_ids for n in rows) or "particle_id" not in particles
    groups = {k: v for k, v in GROUP_SYNONYMS.items() if by_id or k != "run"}
    rows = with_canonical_names(table, rows, _COLUMNS, _SYNONYMS | groups)
    run_of = particles.get("run", particles["group"]) if "particle_id" in particles else None
    if by_id:
        names = [(name,) for name in particles["id"]]
        return _joined(table, rows, ["id"], names, skips, run_of, lost or {})
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
    return _joined(table, rows, ["run", "particle_id"], known, skips, run_of, lost or {})


def _joined(
    table: Path,
    rows: pd.DataFrame,
    columns: list[str],
    known: Sequence[tuple[str, ...]],
    skips: Skips,
    run_of: pd.Series | None,
    lost: Mapping[str, int],
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
        skips.add("/".join(key), "labelled, but not imported", error, particle_lost=False)
    names = class_names(rows["label"], table)
    given = pd.DataFrame(index=rows.index, columns=_GIVEN, dtype=object)
    given["label"] = rows["label"].map(names)
    if "group" in rows:
        given["group"] = rows["group"].where(rows["group"] != "")
    given["split"] = splits_given(table, rows)
    of_key = dict(zip(keys, given.itertuples(index=False, name=None), strict=True))
    nothing = (None,) * len(_GIVEN)
    found = pd.DataFrame([of_key.get(key, nothing) for key in known], columns=_GIVEN, dtype=object)
    if run_of is not None and strangers:
        doubtful = run_of.isin(_renumbered(strangers, run_of, lost)).to_numpy()
        for row in np.flatnonzero(doubtful & found["label"].notna().to_numpy()).tolist():
            reason = "label of a run whose labels name particles that it lacks"
            skips.add("/".join(known[row]), reason, error, particle_lost=False)
        found[doubtful] = None
    return found.where(found.notna(), None)


def _renumbered(
    strangers: list[tuple[str, ...]], run_of: pd.Series, lost: Mapping[str, int]
) -> set[str]:
    """Runs of which labels name more particles that are not there than were left out."""
    runs = sorted(run_of.unique(), key=len, reverse=True)  # a/b before a
    named = ("/".join(key) for key in strangers)
    missing = Counter(
        next((run for run in runs if name.startswith(f"{run}/")), None) for name in named
    )
    return {run for run in runs if missing[run] > lost.get(run, 0)}


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


def refuse_single_class(particles: pd.DataFrame, where: Path) -> None:
    """Refuse fewer than two classes: there is nothing to tell apart."""
    names = sorted(particles["label"].dropna().unique())
    if len(names) < 2:
        raise DataError(
            f"{where} holds {'one class only: ' + names[0] if names else 'no labelled images'}.",
            "Give two classes or more, or set data.labelled=false to predict.",
        )
