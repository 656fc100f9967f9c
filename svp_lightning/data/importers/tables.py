"""Tables from people and instruments: separators, names, numbers; what is left out."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.plain_text import layout_of, lines_of, read_text
from svp_lightning.errors import DataError

_UNKNOWN = frozenset(
    {"", "nan", "-nan", "na", "n/a", "null", "1.#qnan", "-1.#ind", "1.#ind", "-nan(ind)"}
)
_LARGEST_WHOLE = 2**31 - 1

Column = Callable[[str], str | None]
"""Canonical name of a header; None for columns to leave out."""


class Skips:
    """What an import leaves out; ``lost`` counts the particles among it.

    Args:
        policy: ``refuse`` raises the first problem, ``skip`` lists it and continues.
    """

    def __init__(self, policy: Literal["refuse", "skip"] = "refuse") -> None:
        self.policy = policy
        self.lost = 0
        self._rows: list[tuple[str, str, bool]] = []

    def add(self, what: str, reason: str, error: DataError, particle_lost: bool = True) -> None:
        """Leave ``what`` (a file, row or particle) out, or raise ``error``.

        ``reason`` is one of few, by which the summary counts; ``particle_lost`` is whether the
        counts lack a particle by it.
        """
        if self.policy == "refuse":
            raise error
        self.lost += particle_lost
        self._rows.append((what, reason, particle_lost))

    def note(self, what: str, reason: str) -> None:
        """List ``what`` as left out, whatever the policy: it is no particle."""
        self._rows.append((what, reason, False))

    def leave_out(
        self,
        rows: pd.DataFrame,
        problems: Mapping[str, pd.Series | NDArray[np.bool_]],
        error: Callable[[Any, str], DataError],
        name: Callable[[Any], str] = lambda row: str(row.id),
        lost: bool = True,
    ) -> pd.DataFrame:
        """``rows`` of which none of the ``problems`` (reason -> whose) is true."""
        left_out = np.zeros(len(rows), dtype=bool)
        for reason, mask in problems.items():
            wrong = np.asarray(mask, dtype=bool)
            for row in rows[wrong & ~left_out].itertuples():
                self.add(name(row), reason, error(row, reason), lost)
            left_out |= wrong
        return rows[~left_out]

    def table(self) -> pd.DataFrame:
        """Columns ``file``, ``reason``, ``particle_lost``."""
        table = pd.DataFrame(self._rows, columns=["file", "reason", "particle_lost"])
        return table.astype({"particle_lost": bool})


def squashed(header: str) -> str:
    """``"File Name"`` -> ``"filename"``: letters, digits and # count, whatever their case."""
    return re.sub(r"[^\w#]|_", "", header.lower().replace("µ", "u").replace("μ", "u"))


def header_of(path: Path) -> list[str]:
    """The names of a table's columns, as far as the first lines of a file hold them."""
    lines = lines_of(read_text(path, head=True) or "\n")
    first, separator = layout_of(lines)
    header = next((line for line in lines[first:] if line.strip()), "")
    return [cell.strip('" ') for cell in header.split(separator)]


@dataclass(frozen=True)
class Table:
    """Text cells under canonical names.

    Attributes:
        path: the file, for messages.
        rows: the cells, indexed by the line of the file on which each row begins.
        header: of the file, for messages, with columns that are left out.
        spelled: canonical name -> the file's header, for messages.
    """

    path: Path
    rows: pd.DataFrame
    header: Sequence[str]
    spelled: Mapping[str, str]

    def with_synonyms(self, synonyms: Mapping[str, str]) -> "Table":
        """Columns under their names: of several synonyms the first, where the name is missing."""
        rows = self.rows
        for name, canonical in synonyms.items():
            if canonical not in rows:
                rows = rows.rename(columns={name: canonical})
        return replace(self, rows=rows)

    def require(self, names: Iterable[str]) -> None:
        """Refuse a table without the columns ``names``."""
        if missing := [name for name in names if name not in self.rows]:
            raise DataError(
                f"{self.path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} "
                f"(it has {', '.join(self.header)}).",
                "Name the columns in the first row.",
            )

    def refuse_empty(self, name: str, remedy: str = "Fill it in, or remove the row.") -> None:
        """Refuse a row without a value in the column ``name``."""
        for row in self.rows.index[self.rows[name] == ""]:
            raise DataError(f"{self.path}, row {row}: the {name} is empty.", remedy)

    def refuse_repeats(self, *names: str) -> None:
        """Refuse rows that agree in all the columns ``names``."""
        for row, cells in self.rows.loc[self.rows.duplicated(list(names)), list(names)].iterrows():
            what = ", ".join(f"{name} {cell}" for name, cell in cells.items())
            raise DataError(f"{self.path}, row {row}: {what} is listed twice.", "Keep one row.")

    def numbers(self, skips: Skips, text: Sequence[str], whole: Sequence[str]) -> pd.DataFrame:
        """The rows with all columns but ``text`` as numbers, without rows where a cell is none.

        A comma is read as the decimal mark if no cell of the table has a point. ``whole``
        numbers (int64 in the result, never empty) may not hold one: it could separate thousands,
        and a box must not move.
        """
        rows = self.rows[[name for name in map(str, self.rows) if name not in text]]
        cells = rows.drop(columns=list(whole), errors="ignore").to_numpy().ravel().tolist()
        comma = any("," in cell for cell in cells) and not any("." in cell for cell in cells)
        columns, wrong = {}, np.zeros(len(rows), dtype=bool)
        for name in map(str, rows.columns):
            found = [float_of(cell, comma and name not in whole) for cell in rows[name]]
            values = np.array([np.inf if value is None else value for value in found], float)
            bad, kind = np.isinf(values), "a number"
            if name in whole:
                bad |= ~(np.abs(values) <= _LARGEST_WHOLE) | (values != np.floor(values))
                kind = "a whole number"
            header = self.spelled.get(name, name)
            for row, cell in rows.loc[bad & ~wrong, name].items():
                shown = repr(cell if len(cell) <= 40 else f"{cell[:40]}…")
                error = DataError(
                    f"{self.path}, row {row}: {header} is {shown}, not {kind}.",
                    "Correct the cell (no unit); data.unreadable=skip leaves the row out.",
                )
                skips.add(f"{self.path.name}, row {row}", f"{header} is not {kind}", error)
            wrong |= bad
            columns[name] = values
        found_rows = pd.DataFrame(columns, rows.index).join(self.rows.drop(columns=rows.columns))
        return found_rows[~wrong].astype({name: "int64" for name in whole if name in columns})


def float_of(cell: str, comma: bool) -> float | None:
    """NaN where unknown, None where wrong."""
    try:
        return float(cell.replace(",", ".") if comma else cell)
    except ValueError:
        return float("nan") if cell.strip().lower() in _UNKNOWN else None


def read_table(
    path: Path,
    column: Column,
    skips: Skips,
    *,
    header_holds: str = "",
    pad: bool = False,
    of_particles: bool = True,
) -> Table:
    """The columns of a file that have a name.

    The separator is the one of a first line ``sep=;`` (Excel's), or is found in the header.

    Args:
        path: the file.
        column: names the columns.
        skips: where rows of the wrong length go.
        header_holds: text by which the header line is known; lines before it are left out.
        pad: whether cells missing at a row's end are empty ones, which Excel leaves out. Where
            the row holds a quotation mark, they may be in a cell that a stray one has opened.
        of_particles: whether a row left out is a particle lost.

    Raises:
        DataError: a row has another number of cells than the header, two columns one name, or a
            quotation mark is not closed.
    """
    lines = lines_of(read_text(path))
    first, separator = layout_of(lines, header_holds)
    rows = _csv_rows(path, lines[first:], separator, first)
    header = [name.strip() for name in next(rows, (0, []))[1]]
    while header and not header[-1]:  # a separator at the end of every line
        header.pop()
    return table_of(path, header, rows, column, skips, pad=pad, of_particles=of_particles)


def table_of(
    path: Path,
    header: list[str],
    rows: Iterable[tuple[int, list[str]]],
    column: Column,
    skips: Skips,
    *,
    pad: bool = False,
    of_particles: bool = True,
) -> Table:
    """As :func:`read_table`, from names and from the cells of each line."""
    kept: dict[str, int] = {}
    for k, spelling in enumerate(header):
        name = column(spelling)
        if name is not None and (first := kept.setdefault(name, k)) != k:
            what = f"columns {header[first]!r} and {spelling!r} for the same"
            if header[first] == spelling:
                what = f"column {spelling!r} twice"
            raise DataError(f"{path} has the {what}.", "Rename or remove one.")
    cells, index = [], []
    for number, row in rows:
        if pad and not any('"' in cell for cell in row):
            row += [""] * (len(header) - len(row))
        if len(row) < len(header) or any(c.strip() for c in row[len(header) :]):
            error = DataError(
                f"{path}, row {number}: {len(row)} cells where the header has {len(header)}.",
                "Correct the row (quote cells with the separator, close every quotation mark), "
                "or copy the file again.",
            )
            skips.add(f"{path.name}, row {number}", "row of another length", error, of_particles)
            continue
        cells.append([row[k].strip() for k in kept.values()])
        index.append(number)
    found = pd.DataFrame(cells, pd.Index(index, dtype="int64"), list(kept), dtype=object)
    return Table(path, found, header, {name: header[k] for name, k in kept.items()})


def _csv_rows(
    path: Path, lines: list[str], separator: str, before: int
) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold anything, each with the line on which it begins, counted from 1.

    Raises:
        DataError: a quotation mark is not closed, or the file is no table.
    """
    # The blank line at the end is a row of its own, unless a quoted cell is open.
    reader = csv.reader((f"{line}\n" for line in [*lines, ""]), delimiter=separator)
    begins = before + 1
    try:
        for row in reader:
            if row and reader.line_num > len(lines):
                raise csv.Error("a quotation mark is not closed")
            if any(cell.strip() for cell in row):
                yield begins, row
            begins = before + reader.line_num + 1  # a quoted cell may go over several lines
    except csv.Error as error:
        remedy = "Close the quotation mark with which a cell begins, or export the table again."
        raise DataError(f"{path}, row {begins}: {error}.", remedy) from error


def columns_named(names: Iterable[str]) -> Column:
    """For :func:`read_table`: these names, whatever their case, blanks and underscores."""
    known = {squashed(name): name for name in names}
    return lambda header: known.get(squashed(header))


def without_problems(
    table: pd.DataFrame,
    path: Path,
    problems: Mapping[str, pd.Series],
    name: Callable[[Any], str],
    skips: Skips,
) -> pd.DataFrame:
    """Particles of a list of which none of the ``problems`` (reason -> whose) is true."""
    return skips.leave_out(
        table,
        problems,
        lambda row, reason: DataError(
            f"{path}, row {row.Index}, {name(row)}: {reason}.",
            "Export the run again; data.unreadable=skip leaves the particle out.",
        ),
        lambda row: f"{path.name}, row {row.Index}, {name(row)}",
    ).copy()
