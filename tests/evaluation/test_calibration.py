import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from svp_lightning.evaluation.calibration import (
    apply_temperature,
    calibration,
    expected_error,
    fit_temperature,
    reliability,
)

NAMES = ("protein", "silicone_oil", "air_bubble")


def calibrated(n=20_000, seed=0):
    """Probabilities, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.7, 0.7, 0.7], n)
    labels = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return labels, probabilities


def test_calibrated_probabilities_have_no_error_and_temperature_one():
    labels, probabilities = calibrated()
    found = calibration(labels, probabilities, NAMES, np.ones(len(labels)))
    assert found["ece"] < 0.015
    assert found["classwise_ece"] < 0.015
    assert fit_temperature(labels, probabilities, np.ones(len(labels))) == pytest.approx(
        1, abs=0.05
    )


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_temperature_mends_what_it_spoilt(temperature):
    labels, right = calibrated()
    spoilt = apply_temperature(right, 1 / temperature)
    weights = np.ones(len(labels))
    fitted = fit_temperature(labels, spoilt, weights)
    assert fitted == pytest.approx(temperature, rel=0.05)
    before = calibration(labels, spoilt, NAMES, weights)
    after = calibration(labels, apply_temperature(spoilt, fitted), NAMES, weights)
    assert after["ece"] < 0.3 * before["ece"]
    assert after["brier"] < before["brier"]
    assert (spoilt.argmax(1) == right.argmax(1)).all()


def test_brier_is_scikit_learns_and_bins_add_up():
    labels, probabilities = calibrated(500)
    found = calibration(labels, probabilities, NAMES, np.ones(500))
    theirs = sum(brier_score_loss(labels == k, probabilities[:, k]) for k in range(3))
    assert found["brier"] == pytest.approx(theirs)
    for bins in found["reliability"].values():
        assert sum(share for *_, share in bins) == pytest.approx(1)


def test_weights_count_images_and_one_is_in_the_last_bin():
    truth, probability = np.array([True, False]), np.array([1.0, 1.0])
    bins = reliability(truth, probability, np.array([3.0, 1.0]))
    assert bins.tolist() == [[1.0, 0.75, 1.0]]
    assert expected_error(bins) == pytest.approx(0.25)


def test_certain_and_wrong_is_finite():
    labels = np.array([0, 1, 2])
    wrong = np.roll(np.eye(3), 1, axis=1)
    assert np.isfinite(fit_temperature(labels, wrong, np.ones(3)))
