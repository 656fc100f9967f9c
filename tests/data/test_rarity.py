"""Fewer real images of the rare classes: nested, seen by all who train, and by them alone."""

import numpy as np
import pytest

from svp_lightning.data.mix import added_counts, train_rows
from svp_lightning.data.rarity import limit_rare
from svp_lightning.errors import StoreError

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
    assert added_counts(limited.counts("train"), 2, 0) == {"silicone_oil": 10, "air_bubble": 10}
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
