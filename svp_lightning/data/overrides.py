"""Labels corrected by a person: a CSV of decisions, applied to a store without changing it."""

from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.data.importers.tables import Skips, columns_named, read_table
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import sha256_of_file

RELABEL = "relabel"
DECISIONS = (RELABEL, "keep", "unsure")
_RECORDED = ("who", "when", "why")


def with_overrides(store: Store, file: Path) -> Store:
    """The same store with the labels that ``file`` changes.

    The store on disk stays as it is. In the particle table ``label_given`` keeps the original
    labels, and ``label_who``, ``label_when`` and ``label_why`` what the file says of a change.

    Args:
        store: real or simulated images.
        file: CSV with the columns ``id,label``, and optionally ``decision`` (``relabel``, ``keep``
            or ``unsure``; only the first changes a label), ``given`` (the label when the decision
            was made), ``who,when,why``.

    Raises:
        DataError: the file cannot be read, or does not fit the store.
    """
    table = _read(file)
    row_of = pd.Series(range(len(store)), index=store.particles["id"].astype(str))
    unknown = ~table["id"].isin(row_of.index)
    _refuse(file, table["id"], unknown, "is no image of this data", "Give the data it was made of.")
    changes = table[table["decision"] == RELABEL]
    strange = ~changes["label"].isin(store.class_names)
    remedy = f"The classes are {', '.join(store.class_names)}."
    _refuse(file, changes["id"], strange, "gets a label that is no class of the data", remedy)
    rows = row_of[changes["id"]].to_numpy()
    present = store.particles["label"].to_numpy(dtype=object)
    unlabelled = pd.Series(store.labels[rows] < 0, index=changes.index)
    remedy = "Give its class where the data are imported (data.labels): then it gets a split, too."
    _refuse(file, changes["id"], unlabelled, "has no label that could be corrected", remedy)
    if "given" in changes:
        other = (changes["given"] != present[rows]) & (changes["given"] != "")
        _refuse(file, changes["id"], other, "had another label then", "Audit the data again.")
    label = present.copy()
    label[rows] = changes["label"].to_numpy(dtype=object)
    columns = {"label": label, "label_given": present}
    for name in _RECORDED:
        values = np.full(len(store), "", dtype=object)
        if name in changes:
            values[rows] = changes[name].to_numpy(dtype=object)
        columns[f"label_{name}"] = values
    return store.changed(columns, {"label_overrides": sha256_of_file(file)})


def _read(file: Path) -> pd.DataFrame:
    try:
        columns = columns_named(("id", "label", "decision", "given", *_RECORDED))
        table = read_table(file, columns, Skips(), pad=True)
        table.require(("id", "label"))
        table.refuse_repeats("id")
    except DataError as error:
        raise DataError(
            f"data.label_overrides={file} cannot be used: {error.what}",
            "Give the CSV that the gallery of task=audit saves.",
        ) from error
    rows = table.rows if "decision" in table.rows else table.rows.assign(decision=RELABEL)
    strange = ~rows["decision"].isin(DECISIONS)
    remedy = f"Decisions are {', '.join(DECISIONS)}."
    _refuse(file, rows["id"], strange, "has a decision that is none", remedy)
    return rows


def _refuse(file: Path, ids: pd.Series, wrong: pd.Series, what: str, remedy: str) -> None:
    if wrong.any():
        first, more = ids[wrong].iloc[0], int(wrong.sum()) - 1
        also = f" (and {more:,} more)" if more else ""
        raise DataError(f"data.label_overrides={file}: {first!r}{also} {what}.", remedy)
