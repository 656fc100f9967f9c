"""CSV files from people and instruments: encodings, separators, header blanks, checks."""

import codecs
import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from svp_lightning.data.ingest.cells import numbers
from svp_lightning.data.ingest.naming import SPLIT_NAMES, class_name
from svp_lightning.data.ingest.skips import Skips
from svp_lightning.errors import DataError

_HEAD_BYTES = 1 << 16
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATORS = (",", ";", "\t", "|")
_IMAGE_COLUMNS = ("path", "label", "group", "split", "id", "ecd_um", "label_confidence")
_ALIASES = {"particle_id": "id", "size_um": "ecd_um"}


def read_text(path: Path) -> str:
    """The text of ``path``, in UTF-8, UTF-16 (also without its byte order mark) or Latin-1.

    Raises:
        DataError: the file is missing, empty, or no text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} does not exist or is no file.", "Check the path.") from error
    return _decoded(path, raw)


def read_head(path: Path) -> str:
    """The first lines of ``path``, "" where it is empty or no text: to tell what it is."""
    with path.open("rb") as file:
        raw = file.read(_HEAD_BYTES)
    try:
        return _decoded(path, raw[: len(raw) // 4 * 4] if len(raw) == _HEAD_BYTES else raw)
    except DataError:
        return ""


def _decoded(path: Path, raw: bytes) -> str:
    try:
        text = raw.decode(_encoding(raw))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is damaged: {error}.", "Export or copy it again.") from error
    if not text.strip("\0 \t\r\n\ufeff"):
        raise DataError(f"{path} is empty.", "Export or copy it again.")
    if "\0" in text:
        raise DataError(f"{path} holds NUL characters: it is no text.", "Export or copy it again.")
    return text


def _encoding(raw: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if raw.startswith(mark):
            return encoding
    head = raw[:_HEAD_BYTES]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        # Western text in UTF-16 has a zero in nearly every second byte.
        if head[first::2].count(0) > 0.4 * len(head) > 10 * head[1 - first :: 2].count(0):
            return encoding
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def lines_of(text: str) -> list[str]:
    """Lines ended by CR, LF or both, and by nothing else (Latin-1 has other 'line ends')."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def read_rows(
    path: Path,
    header_holds: str = "",
    wanted: Callable[[str], bool] = lambda _: True,
    skips: Skips | None = None,
) -> pd.DataFrame:
    """A table of text cells with stripped headers; the separator is found in the header.

    Args:
        path: the file.
        header_holds: text by which the header line is known; lines before it are left out.
        wanted: which columns to keep, by their stripped header.
        skips: where rows of the wrong length go; None refuses them.

    Returns:
        The rows, indexed by their number (the header is row 1).

    Raises:
        DataError: a row has another number of cells than the header, or a name is twice.
    """
    skips = skips or Skips()
    lines = lines_of(read_text(path))
    first = next((k for k, line in enumerate(lines) if header_holds in line.lower()), 0)
    header_line = next((line for line in lines[first:] if line.strip()), "")
    separator = max(_SEPARATORS, key=header_line.count)
    rows = _csv_rows(path, lines[first:], separator)
    header = [name.strip() for name in next(rows, [])]
    while header and not header[-1]:  # a separator at the end of every line
        header.pop()
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path} has the column {twice!r} twice.", "Rename or remove one.")
    kept = [k for k, name in enumerate(header) if wanted(name)]
    cells, index = [], []
    for number, row in enumerate(rows, start=2):
        if len(row) < len(header) or any(c.strip() for c in row[len(header) :]):
            error = DataError(
                f"{path}, row {number}: {len(row)} cells where the header has {len(header)}.",
                "Mend the row, or quote cells that hold the separator.",
            )
            skips.add(f"{path.name}, row {number}", "row of another length", error)
            continue
        cells.append([row[k].strip() for k in kept])
        index.append(number)
    columns = [header[k] for k in kept]
    return pd.DataFrame(cells, columns=columns, index=pd.Index(index, dtype="int64"), dtype=object)


def _csv_rows(path: Path, lines: list[str], separator: str) -> Iterator[list[str]]:
    """Rows that hold anything."""
    try:
        for row in csv.reader((f"{line}\n" for line in lines), delimiter=separator):
            if any(cell.strip() for cell in row):
                yield row
    except csv.Error as error:
        raise DataError(f"{path} is no table: {error}.", "Export it again.") from error


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
    refuse_repeated_columns(table, rows)
    require_columns(table, rows, ("path", "label") if labelled else ("path",))
    if rows.empty:
        raise DataError(f"{table} lists no images.", "Add one row per image.")
    rows = rows[[name for name in _IMAGE_COLUMNS if name in rows]].copy()
    paths = [_inside(table, root, n, cell) for n, cell in enumerate(rows["path"], start=2)]
    rows["path"] = pd.Series(paths, index=rows.index, dtype=object)
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


def refuse_repeated_columns(table: Path, rows: pd.DataFrame) -> None:
    """Refuse a table of which two columns have come to mean the same (``Label``, ``label``)."""
    if not rows.columns.is_unique:
        twice = rows.columns[rows.columns.duplicated()][0]
        raise DataError(f"{table} has the column {twice!r} twice.", "Rename or remove one.")


def refuse_repeats(table: Path, rows: pd.DataFrame, *names: str) -> None:
    """Refuse rows that agree in all the columns ``names``."""
    repeated = rows.duplicated(list(names))
    if repeated.any():
        number = int(repeated.to_numpy().argmax())
        what = ", ".join(f"{name} {rows[name].iloc[number]}" for name in names)
        raise DataError(f"{table}, row {number + 2}: {what} is listed twice.", "Keep one row.")


def _inside(table: Path, root: Path, number: int, cell: str) -> Path:
    """The file a row names; links are followed, but the name itself must stay in ``root``."""
    base = os.path.abspath(root)
    path = Path(os.path.abspath(table.parent / cell.replace("\\", "/")))
    if not cell or not path.is_relative_to(base):
        raise DataError(
            f"{table}, row {number}: {cell!r} is not inside {root}.",
            "Move the file there, or set data.root to a folder that holds all files.",
        )
    if not os.path.isfile(path):  # Path.is_file() raises on names too long
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
