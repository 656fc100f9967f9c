"""Splits of imported particles: those the user gave, checked, or new ones by group."""

from pathlib import Path

import pandas as pd

from svp_lightning.data.settings import SplitFractions
from svp_lightning.data.splits import split_by_group
from svp_lightning.errors import DataError


def refuse_single_class(particles: pd.DataFrame, where: Path) -> None:
    """Refuse fewer than two classes: there is nothing to tell apart."""
    names = sorted(particles["label"].dropna().unique())
    if len(names) < 2:
        raise DataError(
            f"{where} holds {'one class only: ' + names[0] if names else 'no labelled images'}.",
            "Give two classes or more, or set data.labelled=false to predict.",
        )


def assign_splits(particles: pd.DataFrame, fractions: SplitFractions, seed: int) -> pd.DataFrame:
    """Fill in the column ``split``.

    Splits already given are kept; if they lack a validation split, it is taken from the
    training images by group. Rows without a label get no split.

    Args:
        particles: with ``label``, ``group``, and ``split`` (null where not given).
        fractions: shares held out.
        seed: of the assignment.

    Raises:
        DataError: a group is in two splits, or a class is missing from one.
    """
    particles = particles.copy()
    labelled = particles["label"].notna()
    given = particles["split"].notna().any()
    if given and (particles["split"] == "test").sum() == 0 and fractions.test > 0:
        raise DataError(
            "The splits given have no test images.",
            "Add a test split, or leave all splits to be made.",
        )
    todo = labelled
    if given:
        held = fractions.val / (1 - fractions.test)
        fractions = SplitFractions(val=held, test=0)
        todo = labelled & (particles["split"] == "train")
        if (particles["split"] == "val").any() or held == 0:
            todo = todo & False
    if todo.any():
        rows = particles[todo]
        particles.loc[todo, "split"] = split_by_group(
            rows["label"].to_numpy(str), rows["group"].to_numpy(str), fractions, seed
        )
    particles.loc[~labelled, "split"] = ""
    if given:
        _refuse_shared_groups(particles[labelled])
        _refuse_missing_classes(particles[labelled])
    return particles


def _refuse_shared_groups(particles: pd.DataFrame) -> None:
    splits = particles.groupby("group")["split"].unique()
    shared = splits[splits.map(len) > 1]
    if len(shared):
        raise DataError(
            f"The group {shared.index[0]} is in {' and '.join(sorted(shared.iloc[0]))}: what is "
            "tested must come from other runs than what trains.",
            "Put each group into one split, or leave the splits to be made.",
        )


def _refuse_missing_classes(particles: pd.DataFrame) -> None:
    table = pd.crosstab(particles["split"], particles["label"])
    for split, counts in table.iterrows():
        lacking = counts.index[counts == 0].tolist()
        if lacking:
            raise DataError(
                f"The {split} split has no images of {', '.join(lacking)}.",
                "Add some, or leave the splits to be made.",
            )
