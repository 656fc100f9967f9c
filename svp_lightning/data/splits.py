"""Train, validation and test splits that keep every group (run, vial) in one piece.

Images of one run share background and focus; a random split over images lets a model
recognise the run instead of the particle (99.7 % in random cross-validation, AUROC 0.48 on
other runs was seen on public MFI data). So whole groups move, and every class has to appear
in every split.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from svp_lightning.data.settings import SplitFractions
from svp_lightning.data.store import SPLITS
from svp_lightning.errors import DataError

_ATTEMPTS = 64
"""Random orders in which groups are assigned one by one, before whole assignments are tried."""
_MAX_GROUPS_FOR_ALL = 10
"""Groups of which every assignment is tried (3^10 = 59,049)."""
_RANDOM_ASSIGNMENTS = 20_000
_MAX_CELLS = 10_000_000
"""Assignments times groups, at most, held in memory."""


def split_by_group(
    labels: Sequence[str] | NDArray[np.str_],
    groups: Sequence[str] | NDArray[np.str_],
    fractions: SplitFractions,
    seed: int,
) -> NDArray[np.str_]:
    """Assign every image to a split, whole groups together, stratified by class.

    The result depends on the set of (label, group) pairs and the seed, not on their order.

    Args:
        labels: (N,) class name of each image.
        groups: (N,) group of each image; images of one group stay together.
        fractions: shares of the images in validation and test.
        seed: decides between equally good assignments.

    Returns:
        (N,) of ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        DataError: no assignment was found that puts every class into every split; with up to
            10 groups there is none.
    """
    class_names, label_of = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    group_names, group_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts = np.zeros((len(group_names), len(class_names)), dtype=np.int64)
    np.add.at(counts, (group_of, label_of), 1)
    shares = np.array([1 - fractions.val - fractions.test, fractions.val, fractions.test])
    _refuse_too_few_groups(counts, shares, class_names)
    for attempt in range(_ATTEMPTS):
        assignment = _assign(counts, shares, np.random.default_rng([seed, attempt]))
        present = np.stack([counts[assignment == s].sum(axis=0) > 0 for s in range(3)])
        if present[shares > 0].all():
            return np.array(SPLITS)[assignment[group_of]]
    searched = _search(counts, shares, np.random.default_rng([seed, _ATTEMPTS]))
    if searched is not None:
        return np.array(SPLITS)[searched[group_of]]
    raise DataError(*_explain(counts, present, shares, class_names, group_names))


def _assign(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Split of each group: large groups greedily, single images to fill the rest exactly."""
    target = shares[:, None] * counts.sum(axis=0)
    held = np.zeros_like(target)
    assignment = np.zeros(len(counts), dtype=np.int64)
    single = counts.sum(axis=1) == 1
    for group in _largest_first(counts, np.flatnonzero(~single), rng):
        split = _neediest(counts[group], held, target, shares, rng)
        assignment[group] = split
        held[split] += counts[group]
    for label in range(counts.shape[1]):
        members = rng.permutation(np.flatnonzero(single & (counts[:, label] > 0)))
        quota = _quota(len(members), held[:, label], target[:, label], shares)
        assignment[members] = np.repeat(np.arange(3), quota)
    return assignment


def _search(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64] | None:
    """Split of each group: the assignment nearest to the shares that has every class everywhere.

    All assignments are looked at where the groups are few, else random ones; None where none of
    them has every class everywhere.
    """
    splits = np.flatnonzero(shares > 0)
    candidates = splits[_candidates(len(counts), len(splits), rng)]
    held = np.stack([(candidates == split) @ counts for split in splits], axis=1)
    complete = (held > 0).all(axis=(1, 2))
    if not complete.any():
        return None
    target = shares[splits, None] * counts.sum(axis=0)
    deviation = (((held - target) / target) ** 2).mean(axis=(1, 2))
    best: NDArray[np.int64] = candidates[np.where(complete, deviation, np.inf).argmin()]
    return best


def _candidates(groups: int, splits: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(M, groups) numbers below ``splits``, in an order that decides between equals."""
    if groups <= _MAX_GROUPS_FOR_ALL:
        every = np.indices((splits,) * groups).reshape(groups, -1).T
        return rng.permutation(every)
    number = min(_RANDOM_ASSIGNMENTS, max(1, _MAX_CELLS // groups))
    return rng.integers(splits, size=(number, groups))


def _largest_first(
    counts: NDArray[np.int64], groups: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Groups ordered by the largest share of any class they hold, ties at random."""
    share = (counts[groups] / np.maximum(counts.sum(axis=0), 1)).max(axis=1, initial=0)
    # The noise lets later attempts try other orders of groups of similar size.
    noise = rng.uniform(0.75, 1.0, len(groups))
    return groups[np.argsort(-share * noise, kind="stable")]


def _neediest(
    group: NDArray[np.int64],
    held: NDArray[np.float64],
    target: NDArray[np.float64],
    shares: NDArray[np.float64],
    rng: np.random.Generator,
) -> int:
    """The split where adding ``group`` leaves the smallest overall deviation."""
    scale = np.maximum(target, 1e-9)
    before = ((held - target) / scale) ** 2
    after = ((held + group - target) / scale) ** 2
    cost = (after - before)[:, group > 0].mean(axis=1) + rng.uniform(0, 1e-6, 3)
    # A class still absent from a split is worth more than any deviation of the shares.
    lacking = ((held == 0) & (group > 0)).any(axis=1)
    cost = np.where(lacking, cost - 1e12, cost)
    return int(np.argmin(np.where(shares > 0, cost, np.inf)))


def _quota(
    members: int,
    held: NDArray[np.float64],
    target: NDArray[np.float64],
    shares: NDArray[np.float64],
) -> NDArray[np.int64]:
    """How many of ``members`` single images each split takes, at least one where none is."""
    quota = np.zeros(3, dtype=np.int64)
    left = members
    for split in np.flatnonzero((held == 0) & (shares > 0))[:members]:
        quota[split] = 1
        left -= 1
    want = np.maximum(target - held - quota, 0)
    if left > 0:
        want = want / want.sum() * left if want.sum() > 0 else shares * left
        extra = np.floor(want).astype(np.int64)
        # Largest remainders, as in apportioning seats.
        order = np.argsort(-(want - extra), kind="stable")
        extra[order[: left - int(extra.sum())]] += 1
        quota += extra
    return quota


def _refuse_too_few_groups(
    counts: NDArray[np.int64], shares: NDArray[np.float64], class_names: NDArray[np.str_]
) -> None:
    needed = int((shares > 0).sum())
    groups = (counts > 0).sum(axis=0)
    lacking = [
        f"{name} ({n} group{'' if n == 1 else 's'})"
        for name, n in zip(class_names, groups.tolist(), strict=True)
        if n < needed
    ]
    if lacking:
        raise DataError(
            f"Too few groups to put every class into {needed} splits: {', '.join(lacking)}.",
            "Add runs or images of these classes, give finer groups, or assign the splits "
            "yourself.",
        )


def _explain(
    counts: NDArray[np.int64],
    present: NDArray[np.bool_],
    shares: NDArray[np.float64],
    class_names: NDArray[np.str_],
    group_names: NDArray[np.str_],
) -> tuple[str, str]:
    split, label = np.argwhere(~present & (shares > 0)[:, None])[0]
    holders = ", ".join(group_names[counts[:, label] > 0][:5])
    return (
        f"No split found keeps groups whole and puts every class everywhere: {SPLITS[split]} would "
        f"lack {class_names[label]}, which only groups {holders} hold.",
        "Add runs that hold this class, give finer groups, or assign the splits yourself.",
    )
