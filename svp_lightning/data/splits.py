"""Train, validation and test splits that keep every group (run, vial) in one piece.

Images of one run share background and focus; a random split over images lets a model
recognise the run instead of the particle (99.7 % in random cross-validation, AUROC 0.48 on
other runs was seen on public MFI data). So whole groups move, and every class has to appear
in every split.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.settings import SplitFractions
from svp_lightning.data.store import SPLITS
from svp_lightning.errors import DataError

_REMEDY = "Add runs or images of these classes, give finer groups, or assign the splits yourself."
_GAP = 0.05
"""Relative distance from the best assignment that is good enough."""
_NODES = 10
"""Branches looked at; further ones take seconds and hardly come nearer."""


def assign_splits(particles: pd.DataFrame, fractions: SplitFractions, seed: int) -> pd.DataFrame:
    """Fill in the column ``split``.

    Splits already given are kept; if they lack a validation split, it is taken from the
    training images by group. Rows without a label get no split.

    ``particles`` have ``label``, ``group``, and ``split`` (null where not given).

    Raises:
        DataError: a group is in two splits, or a class is missing from one.
    """
    particles = particles.copy()
    labelled = particles["label"].notna()
    given = particles["split"].notna().any()
    if given and not (particles["split"] == "test").any() and fractions.test > 0:
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
            todo &= False
    if todo.any():
        rows = particles[todo]
        particles.loc[todo, "split"] = split_by_group(
            rows["label"].to_numpy(object), rows["group"].to_numpy(object), fractions, seed
        )
    particles.loc[~labelled, "split"] = ""
    if given:
        _check_given(particles[labelled])
    return particles


def _check_given(particles: pd.DataFrame) -> None:
    splits = particles.groupby("group")["split"].unique()
    shared = splits[splits.map(len) > 1]
    if len(shared):
        raise DataError(
            f"The group {shared.index[0]} is in {' and '.join(sorted(shared.iloc[0]))}: what is "
            "tested must come from other runs than what trains.",
            "Put each group into one split, or leave the splits to be made.",
        )
    for split, counts in pd.crosstab(particles["split"], particles["label"]).iterrows():
        if lacking := counts.index[counts == 0].tolist():
            raise DataError(
                f"The {split} split has no images of {', '.join(lacking)}.",
                "Add some, or leave the splits to be made.",
            )


def split_by_group(
    labels: Sequence[str] | NDArray[np.object_],
    groups: Sequence[str] | NDArray[np.object_],
    fractions: SplitFractions,
    seed: int,
) -> NDArray[np.str_]:
    """Assign every image to a split, whole groups together, stratified by class.

    The result depends on the set of (label, group) pairs and the seed, not on their order.

    Args:
        labels: (N,) class name of each image.
        groups: (N,) group of each image; images of one group stay together.
        fractions: shares of the images in validation and test.
        seed: decides between groups alike, and between assignments that are nearly as good.

    Returns:
        (N,) of ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        DataError: no assignment puts every class into every split, or none was found.
    """
    # As objects: in an array of strings every group takes the room of the longest name.
    label_of, class_names = pd.factorize(np.asarray(labels, dtype=object), sort=True)
    group_of, group_names = pd.factorize(np.asarray(groups, dtype=object), sort=True)
    counts = np.zeros((len(group_names), len(class_names)), dtype=np.int64)
    np.add.at(counts, (group_of, label_of), 1)
    shares = np.array([1 - fractions.val - fractions.test, fractions.val, fractions.test])
    used = shares > 0
    _refuse_too_few_groups(counts, class_names, int(used.sum()))
    assignment = _nearest(counts, shares[used], np.random.default_rng(seed))
    if assignment is None:
        rarest = int((counts > 0).sum(axis=0).argmin())
        holders = ", ".join(group_names[counts[:, rarest] > 0][:5])
        raise DataError(
            "No split was found that keeps groups whole and puts every class everywhere: there is "
            f"{class_names[rarest]}, for example, which only groups {holders} hold.",
            _REMEDY,
        )
    return np.array(SPLITS)[used][assignment[group_of]]


def _refuse_too_few_groups(
    counts: NDArray[np.int64], class_names: NDArray[np.str_], splits: int
) -> None:
    groups = zip(class_names, (counts > 0).sum(axis=0).tolist(), strict=True)
    if lacking := [f"{name} ({n} group{'s' * (n != 1)})" for name, n in groups if n < splits]:
        raise DataError(
            f"Too few groups to put every class into {splits} splits: {', '.join(lacking)}.",
            _REMEDY,
        )


def _nearest(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64] | None:
    """Split of each group such that class counts deviate least from the shares.

    A mixed-integer linear programme: groups of equal counts are one kind, of which whole numbers
    x go to each split; the sum of |held / target - 1| over classes and splits is smallest, and
    every class is held by every split. None where this cannot be.
    """
    # Imported when the data is known to be good: errors in it do not wait for the import.
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import bmat, diags, eye, kron

    kinds, kind_of, number = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
    splits, cells = len(shares), counts.shape[1] * len(shares)
    target = np.outer(counts.sum(axis=0), shares).ravel()
    held, deviation = kron(kinds.T, eye(splits)), diags(target)
    rows: list[list[Any]] = [[kron(eye(len(kinds)), np.ones((1, splits))), None], [held, None]]
    rows += [[held, -deviation], [held, deviation]]
    nothing, least = np.full(cells, -np.inf), np.ones(cells)
    lower = np.concatenate([number, least, nothing, target])
    upper = np.concatenate([number, -nothing, target, -nothing])
    # These costs add up to a little more than 1, so that the gap means something at no deviation.
    any_split = (1 + rng.uniform(0, 0.02, len(kinds) * splits)) / len(counts)
    found = milp(
        np.concatenate([any_split, least]),
        integrality=np.repeat([1, 0], [len(any_split), cells]),
        constraints=LinearConstraint(bmat(rows), lower, upper),
        options={"mip_rel_gap": _GAP, "node_limit": _NODES},
    )
    if found.x is None:
        return None
    taken = np.rint(found.x[: len(any_split)]).astype(np.int64).reshape(-1, splits)
    assignment = np.empty(len(counts), dtype=np.int64)
    for kind, parts in enumerate(taken):
        members = rng.permutation(np.flatnonzero(kind_of.ravel() == kind))
        assignment[members] = np.repeat(np.arange(splits), parts)
    return assignment
