"""Class names, and labels, groups and splits that a CSV gives to particles by their id."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.data.classes import PAPER_CLASSES, checked_class_name
from svp_lightning.data.importers.tables import Skips, Table, columns_named, read_table
from svp_lightning.errors import DataError

SPLIT_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation"), "val")
GROUP_SYNONYMS = {"vial": "group", "sample": "group", "run": "group"}
"""Columns that name the group where no column ``group`` does, the coarsest first."""
_COLUMNS = ("id", "run", "particle_id", "label", "group", "split")
_SYNONYMS = {"class": "label", "filename": "id", "path": "id"} | GROUP_SYNONYMS


def class_name(given: str) -> str:
    """``" Silicone Oil"`` -> ``"silicone_oil"``: lower case, words joined by underscores.

    Raises:
        DataError: nothing is left of the name, or too much.
    """
    try:
        return checked_class_name(re.sub(r"\W+", "_", _written(given)).strip("_"))
    except ValueError as error:
        remedy = "Name classes with letters or digits, at most 100."
        raise DataError(f"{given[:100]!r} is no class name.", remedy) from error


def class_names(given: Iterable[str], where: object) -> dict[str, str]:
    """The class name of every spelling in ``given``; ``where`` (folder, table) is for the message.

    Spellings that differ in case, blanks, hyphens or underscores are one class.

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


def refuse_single_class(particles: pd.DataFrame, where: Path) -> None:
    """Refuse fewer than two classes: there is nothing to tell apart."""
    names = sorted(particles["label"].dropna().unique())
    if len(names) < 2:
        raise DataError(
            f"{where} holds {'one class only: ' + names[0] if names else 'no labelled images'}.",
            "Give two classes or more, or set data.labelled=false to predict.",
        )


def labels_from_table(
    particles: pd.DataFrame, file: Path, skips: Skips, lost: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Labels from a CSV with ``id,label`` (``filename,class``) or ``run,particle_id,label``.

    ``run`` may lack where there is only one; ``1``, ``1.0`` and ``000001`` are the same
    ``particle_id``. Particles the CSV does not list, or lists with an empty label, stay
    unlabelled. ``group`` (or ``vial``, ``sample``; where particles are named by ``id``, ``run``)
    and ``split`` are optional.

    Args:
        particles: with ``id``, and ``group`` (the run) and ``particle_id`` where they have one.
        file: the CSV.
        skips: where labels of particles that are not there go, and rows that are too long. Where
            they name more particles of a run than were left out of it, its list may have been
            renumbered, and all labels of that run go.
        lost: run -> particles that were left out of it.

    Returns:
        A row per particle: ``label``, ``group`` and ``split``, each null where it is not given.

    Raises:
        DataError: a column is missing, a split has no such name, or a row names no particle.
    """
    column = columns_named((*_COLUMNS, *_SYNONYMS))
    table = read_table(file, column, skips, pad=True, of_particles=False)
    numbered = "particle_id" in particles
    by_id = not numbered or any(name in table.rows for name in ("id", "filename", "path"))
    table = table.with_synonyms({k: v for k, v in _SYNONYMS.items() if by_id or k != "run"})
    key, rows = ["id"] if by_id else ["run", "particle_id"], table.rows
    if not by_id:
        particles = particles.assign(run=particles["group"])
        if "run" not in rows and len(particles["run"].unique()) == 1:
            rows["run"] = particles["run"].iloc[0]
        if particles.duplicated(key).any():
            raise DataError(
                f"{file}: particle numbers occur more than once in a run here.",
                "Name particles by the column id; task=ingest data.labels=null writes the ids.",
            )
    table.require((*key, "label"))
    if not by_id:  # "000001" and "1.0" are 1: spreadsheets write whole numbers in many ways
        rows["particle_id"] = rows["particle_id"].str.replace(
            r"^0*(0|[1-9][0-9]*)(?:[.,]0*)?$", r"\1", regex=True
        )
    known = _names(particles[key].astype(str))
    if by_id:  # on Windows, paths have backslashes
        slashed = rows["id"].str.replace("\\", "/", regex=False)
        rows["id"] = rows["id"].where(rows["id"].isin(known), slashed)
    given, error = _given(table, key, known)
    strangers = sorted(set(given.index) - set(known))
    for stranger in strangers:
        skips.add(stranger, "labelled, but not imported", error, particle_lost=False)
    found = given.reindex(known).reset_index(drop=True).astype(object)
    found = found.where(found.notna(), None)
    if numbered and strangers:
        run_of = particles["run" if "run" in particles else "group"]
        doubtful = run_of.isin(_renumbered(strangers, run_of, lost or {})).to_numpy()
        for row in np.flatnonzero(doubtful & found["label"].notna().to_numpy()).tolist():
            reason = "label of a run whose labels name particles that it lacks"
            skips.add(known[row], reason, error, particle_lost=False)
        found[doubtful] = None
    return found


def _names(keys: pd.DataFrame) -> list[str]:
    return ["/".join(key) for key in keys.itertuples(index=False, name=None)]


def _given(table: Table, key: list[str], known: list[str]) -> tuple[pd.DataFrame, DataError]:
    """What a table gives to particles, by name, and what to say of those that are not known."""
    named = replace(table, rows=table.rows[table.rows["label"] != ""])
    for name in key:
        named.refuse_empty(name)
    table.refuse_repeats(*key)
    rows = named.rows
    names = _names(rows[key])
    strangers = sorted(set(names) - set(known))
    error = DataError(
        f"{table.path} labels {len(strangers)} particles that were not found (first: "
        f"{next(iter(strangers), '')}); those found are named like {', '.join(known[:2])}.",
        "Name particles as the importer does (task=ingest data.labels=null lists the ids).",
    )
    given = pd.DataFrame(index=rows.index, columns=["label", "group", "split"], dtype=object)
    given["label"] = rows["label"].map(class_names(rows["label"], table.path))
    if "group" in rows:
        given["group"] = rows["group"].where(rows["group"] != "")
    given["split"] = splits_given(named)
    return given.set_axis(names), error


def _renumbered(strangers: list[str], run_of: pd.Series, lost: Mapping[str, int]) -> set[str]:
    """Runs of which labels name more particles that are not there than were left out."""
    runs = sorted(run_of.unique(), key=len, reverse=True)  # a/b before a
    missing = Counter(
        next((run for run in runs if name.startswith(f"{run}/")), None) for name in strangers
    )
    return {run for run in runs if missing[run] > lost.get(run, 0)}


def splits_given(table: Table) -> list[str] | None:
    """The column ``split`` under its canonical names; None where it is missing or empty.

    Raises:
        DataError: a row has no split where others have one, or one of another name.
    """
    if "split" not in table.rows or (table.rows["split"] == "").all():
        return None
    given = table.rows["split"]
    names = given.str.lower().map(SPLIT_NAMES)
    for row in names.index[names.isna()]:
        raise DataError(
            f"{table.path}, row {row}: the split is {given[row]!r}.",
            "Use train, val and test in every row, or leave the column out.",
        )
    return names.tolist()
