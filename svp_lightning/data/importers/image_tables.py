"""A CSV that lists images, with their labels and whatever else is known of them."""

import os
from pathlib import Path

import pandas as pd

from svp_lightning.data.importers.cells import numbers
from svp_lightning.data.importers.labels import GROUP_SYNONYMS, splits_given
from svp_lightning.data.importers.naming import class_names
from svp_lightning.data.importers.skips import Skips
from svp_lightning.data.importers.tables import (
    read_rows,
    refuse_empty,
    refuse_repeats,
    require_columns,
    with_canonical_names,
)
from svp_lightning.errors import DataError

_IMAGE_COLUMNS = ("path", "label", "group", "split", "id", "ecd_um", "label_confidence")
_SYNONYMS = {"class": "label", "particle_id": "id", "size_um": "ecd_um"} | GROUP_SYNONYMS


def list_table(table: Path, root: Path, labelled: bool, skips: Skips) -> pd.DataFrame:
    """Images listed by a CSV with the columns ``path`` and ``label`` (if ``labelled``).

    Optional: ``id``, ``group`` (or ``vial``, ``sample``, ``run``), ``split``, ``ecd_um``,
    ``label_confidence``. Paths are relative to the CSV.

    Args:
        table: the CSV.
        root: the folder that must hold all images.
        labelled: whether every row needs a label; if not, none is read.
        skips: where rows go whose picture is missing, or that are too long.

    Returns:
        A listing (see :mod:`svp_lightning.data.importers.listing`), sorted by ``id``.

    Raises:
        DataError: a column is missing, or a row points outside ``root``, nowhere, or to what
            another row has.
    """
    rows = read_rows(table, skips=skips, pad=True)
    rows = with_canonical_names(table, rows, _IMAGE_COLUMNS, _SYNONYMS)
    require_columns(table, rows, ("path", "label") if labelled else ("path",))
    if rows.empty:
        raise DataError(f"{table} lists no images.", "Add one row per image.")
    rows = rows[[name for name in _IMAGE_COLUMNS if name in rows]].copy()
    refuse_empty(table, rows, "path")
    rows = _with_paths(table, root, rows, skips)
    if "id" not in rows:
        rows["id"] = [path.relative_to(root).as_posix() for path in rows["path"]]
    refuse_repeats(table, rows, "path")
    refuse_repeats(table, rows, "id")
    rows["label"] = _labels(table, rows, labelled)
    rows["group"] = rows["group"].where(rows["group"] != "", None) if "group" in rows else None
    rows["split"] = splits_given(table, rows)
    for name in ("ecd_um", "label_confidence"):
        if name in rows:
            rows[name] = numbers(table, rows, name)
    return rows.sort_values("id", ignore_index=True)


def _with_paths(table: Path, root: Path, rows: pd.DataFrame, skips: Skips) -> pd.DataFrame:
    """Rows whose picture exists, ``path`` as the file."""
    paths = {}
    for number, cell in rows["path"].items():
        path = _inside(table, root, number, cell)
        if os.path.isfile(path):  # Path.is_file() raises on names too long
            paths[number] = path
            continue
        error = DataError(
            f"{table}, row {number}: {cell!r} does not exist in {table.parent}.",
            "Paths are relative to the CSV; mend the row, copy the file there, or leave such "
            "rows out with data.unreadable=skip.",
        )
        skips.add(cell, "picture is missing", error)
    if not paths:
        raise DataError(
            f"{table} lists no picture that exists in {table.parent}.",
            "Paths are relative to the CSV.",
        )
    return rows.loc[list(paths)].assign(path=pd.Series(paths, dtype=object))


def _inside(table: Path, root: Path, number: object, cell: str) -> Path:
    """The file a row names; links are followed, but the name itself must stay in ``root``."""
    base = os.path.abspath(root)
    path = Path(os.path.abspath(table.parent / cell.replace("\\", "/")))
    if not path.is_relative_to(base):
        raise DataError(
            f"{table}, row {number}: {cell!r} is not inside {root}.",
            "Move the file there, or set data.root to a folder that holds all files.",
        )
    return root / path.relative_to(base)


def _labels(table: Path, rows: pd.DataFrame, labelled: bool) -> list[str | None]:
    if not labelled:
        return [None] * len(rows)
    remedy = "Fill it in, remove the row, or set data.labelled=false to predict."
    refuse_empty(table, rows, "label", remedy)
    names = class_names(rows["label"], table)
    return [names[cell] for cell in rows["label"]]
