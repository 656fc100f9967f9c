"""Splits keep groups whole, put every class everywhere, and say why when they cannot."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from svp_lightning.data.settings import SplitFractions
from svp_lightning.data.splits import split_by_group
from svp_lightning.data.store import SPLITS
from svp_lightning.errors import DataError
from tests.examples import examples

FRACTIONS = SplitFractions(val=0.15, test=0.15)


@st.composite
def labelled_groups(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    labels, groups = [], []
    for number in range(draw(st.integers(8, 25))):
        for label in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=8)):
            labels.append(label)
            groups.append(f"run{number}")
    return labels, groups


@examples(30)
@given(labelled_groups(), st.integers(0, 3), st.sampled_from([(0.2, 0.2), (0.0, 0.3), (0.1, 0.1)]))
def test_groups_stay_whole_and_every_class_is_everywhere(
    data: tuple[list[str], list[str]], seed: int, shares: tuple[float, float]
) -> None:
    labels, groups = np.array(data[0]), np.array(data[1])
    wanted = {"train", *(s for s, f in zip(("val", "test"), shares, strict=True) if f > 0)}
    try:
        splits = split_by_group(labels, groups, SplitFractions(val=shares[0], test=shares[1]), seed)
    except DataError:  # a class with too few groups; that such sets are refused is tested below
        reject()
    for group in np.unique(groups):
        assert len(set(splits[groups == group])) == 1
    for label in np.unique(labels):
        assert set(splits[labels == label]) == wanted


@given(st.permutations(range(60)))
@examples(20)
def test_the_order_of_the_images_does_not_matter(order: list[int]) -> None:
    labels = np.array(["a", "b", "a"] * 20)
    groups = np.array([f"g{i // 2}" for i in range(60)])
    fractions = SplitFractions(val=0.2, test=0.2)
    straight = split_by_group(labels, groups, fractions, 5)
    assert (split_by_group(labels[order], groups[order], fractions, 5) == straight[order]).all()


def test_single_images_meet_the_fractions_exactly_and_quickly() -> None:
    labels = np.array(["protein"] * 100_000 + ["oil"] * 100 + ["air"] * 3)
    groups = np.arange(len(labels)).astype(str)
    splits = split_by_group(labels, groups, SplitFractions(val=0.1, test=0.2), 0)
    counts = {
        c: [int((splits[labels == c] == s).sum()) for s in ("train", "val", "test")]
        for c in ("protein", "oil", "air")
    }
    assert counts == {"protein": [70_000, 10_000, 20_000], "oil": [70, 10, 20], "air": [1, 1, 1]}


def test_runs_of_equal_size_meet_the_fractions_closely() -> None:
    labels = np.tile(["a"] * 40 + ["b"] * 10, 20)
    groups = np.repeat([f"run{i}" for i in range(20)], 50)
    splits = split_by_group(labels, groups, SplitFractions(val=0.2, test=0.2), 3)
    assert [(splits == s).mean() for s in ("train", "val", "test")] == pytest.approx(
        [0.6, 0.2, 0.2], abs=0.051
    )


def test_seeds_differ() -> None:
    labels, groups = np.array(["a"] * 100), np.arange(100).astype(str)
    one, two = (split_by_group(labels, groups, FRACTIONS, seed) for seed in (0, 1))
    assert (one != two).any()


def test_too_few_groups_names_the_class() -> None:
    with pytest.raises(DataError, match=r"oil \(2 groups\)") as caught:
        split_by_group(["a"] * 9 + ["oil"] * 2, [str(i) for i in range(11)], FRACTIONS, 0)
    assert "fraction" not in caught.value.remedy  # training refuses data without a split


FOUR_RUNS = [[48, 5], [26, 0], [25, 12], [0, 49]]
TWELVE_RUNS = [
    *([33, 25, 0, 0], [0, 0, 0, 35], [0, 0, 0, 33], [0, 0, 10, 0], [0, 17, 0, 0], [0, 0, 4, 55]),
    *([0, 0, 40, 0], [0, 13, 0, 0], [43, 0, 36, 8], [0, 0, 10, 0], [0, 0, 0, 58], [26, 0, 0, 2]),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("counts", [FOUR_RUNS, TWELVE_RUNS])
def test_a_split_is_found_where_one_by_one_finds_none(counts: list[list[int]], seed: int) -> None:
    groups = [f"run{g}" for g, row in enumerate(counts) for _ in range(sum(row))]
    labels = [
        name for row in counts for name, n in zip("abcd", row, strict=False) for _ in range(n)
    ]
    splits = split_by_group(labels, groups, FRACTIONS, seed)
    assert (splits == split_by_group(labels, groups, FRACTIONS, seed)).all()
    for label in set(labels):
        assert len(set(splits[np.array(labels) == label])) == 3
    assert all(len(set(splits[np.array(groups) == group])) == 1 for group in set(groups))


def test_the_split_is_nearly_the_nearest_to_the_fractions() -> None:
    counts = np.array(FOUR_RUNS)
    target = np.outer([0.7, 0.15, 0.15], counts.sum(axis=0))

    def deviation(assignment: Sequence[int]) -> float:
        held = np.array([counts[np.array(assignment) == s].sum(axis=0) for s in range(3)])
        return np.inf if (held == 0).any() else float(np.abs(held / target - 1).sum())

    groups = np.repeat(range(4), counts.sum(axis=1))
    labels = np.concatenate([np.repeat(["a", "b"], row) for row in counts])
    splits = split_by_group(labels, groups, FRACTIONS, 0)
    found = [SPLITS.index(splits[groups == group][0]) for group in range(4)]
    best = min(deviation(assignment) for assignment in product(range(3), repeat=4))
    assert deviation(found) <= 1.05 * best < np.inf


def test_an_impossible_layout_names_class_and_groups() -> None:
    runs = {"a": "123", "b": "145", "c": "246", "d": "356", "e": "167", "f": "257", "g": "347"}
    # The Fano plane: no 3-colouring shows every colour on every line.
    labels = [label for label, line in runs.items() for _ in line]
    groups = [group for line in runs.values() for group in line]
    with pytest.raises(DataError, match="which only groups"):
        split_by_group(labels, groups, FRACTIONS, 0)
