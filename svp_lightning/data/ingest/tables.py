"""CSV files from people and instruments: encodings, separators, header blanks, checks."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from svp_lightning.data.ingest.naming import SPLIT_NAMES, class_name
from svp_lightning.errors import DataError

_SEPARATORS = (",", ";", "\t", "|")
_IMAGE_COLUMNS = ("path", "label", "group", "split", "id", "ecd_um", "label_confidence")
_ALIASES = {"particle_id": "id", "size_um": "ecd_um"}


def read_text(path: Path) -> str:
    """The text of ``path``, in UTF-8, UTF-16 (by its byte order mark) or Latin-1.

    Raises:
        DataError: the file is missing or empty.
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{path} does not exist or is no file.", "Check the path.") from error
    if not raw.strip():
        raise DataError(f"{path} is empty.", "Export or copy it again.")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_rows(path: Path, header_holds: str = "") -> pd.DataFrame:
    """A table of text cells with stripped headers; the separator is found in the header.

    Args:
        path: the file.
        header_holds: text by which the header line is known; lines before it are left out.

    Raises:
        DataError: a row has another number of cells than the header, or a name is twice.
    """
    lines = read_text(path).splitlines()
    first = next((k for k, line in enumerate(lines) if header_holds in line.lower()), 0)
    lines = lines[first:]
    separator = max(_SEPARATORS, key=lines[0].count)
    rows = [row for row in csv.reader(lines, delimiter=separator) if any(c.strip() for c in row)]
    header = [name.strip() for name in rows[0]]
    while header and not header[-1]:  # a separator at the end of every line
        header.pop()
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path} has the column {twice!r} twice.", "Rename or remove one.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < len(header) or any(c.strip() for c in row[len(header) :]):
            raise DataError(
                f"{path}, row {number}: {len(row)} cells where the header has {len(header)}.",
                "Mend the row, or quote cells that hold the separator.",
            )
    cells = [[cell.strip() for cell in row[: len(header)]] for row in rows[1:]]
    return pd.DataFrame(cells, columns=header, dtype=object)


def list_table(table: Path, root: Path, labelled: bool) -> pd.DataFrame:
    """Images listed by a CSV with the columns ``path`` and ``label`` (if ``labelled``).

    Optional: ``id``, ``group``, ``split``, ``ecd_um``, ``label_confidence``. Paths are
    relative to the CSV.

    Returns:
        A listing (see :mod:`svp_lightning.data.ingest.listing`), sorted by ``id``.

    Raises:
        DataError: a column is missing, or a row points outside ``root``, nowhere, or to what
            another row has.
    """
    rows = read_rows(table).rename(columns=lambda name: _ALIASES.get(name.lower(), name.lower()))
    require_columns(table, rows, ("path", "label") if labelled else ("path",))
    if rows.empty:
        raise DataError(f"{table} lists no images.", "Add one row per image.")
    rows = rows[[name for name in _IMAGE_COLUMNS if name in rows]]
    paths = [_inside(table, root, n, cell) for n, cell in enumerate(rows["path"], start=2)]
    rows["path"] = pd.Series(paths, dtype=object)
    if "id" not in rows:
        rows["id"] = [path.relative_to(root).as_posix() for path in rows["path"]]
    refuse_repeats(table, rows, "path")
    refuse_repeats(table, rows, "id")
    rows["label"] = _labels(table, rows, labelled)
    rows["group"] = rows["group"].where(rows["group"] != "", None) if "group" in rows else None
    rows["split"] = _splits(table, rows)
    for name in ("ecd_um", "label_confidence"):
        if name in rows:
            rows[name] = numbers(table, rows, name)
    return rows.sort_values("id", ignore_index=True)


def require_columns(table: Path, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table without the columns ``names``."""
    if missing := [name for name in names if name not in rows]:
        raise DataError(
            f"{table} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} "
            f"(it has {', '.join(map(str, rows.columns))}).",
            "Name the columns in the first row.",
        )


def refuse_repeats(table: Path, rows: pd.DataFrame, *names: str) -> None:
    """Refuse rows that agree in all the columns ``names``."""
    repeated = rows.duplicated(list(names))
    if repeated.any():
        number = int(repeated.to_numpy().argmax())
        what = ", ".join(f"{name} {rows[name].iloc[number]}" for name in names)
        raise DataError(f"{table}, row {number + 2}: {what} is listed twice.", "Keep one row.")


def numbers(table: Path, rows: pd.DataFrame, name: str) -> pd.Series:
    """Column ``name`` as floats, NaN where a cell is empty.

    Raises:
        DataError: naming the row whose cell is no number.
    """
    cells = rows[name].astype(str).str.strip()
    values = pd.to_numeric(cells, errors="coerce")
    wrong = (values.isna() & ~cells.str.lower().isin(["", "nan"])).to_numpy()
    if wrong.any():
        number = int(wrong.argmax())
        raise DataError(
            f"{table}, row {number + 2}: {name} is {cells.iloc[number]!r}, not a number.",
            "Use a decimal point and no unit.",
        )
    return values.astype(float)


def _inside(table: Path, root: Path, number: int, cell: str) -> Path:
    """The file a row names; links are followed, but the name itself must stay in ``root``."""
    base = os.path.abspath(root)
    path = Path(os.path.abspath(table.parent / cell.replace("\\", "/")))
    if not cell or not path.is_relative_to(base):
        raise DataError(
            f"{table}, row {number}: {cell!r} is not inside {root}.",
            "Move the file there, or set data.root to a folder that holds all files.",
        )
    if not path.is_file():
        raise DataError(
            f"{table}, row {number}: {cell!r} does not exist in {table.parent}.",
            "Paths are relative to the CSV; mend the row or copy the file there.",
        )
    return root / path.relative_to(base)


def _labels(table: Path, rows: pd.DataFrame, labelled: bool) -> list[str | None]:
    if not labelled:
        return [None] * len(rows)
    if (rows["label"] == "").any():
        number = int((rows["label"] == "").to_numpy().argmax()) + 2
        raise DataError(
            f"{table}, row {number}: the label is empty.",
            "Fill it in, remove the row, or set data.labelled=false to predict.",
        )
    return [class_name(cell) for cell in rows["label"]]


def _splits(table: Path, rows: pd.DataFrame) -> list[str] | None:
    if "split" not in rows or (rows["split"] == "").all():
        return None
    names = rows["split"].str.lower().map(SPLIT_NAMES)
    if names.isna().any():
        number = int(names.isna().to_numpy().argmax())
        raise DataError(
            f"{table}, row {number + 2}: the split is {rows['split'].iloc[number]!r}.",
            "Use train, val and test in every row, or leave the column out.",
        )
    return names.tolist()
