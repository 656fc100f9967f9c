"""Tables from people and instruments: encodings, separators, numbers; and what is left out."""

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

_UNKNOWN = frozenset(
    {"", "nan", "-nan", "na", "n/a", "null", "1.#qnan", "-1.#ind", "1.#ind", "-nan(ind)"}
)
_LARGEST_WHOLE = 2**31 - 1

Policy = Literal["refuse", "skip"]


class Skips:
    """What an import leaves out, and whether particles are lost by it.

    Args:
        policy: ``refuse`` raises the first problem, ``skip`` lists it and continues.

    Attributes:
        lost: particles left out up to now.
    """

    def __init__(self, policy: Policy = "refuse") -> None:
        self.policy = policy
        self.lost = 0
        self._rows: list[tuple[str, str, bool]] = []

    def add(self, what: str, reason: str, error: DataError, particle_lost: bool = True) -> None:
        """Leave ``what`` (a file, row or particle) out.

        Args:
            what: named as in the summary's list.
            reason: one of few, by which the summary counts.
            error: raised where the policy is to refuse.
            particle_lost: whether the counts lack a particle by it.
        """
        if self.policy == "refuse":
            raise error
        self.lost += particle_lost
        self._rows.append((what, reason, particle_lost))

    def note(self, what: str, reason: str) -> None:
        """List ``what`` as left out, whatever the policy: it is no particle."""
        self._rows.append((what, reason, False))

    def table(self) -> pd.DataFrame:
        """Columns ``file``, ``reason``, ``particle_lost``."""
        table = pd.DataFrame(self._rows, columns=["file", "reason", "particle_lost"])
        return table.astype({"particle_lost": bool})


def read_text(path: Path) -> str:
    """The text of ``path``, in UTF-8, UTF-16 (also without its byte order mark) or Latin-1.

    Raises:
        DataError: the file is missing, may not be read, is empty, or no text.
    """
    return _decoded(path, _bytes(path))


def read_head(path: Path) -> str:
    """The first lines of ``path``, to see what it is; "" where it is empty or no text.

    Raises:
        DataError: the file is missing, or may not be read.
    """
    raw = _bytes(path, _HEAD_BYTES)
    try:
        return _decoded(path, raw[: len(raw) // 4 * 4] if len(raw) == _HEAD_BYTES else raw)
    except DataError:
        return ""


def _bytes(path: Path, at_most: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(at_most)
    except OSError as error:
        remedy = "Check the path and the permissions; a file that is not needed can be moved away."
        raise DataError(f"{path} cannot be read ({error.strerror}).", remedy) from error


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


def without_blanks(line: str) -> str:
    """``"Frame #"`` -> ``"frame#"``: instruments' versions differ in blanks and case."""
    return line.replace(" ", "").lower()


def read_rows(
    path: Path,
    header_holds: str = "",
    wanted: Callable[[str], bool] = lambda _: True,
    skips: Skips | None = None,
    pad: bool = False,
    of_particles: bool = True,
) -> pd.DataFrame:
    """A table of text cells with stripped headers.

    The separator is the one of a first line ``sep=;`` (Excel's), or is found in the header.

    Args:
        path: the file.
        header_holds: text by which the header line is known, in lower case without blanks;
            lines before it are left out.
        wanted: which columns to keep, by their stripped header.
        skips: where rows of the wrong length go; None refuses them.
        pad: whether cells missing at a row's end are empty ones, which Excel leaves out.
        of_particles: whether a row left out is a particle lost.

    Returns:
        The rows, indexed by the number of the line of the file on which each begins.

    Raises:
        DataError: a row has another number of cells than the header, or a name is twice.
    """
    skips = skips or Skips()
    lines = lines_of(read_text(path))
    first, separator = _layout(lines, header_holds)
    rows = _csv_rows(path, lines[first:], separator)
    header = [name.strip() for name in next(rows, (0, []))[1]]
    while header and not header[-1]:  # a separator at the end of every line
        header.pop()
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path} has the column {twice!r} twice.", "Rename or remove one.")
    kept = [k for k, name in enumerate(header) if wanted(name)]
    cells, index = [], []
    for line, row in rows:
        number = first + line
        if pad:
            row += [""] * (len(header) - len(row))
        if len(row) < len(header) or any(c.strip() for c in row[len(header) :]):
            error = DataError(
                f"{path}, row {number}: {len(row)} cells where the header has {len(header)}.",
                "Correct the row, or quote cells that hold the separator.",
            )
            skips.add(f"{path.name}, row {number}", "row of another length", error, of_particles)
            continue
        cells.append([row[k].strip() for k in kept])
        index.append(number)
    columns = [header[k] for k in kept]
    return pd.DataFrame(cells, columns=columns, index=pd.Index(index, dtype="int64"), dtype=object)


def header_of(text: str) -> str:
    """The line of a table's column names, behind Excel's ``sep=;``; "" where there is no text."""
    lines = lines_of(text) if text else [""]
    return next((line for line in lines[_layout(lines, "")[0] :] if line.strip()), "")


def _layout(lines: list[str], header_holds: str) -> tuple[int, str]:
    """Index of the header's line (or of blank ones before it), and the separator."""
    stated = re.fullmatch(r"""\s*"?sep=([^\w\s"]|\t)"?\s*""", lines[0], re.IGNORECASE)
    found = (k for k, line in enumerate(lines) if header_holds in without_blanks(line))
    first = max(next(found, 0), 1 if stated else 0)
    header = next((line for line in lines[first:] if line.strip()), "")
    return first, stated[1] if stated else max(_SEPARATORS, key=header.count)


def _csv_rows(path: Path, lines: list[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold anything, each with the line on which it begins, counted from 1."""
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator)
    begins = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield begins, row
            begins = reader.line_num + 1  # a quoted cell may go over several lines
    except csv.Error as error:
        raise DataError(f"{path} is no table: {error}.", "Export it again.") from error


def with_canonical_names(
    table: Path, rows: pd.DataFrame, names: Sequence[str], synonyms: Mapping[str, str]
) -> pd.DataFrame:
    """Columns renamed to ``names`` where they differ in case, blanks, hyphens or underscores.

    Args:
        table: the file, for the message.
        rows: its rows.
        names: canonical names, in lower case.
        synonyms: other name -> canonical one, where no column has the canonical one itself; of
            several for one name the first that is there.

    Raises:
        DataError: two columns have come to mean the same (``Label``, ``label``).
    """
    spelled = {_squashed(name): name for name in (*names, *synonyms)}
    rows = rows.rename(columns=lambda name: spelled.get(_squashed(name), name.lower()))
    refuse_repeated_columns(table, rows)
    for name, canonical in synonyms.items():
        if canonical not in rows:
            rows = rows.rename(columns={name: canonical})
    return rows


def _squashed(header: str) -> str:
    return re.sub(r"[\s_-]+", "", header).lower()


def require_columns(table: Path, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table without the columns ``names``."""
    if missing := [name for name in names if name not in rows]:
        raise DataError(
            f"{table} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} "
            f"(it has {', '.join(map(str, rows.columns))}).",
            "Name the columns in the first row.",
        )


def refuse_repeated_columns(table: Path, rows: pd.DataFrame) -> None:
    """Refuse a table of which two columns have the same name."""
    if not rows.columns.is_unique:
        twice = rows.columns[rows.columns.duplicated()][0]
        raise DataError(f"{table} has the column {twice!r} twice.", "Rename or remove one.")


def refuse_empty(table: Path, rows: pd.DataFrame, name: str, remedy: str = "") -> None:
    """Refuse a row without a value in the column ``name``."""
    if (rows[name] == "").any():
        number = rows.index[int((rows[name] == "").to_numpy().argmax())]
        raise DataError(
            f"{table}, row {number}: the {name} is empty.",
            remedy or "Fill it in, or remove the row.",
        )


def refuse_repeats(table: Path, rows: pd.DataFrame, *names: str) -> None:
    """Refuse rows that agree in all the columns ``names``."""
    repeated = rows.duplicated(list(names))
    if repeated.any():
        position = int(repeated.to_numpy().argmax())
        what = ", ".join(f"{name} {rows[name].iloc[position]}" for name in names)
        number = rows.index[position]
        raise DataError(f"{table}, row {number}: {what} is listed twice.", "Keep one row.")


def typed(table: Path, rows: pd.DataFrame, whole: Sequence[str], skips: Skips) -> pd.DataFrame:
    """All columns as numbers; rows with a cell that is none are refused or left out.

    A comma is read as the decimal mark if no cell of the table has a point. Whole numbers
    may not hold one: it could separate thousands, and a box must not move.

    Args:
        table: the file, for the message.
        rows: text cells, indexed by the row's number in the file.
        whole: columns of whole numbers that must not be empty; int64 in the result.
        skips: where rows left out go.
    """
    real = [name for name in map(str, rows.columns) if name not in whole]
    comma = _has_decimal_commas(rows[real])
    columns, wrong = {}, np.zeros(len(rows), dtype=bool)
    for name in map(str, rows.columns):
        values, bad = _floats(rows[name].tolist(), comma and name not in whole)
        if name in whole:
            bad |= ~(np.abs(values) <= _LARGEST_WHOLE) | (values != np.floor(values))
        for position in np.flatnonzero(bad & ~wrong).tolist():
            cell, row = rows[name].iloc[position], rows.index[position]
            kind = "a whole number" if name in whole else "a number"
            error = DataError(
                f"{table}, row {row}: {name} is {_short(cell)}, not {kind}.",
                "Correct the cell (no unit); data.unreadable=skip leaves the row out.",
            )
            skips.add(f"{table.name}, row {row}", f"{name} is not {kind}", error)
        wrong |= bad
        columns[name] = values
    found = pd.DataFrame(columns, index=rows.index)[~wrong]
    return found.astype(dict.fromkeys(whole, "int64"))


def _has_decimal_commas(rows: pd.DataFrame) -> bool:
    has = {mark: any(mark in c for name in rows for c in rows[name]) for mark in ",."}
    return has[","] and not has["."]


def _floats(cells: list[str], comma: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values (NaN where unknown) and which cells are wrong."""
    if comma:
        cells = [cell.replace(",", ".") for cell in cells]
    found = [_float(cell) for cell in cells]
    wrong = np.array([value is None for value in found], dtype=bool)
    values = np.array([np.nan if value is None else value for value in found], dtype=float)
    return values, wrong | np.isinf(values)


def _float(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return float("nan") if cell.strip().lower() in _UNKNOWN else None


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:40]}…")
