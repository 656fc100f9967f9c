"""Mixtures: counts, nesting, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_lightning.data.augmentation import AugmentationSettings
from svp_lightning.data.mix import (
    REAL,
    SYNTHETIC,
    Mixture,
    added_counts,
    check_training_rows,
    mix,
    train_rows,
)
from svp_lightning.data.store import Store
from svp_lightning.errors import SettingsError, StoreError
from tests.configured import augmentation
from tests.examples import examples

REAL_BLOCKS = [
    ("silicone_oil", "test", 2),
    ("protein", "train", 40),
    ("silicone_oil", "train", 7),
    ("silicone_oil", "val", 3),
    ("protein", "val", 5),
    ("protein", "test", 5),
    (None, "train", 2),
]


@pytest.fixture
def real(make_store) -> Store:
    return make_store(REAL_BLOCKS)


@pytest.fixture
def pool(make_store) -> Store:
    return make_store(
        [("protein", "", 4), ("silicone_oil", "", 30), ("protein", "", 2)], origin="synthetic"
    )


def arm(method: str, ratio: float = 1.0) -> AugmentationSettings:
    """One that adds images (``duplicate``, ``diffusion``), or ``none``."""
    return augmentation(method=method, ratio=ratio, extra=method)


@given(st.floats(0, 4))
@examples(40)
def test_both_enlarging_arms_add_the_same_number_to_rare_classes_only(real, pool, ratio) -> None:
    wanted = added_counts(real.counts("train"), ("silicone_oil",), ratio, 0)
    assert wanted == {"silicone_oil": int(np.floor(7 * ratio + 0.5))}
    for method in ("duplicate", "diffusion"):
        mixture = mix(real, pool, arm(method, ratio), seed=0)
        counts = np.bincount(mixture.label, minlength=2)
        assert counts.tolist() == [40, 7 + wanted["silicone_oil"]]
        assert mixture.real == {"protein": 40, "silicone_oil": 7}
        assert mixture.added == {"protein": 0, **wanted}
        for number, store in enumerate(mixture.stores):
            here = mixture.store_id == number
            assert (store.labels[mixture.row[here]] == mixture.label[here]).all()
        check_training_rows(mixture)


def test_real_rows_are_drawn_as_they_are_or_each_class_equally_often(real) -> None:
    plain, balanced = train_rows(real), train_rows(real, balanced=True)
    assert plain.composition.shares.tolist() == [[40 / 47, 7 / 47], [0, 0]]
    assert balanced.composition.shares.tolist() == [[0.5, 0.5], [0, 0]]
    assert balanced.row.tolist() == plain.row.tolist()


@pytest.mark.parametrize("method", ["duplicate", "diffusion"])
def test_a_smaller_ratio_is_the_start_of_a_larger_one(real, pool, method) -> None:
    small, large = (mix(real, pool, arm(method, ratio), seed=3) for ratio in (1.3, 4.0))
    assert (large.row[: len(small)] == small.row).all()
    assert (large.store_id[: len(small)] == small.store_id).all()


def test_synthetic_rows_come_in_pool_order(real, pool) -> None:
    mixture = mix(real, pool, arm("diffusion", 2.0), seed=0)
    assert mixture.row[mixture.store_id == SYNTHETIC].tolist() == list(range(4, 18))


def test_copies_repeat_every_image_before_any_twice(real) -> None:
    mixture = mix(real, None, arm("duplicate", 2.5), seed=0)
    assert (mixture.store_id == REAL).all()
    _, times = np.unique(mixture.row[mixture.label == 1], return_counts=True)
    assert set(times) == {3, 4}
    assert (real.particles["split"].to_numpy()[mixture.row] == "train").all()


def test_generated_images_of_every_class_come_each_from_its_own_class(real, pool) -> None:
    settings = augmentation(
        method="diffusion_all_classes", extra="diffusion", ratio=2, plentiful_ratio=0.15
    )
    mixture = mix(real, pool, settings, seed=0)
    assert mixture.added == {"protein": 6, "silicone_oil": 14}
    assert mixture.rare == ("silicone_oil",)
    drawn = mixture.store_id == SYNTHETIC
    assert np.bincount(mixture.label[drawn]).tolist() == [6, 14]
    assert (pool.labels[mixture.row[drawn]] == mixture.label[drawn]).all()
    check_training_rows(mixture)


def test_hard_negatives_are_the_first_of_their_order_and_real(real) -> None:
    hardest = real.indices("train", 0)[::-1]
    settings = augmentation(method="hard_negatives", hard_negatives=0.1)
    mixture = mix(real, None, settings, seed=0, hardest=hardest)
    assert mixture.added == {"protein": 0, "silicone_oil": 0}  # only drawn more often
    assert mixture.row[mixture.added_row].tolist() == hardest[:4].tolist()
    assert set(mixture.store_id) == {REAL}
    assert set(mixture.label[mixture.added_row]) == {0}
    least = settings.model_copy(update={"hard_negatives": 1e-6})
    mixture = mix(real, None, least, seed=0, hardest=hardest)
    assert mixture.row[mixture.added_row].tolist() == hardest[:1].tolist()


def test_hard_negatives_and_generated_images_have_each_their_share(real, pool) -> None:
    changes = {"pool_share": 0.4, "hard_share": 0.25}
    settings = augmentation(
        method="diffusion_hard_negatives", extra="diffusion", ratio=2, hard_negatives=0.1, **changes
    )
    mixture = mix(real, pool, settings, seed=0, hardest=real.indices("train", 0))
    assert mixture.added == {"protein": 0, "silicone_oil": 14}
    added = mixture.added_row
    assert np.bincount(mixture.store_id[added]).tolist() == [4, 14]
    assert ((mixture.store_id == SYNTHETIC) == (added & (mixture.label == 1))).all()
    shares = mixture.composition.shares
    np.testing.assert_allclose(shares[1] / shares.sum(axis=0), [0.25, 0.4])
    check_training_rows(mixture)


def test_a_balanced_set_counts_as_rare_throughout(make_store) -> None:
    even = make_store([("protein", "train", 5), ("silicone_oil", "train", 5)])
    assert mix(even, None, arm("duplicate", 2.0), seed=0).added == {
        "protein": 10,
        "silicone_oil": 10,
    }


@pytest.mark.parametrize("method", ["duplicate", "diffusion"])
def test_part_of_a_store_has_the_rare_classes_of_the_whole(make_store, pool, method) -> None:
    part = make_store([("protein", "train", 40), ("silicone_oil", "train", 25)])
    mixture = mix(part, pool, arm(method), seed=0, rare=("silicone_oil",))
    assert mixture.added == {"protein": 0, "silicone_oil": 25}
    assert mixture.rare == ("silicone_oil",)


def test_a_negative_ratio_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match=r"augmentation.ratio.*-1"):
        AugmentationSettings.parse(augmentation().model_dump() | {"ratio": -1}, "augmentation")


def test_a_small_pool_says_how_many_it_has(real, pool) -> None:
    with pytest.raises(StoreError, match="silicone_oil: 30 of 35"):
        mix(real, pool, arm("diffusion", 5.0), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("silicone_oil", "protein")}, "classes"),
        ({"image_size": 32}, "32 px"),
        ({"origin": "real"}, "pool"),
    ],
)
def test_a_foreign_pool_is_refused(make_store, real, changes, message) -> None:
    pool = make_store([("silicone_oil", "", 50)], **{"origin": "synthetic", **changes})
    with pytest.raises(StoreError, match=message):
        mix(real, pool, arm("diffusion"), seed=0)


def test_simulated_images_may_be_added_unless_they_belong_to_a_split(make_store, real) -> None:
    pool = make_store([("silicone_oil", "", 9)], origin="simulated")
    assert mix(real, pool, arm("diffusion"), seed=0).added["silicone_oil"] == 7
    heldout = make_store([("silicone_oil", "test", 9)], origin="simulated")
    with pytest.raises(StoreError, match="9 of its images belong to a split"):
        mix(real, heldout, arm("diffusion"), seed=0)


def test_diffusion_without_a_pool_is_refused_but_ratio_zero_needs_none(real) -> None:
    with pytest.raises(StoreError, match="needs a pool"):
        mix(real, None, arm("diffusion"), seed=0)
    assert mix(real, None, arm("diffusion", 0.0), seed=0).row.tolist() == (
        mix(real, None, arm("none"), seed=0).row.tolist()
    )


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_synthetic_images_in_the_real_store_are_refused(make_store, split) -> None:
    mixed = make_store([("protein", split, 3), ("silicone_oil", "train", 3)], origin="synthetic")
    with pytest.raises(StoreError, match="synthetic images"):
        mix(mixed, None, arm("none"), seed=0)


@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_rows_are_refused(real, split) -> None:
    rows = train_rows(real)
    leaky = Mixture(**{**rows.__dict__, "row": np.append(rows.row[1:], real.indices(split)[0])})
    with pytest.raises(StoreError, match="outside its train split"):
        check_training_rows(leaky)


def test_a_class_without_training_images_is_named(make_store) -> None:
    store = make_store([("protein", "train", 3), ("silicone_oil", "test", 3)])
    with pytest.raises(StoreError, match="silicone_oil"):
        mix(store, None, arm("none"), seed=0)
