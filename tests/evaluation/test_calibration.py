import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from svp_lightning.errors import DataError
from svp_lightning.evaluation.calibration import (
    apply_temperature,
    calibration,
    choose_threshold,
    expected_error,
    fit_temperature,
    reliability,
    working_points,
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
def test_temperature_scaling_undoes_its_inverse(temperature):
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


TWO = NAMES[:2]
EVEN, RARE = {"protein": 1.0, "silicone_oil": 1.0}, {"protein": 100.0, "silicone_oil": 1.0}


def split(seed, counts=(400, 100), signal=2.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], counts)
    score = 1 / (1 + np.exp(-rng.normal(signal * (labels - 0.5), 1)))
    return labels, np.stack([1 - score, score], axis=1)


def test_the_threshold_is_the_precise_one_of_largest_recall():
    labels, probabilities = split(0)
    truth, score = labels == 1, probabilities[:, 1]
    threshold, precision, recall = choose_threshold(truth, score, np.ones(len(truth)))
    called = score >= threshold
    assert precision == pytest.approx(truth[called].mean())
    assert precision >= 0.95
    assert recall == pytest.approx(called[truth].mean())
    looser = score >= score[truth & ~called].max()  # one more image of the class
    assert truth[looser].mean() < 0.95


def test_no_threshold_is_precise_enough():
    truth = np.array([False, True, False, True])
    assert choose_threshold(truth, np.array([0.9, 0.8, 0.7, 0.1]), np.ones(4)) is None
    wrong = np.array([0, 1]), np.array([[0.1, 0.9], [0.9, 0.1]])
    point = working_points(wrong, split(1), EVEN, TWO)["silicone_oil"]
    assert (point["threshold"], point["precision"], point["recall"]) == (None, 0, 0)


def test_validation_images_choose_the_threshold_and_test_images_judge_it():
    prevalence = {"protein": 4.0, "silicone_oil": 1.0}
    points = [working_points(split(0), split(s), prevalence, TWO) for s in (1, 2)]
    a, b = (point["silicone_oil"] for point in points)
    assert a["threshold"] == b["threshold"]
    assert a["recall"] != b["recall"]
    labels, probabilities = split(1)
    called = probabilities[:, 1] >= a["threshold"]
    assert a["recall"] == pytest.approx(called[labels == 1].mean())
    assert a["precision"] == pytest.approx((labels[called] == 1).mean())
    assert a["precision_ci95"][0] < a["precision"] < a["precision_ci95"][1]


def test_rarer_classes_need_stricter_thresholds():
    even, rare = (
        working_points(split(0), split(1), prevalence, TWO)["silicone_oil"]
        for prevalence in (EVEN, RARE)
    )
    assert rare["threshold"] > even["threshold"]
    assert rare["recall"] < even["recall"]


def test_a_class_without_validation_images_is_refused():
    with pytest.raises(DataError, match="silicone_oil"):
        working_points((np.zeros(3, int), np.full((3, 2), 0.5)), split(0), EVEN, TWO)
