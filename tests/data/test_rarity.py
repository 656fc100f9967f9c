"""Fewer real images of the rare classes, or fewer classes, for all who train and them alone."""

import numpy as np
import pytest

from svp_lightning.data.mix import added_counts, check_training_rows, train_rows
from svp_lightning.data.rarity import limit_rare, only_classes
from svp_lightning.data.store import Store
from svp_lightning.errors import SettingsError, StoreError

NAMES = ("protein", "silicone_oil", "air_bubble")
BLOCKS = [
    ("protein", "train", 60),
    ("silicone_oil", "train", 20),
    ("air_bubble", "train", 25),
    *((name, split, 7) for name in NAMES for split in ("val", "test")),
]


@pytest.fixture
def store(make_store):
    return make_store(BLOCKS, class_names=NAMES)


def kept(store, rare_images, seed=0):
    return set(train_rows(limit_rare(store, rare_images, seed)).row.tolist())


def test_counts_are_those_asked_for_everywhere(store) -> None:
    limited = limit_rare(store, 5, seed=0)
    wanted = {"protein": 60, "silicone_oil": 5, "air_bubble": 5}
    assert limited.counts("train") == train_rows(limited).real == wanted
    assert len(limited.indices("train")) == 70
    rare = ("silicone_oil", "air_bubble")
    assert added_counts(limited.counts("train"), rare, 2, 0) == dict.fromkeys(rare, 10)
    assert limited.counts("test") == store.counts("test")
    assert (limited.indices("test") == store.indices("test")).all()


@pytest.mark.parametrize(("rare_images", "validated"), [(1, 1), (5, 2), (9, 4), (20, 7)])
def test_validation_has_at_most_half_as_many(store, rare_images, validated) -> None:
    limited = limit_rare(store, rare_images, seed=0)
    wanted = {"protein": 7, "silicone_oil": validated, "air_bubble": validated}
    found = np.bincount(limited.labels[limited.indices("val")], minlength=3)
    assert limited.counts("val") == wanted
    assert found.tolist() == list(wanted.values())


def test_fewer_images_are_among_more_of_the_same_seed(store) -> None:
    assert kept(store, 3) < kept(store, 8) < kept(store, 20) < set(train_rows(store).row.tolist())
    assert kept(store, 8, seed=1) != kept(store, 8)


def test_what_is_made_from_fewer_images_is_another_artifact(store) -> None:
    views = [store, *(limit_rare(store, n, s) for n, s in ((3, 0), (8, 0), (8, 1)))]
    assert len({view.sha256 for view in views}) == 4
    assert limit_rare(store, 8, 1).sha256 == views[-1].sha256


def test_the_store_itself_stays_whole(store) -> None:
    before = store.counts("train"), store.particles.copy(), store.sha256
    limit_rare(store, 3, seed=0)
    assert store.counts("train") == before[0]
    assert store.particles.equals(before[1])
    assert type(store).open(store.path).sha256 == before[2]


def test_too_few_images_are_refused(store) -> None:
    with pytest.raises(StoreError, match=r"rare_images=21 .*20 of silicone_oil.*at most 20"):
        limit_rare(store, 21, seed=0)


def test_the_choice_is_random_over_the_class(store) -> None:
    oil = np.flatnonzero(store.labels == 1)
    first = set(oil[:8].tolist())
    assert sum(kept(store, 8, seed) >= first for seed in range(20)) == 0


@pytest.fixture
def real(make_store) -> Store:
    blocks = [("air_bubble", "train", 4), ("protein", "train", 20), ("silicone_oil", "train", 7)]
    return make_store([*blocks, ("air_bubble", "val", 3)], NAMES)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("names", [("air_bubble",), ("air_bubble", "silicone_oil")])
def test_rows_are_those_of_the_classes(real: Store, names: tuple[str, ...], balanced: bool) -> None:
    whole = train_rows(real, balanced)
    part = only_classes(whole, names)
    check_training_rows(part)
    assert part.class_names == names
    true_names = np.array(real.class_names)[real.labels[part.row]]
    assert np.array_equal(np.array(names)[part.label], true_names)
    assert len(part) == sum(whole.real[name] for name in names)
    assert part.real == {name: whole.real[name] for name in names}
    assert part.rare == names
    counts = np.array(list(part.real.values()))
    expected = np.ones(len(names)) if balanced else counts
    np.testing.assert_allclose(part.trained_shares, expected / expected.sum())


def test_plentiful_class_alone_counts_as_rare(real: Store) -> None:
    assert only_classes(train_rows(real), ("protein",)).rare == ("protein",)


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "at least one"), (("air_bubble",) * 2, "each once"), (("dust",), r"dust.*protein")],
)
def test_impossible_choices_are_refused(real: Store, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        only_classes(train_rows(real), names)
