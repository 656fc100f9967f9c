"""Numbers in table cells, as instruments and spreadsheets of any locale write them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.tables import Skips
from svp_lightning.errors import DataError

_UNKNOWN = frozenset(
    {"", "nan", "-nan", "na", "n/a", "null", "1.#qnan", "-1.#ind", "1.#ind", "-nan(ind)"}
)
_LARGEST_WHOLE = 2**31 - 1


def numbers(table: Path, rows: pd.DataFrame, name: str) -> pd.Series:
    """Column ``name`` as floats, NaN where a cell is empty.

    Args:
        table: the file, for the message.
        rows: text cells, indexed by the row's number in the file.
        name: the column.

    Raises:
        DataError: naming the row whose cell is no finite number.
    """
    return typed(table, rows[[name]], [], Skips())[name]


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
                "Mend the cell (decimal point, no unit); data.unreadable=skip leaves the row out.",
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
