"""The parts of an arm: their mathematics, how they combine, and that names tell the truth."""

import numpy as np
import pytest

from svp_lightning.data.mix import mix
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


def test_remedies_count_added_images_too(real, pool) -> None:
    added = {"extra": "diffusion", "ratio": 2}
    arms = {
        "balanced_sampling": {"sampling": "balanced"},
        "class_weights": {"loss": "class_weights"},
        "logit_adjustment": {"loss": "logit_adjustment"},
    }
    rows = {
        name: mix(real, pool, augmentation(method=f"diffusion_{name}", **added, **part), seed=0)
        for name, part in arms.items()
    }
    frequency = np.array([40, 8 + 16]) / 64
    balanced = rows["balanced_sampling"]
    drawn = [balanced.sampling_weights[balanced.label == c].sum() for c in (0, 1)]
    assert drawn[0] == pytest.approx(drawn[1])
    # Within a class real and generated images are drawn alike.
    assert len(np.unique(balanced.sampling_weights[balanced.label == 1])) == 1
    np.testing.assert_allclose(rows["class_weights"].class_weights * frequency, 0.5, rtol=1e-6)
    np.testing.assert_allclose(np.exp(rows["logit_adjustment"].logit_shift), frequency, rtol=1e-6)
    for mixture in rows.values():
        assert mixture.added == {"protein": 0, "silicone_oil": 16}


def test_only_the_part_asked_for_acts(real) -> None:
    rows = mix(real, None, augmentation(method="mixup", mixup=0.2), seed=0)
    assert rows.row.tolist() == list(range(48))
    assert rows.class_weights is rows.sampling_weights is rows.logit_shift is None


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
    used = everywhere.model_copy(update={"ratio": 1.0}).identity()
    assert used["plentiful_ratio"] == 1
    adjusted = augmentation(method="logit_adjustment", loss="logit_adjustment")
    assert adjusted.identity() != adjusted.model_copy(update={"tau": 2.0}).identity()
    mild = augmentation(method="classical_mild", strength=0.5)
    assert mild.identity() == augmentation(method="classical", strength=0.5).identity()
