"""The parts of an arm: their mathematics, how they combine, and that names tell the truth."""

import numpy as np
import pytest

from svp_lightning.data.mix import mix
from svp_lightning.errors import SettingsError
from tests.configured import augmentation

BLOCKS = [("protein", "train", 40), ("silicone_oil", "train", 8), ("silicone_oil", "val", 9)]


@pytest.fixture
def real(make_store):
    return make_store(BLOCKS)


@pytest.fixture
def pool(make_store):
    return make_store([("silicone_oil", "", 30)], origin="synthetic")


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_the_shift_is_tau_times_the_log_frequency(real, tau) -> None:
    arm = augmentation(method="logit_adjustment", loss="logit_adjustment", tau=tau)
    shift = mix(real, None, arm, seed=0).logit_shift
    np.testing.assert_allclose(shift, tau * np.log([40 / 48, 8 / 48]), rtol=1e-6)


SHARES = {"protein": 3.0, "silicone_oil": 1.0}
ADDED = {"extra": "diffusion", "ratio": 2}
TAU = {"loss": "logit_adjustment", "tau": 0.5}  # answers for the root of the frequencies
ARMS = {
    "none": ({}, 40 / 48),
    "duplicate": ({"extra": "duplicate", "ratio": 2}, 40 / 64),
    "balanced_sampling": ({"sampling": "balanced"}, 0.5),
    "class_weights": ({"loss": "class_weights"}, 0.5),
    "logit_adjustment_half": (TAU, 40**0.5 / (40**0.5 + 8**0.5)),
    "diffusion": ({}, 40 / 64),
    "diffusion_class_weights": ({"loss": "class_weights"}, 0.5),
    "diffusion_logit_adjustment": ({"loss": "logit_adjustment"}, 0.5),
    "diffusion_balanced_sampling": ({"sampling": "balanced"}, 0.5),
    "diffusion_stated": ({"sampling": SHARES}, 0.75),
    "diffusion_shared": ({"sampling": SHARES, "pool_share": 0.4}, 0.75),
}


@pytest.mark.parametrize("name", ARMS)
def test_trained_shares_are_those_of_what_the_loss_sees(real, pool, name) -> None:
    changes, protein = ARMS[name]
    added = ADDED if name.startswith("diffusion") else {}
    rows = mix(real, pool, augmentation(method=name, **added, **changes), seed=0)
    np.testing.assert_allclose(rows.trained_shares, [protein, 1 - protein], rtol=1e-6)
    assert rows.added == {"protein": 0, "silicone_oil": 16 if name.startswith("d") else 0}
    composed = rows.composition
    assert composed.shares.sum() == pytest.approx(1)
    assert (composed.shares * composed.weights).sum() == pytest.approx(1)
    if rows.logit_shift is None:
        np.testing.assert_allclose(composed.class_shares, rows.trained_shares)
    assert composed.shares[1, 0] == 0


def test_the_pool_has_its_share_of_the_rare_draws(real, pool) -> None:
    changes = {"sampling": SHARES, "pool_share": 0.4}
    rows = mix(real, pool, augmentation(method="diffusion", **ADDED, **changes), seed=0)
    np.testing.assert_allclose(rows.composition.shares[:, 1], [0.6 * 0.25, 0.4 * 0.25])


def test_as_many_as_the_rows_are_where_no_share_is_given(real, pool) -> None:
    rows = mix(real, pool, augmentation(method="diffusion", **ADDED), seed=0)
    np.testing.assert_allclose(rows.composition.shares, [[40 / 64, 8 / 64], [0, 16 / 64]])


def test_the_settings_of_a_pool_do_nothing_without_one(real) -> None:
    changes = {"pool_share": 0.4}
    rows = mix(real, None, augmentation(method="mixup", mixup=0.2, **changes), seed=0)
    assert rows.row.tolist() == list(range(48))
    assert rows.logit_shift is None
    np.testing.assert_allclose(rows.composition.weights, 1)
    assert augmentation(**changes).identity() == augmentation().identity()


def test_shares_name_every_class(real) -> None:
    arm = augmentation(method="none", sampling={"protein": 1.0})
    with pytest.raises(SettingsError, match="silicone_oil"):
        mix(real, None, arm, seed=0)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"method": "none", "sampling": "balanced"}, "balanced_sampling"),
        ({"method": "diffusion", "extra": "diffusion", "mixup": 0.2}, "diffusion_mixup"),
        (
            {"method": "diffusion", "extra": "diffusion", "ratio": 1, "plentiful_ratio": 1},
            "diffusion_all_classes",
        ),
        ({"method": "class_weights"}, "none"),
        ({"method": "hard_negatives"}, "none"),
        ({"method": "none", "hard_negatives": 0.1}, "hard_negatives"),
        ({"method": "anything"}, "none"),
        ({"method": "classical_strong_mixup", "strength": 1}, "classical"),
    ],
)
def test_a_name_that_hides_what_acts_is_refused(values, wanted) -> None:
    with pytest.raises(ValueError, match=f"augmentation.method={wanted}"):
        augmentation(**values)


@pytest.mark.parametrize("loss", ["class_weights", "logit_adjustment"])
def test_the_frequencies_are_made_up_for_only_once(loss) -> None:
    values = {"method": f"balanced_sampling_{loss}", "sampling": "balanced", "loss": loss}
    with pytest.raises(ValueError, match="choose one"):
        augmentation(**values)


def test_one_thing_shares_out_the_draws_of_the_other_classes() -> None:
    values = {"extra": "diffusion", "ratio": 1, "plentiful_ratio": 0.5, "hard_negatives": 0.1}
    with pytest.raises(ValueError, match="choose one"):
        augmentation(method="diffusion_all_classes_hard_negatives", **values)


def test_microscopes_are_chosen_among_no_fewer() -> None:
    values = {"extra": "simulated", "ratio": 1, "microscopes": 3}
    with pytest.raises(ValueError, match="candidates=2"):
        augmentation(method="simulated_matched", candidates=2, **values)
    chosen = augmentation(method="simulated_matched", candidates=3, **values).identity()
    assert chosen["candidates"] == 3
    assert "candidates" not in augmentation(method="simulated", **values).identity()


@pytest.mark.parametrize("extra", ["none", "duplicate"])
def test_only_generated_images_are_added_to_plentiful_classes(extra) -> None:
    values = {"method": f"{extra}_all_classes", "extra": extra, "plentiful_ratio": 0.5}
    with pytest.raises(ValueError, match="choose extra=diffusion"):
        augmentation(**values)


def test_what_has_no_effect_is_no_part_of_the_identity() -> None:
    none = augmentation(tau=3, ratio=2).identity()
    assert none == augmentation(method="none").identity()
    assert none == augmentation(method="diffusion", extra="diffusion", ratio=0).identity()
    everywhere = augmentation(method="diffusion_all_classes", extra="diffusion", plentiful_ratio=1)
    assert none == everywhere.identity()
    assert none == augmentation(hard_share=0.5).identity()
    used = everywhere.model_copy(update={"ratio": 1.0}).identity()
    assert used["plentiful_ratio"] == 1
    adjusted = augmentation(method="logit_adjustment", loss="logit_adjustment")
    assert adjusted.identity() != adjusted.model_copy(update={"tau": 2.0}).identity()
    mild = augmentation(method="classical_mild", strength=0.5)
    assert mild.identity() == augmentation(method="classical", strength=0.5).identity()
