import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import brier_score_loss

from svp_lightning.errors import SettingsError
from svp_lightning.evaluation.calibration import (
    Scaling,
    calibration,
    calibration_of,
    expected_error,
    fit_scaling,
    for_new_images,
    reliability,
)
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.schema import Results
from tests.report.made_up import made_up_results

NAMES = ("protein", "silicone_oil", "air_bubble")
EQUAL = dict.fromkeys(NAMES, 1 / 3)


def calibrated(n=20_000, seed=0, shares=EQUAL):
    """Probabilities that answer for ``shares``, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=list(shares.values()))
    scores = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[labels]
    p = np.exp(1.5 * scores) * list(shares.values())
    probabilities = p / p.sum(axis=1, keepdims=True)
    return Predictions(np.empty(0, object), labels, probabilities, NAMES, shares)


def judged(found):
    return calibration(found.labels, found.probabilities, NAMES, np.ones(len(found.labels)))


def test_calibrated_probabilities_have_no_error_and_need_no_scaling():
    right = calibrated()
    assert judged(right)["ece"] < 0.015
    assert judged(right)["classwise_ece"] < 0.015
    fitted = fit_scaling(right)
    assert fitted.temperature == pytest.approx(1, abs=0.05)
    assert fitted.biases == pytest.approx(np.zeros(3), abs=0.06)


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_scaling_undoes_its_inverse(temperature):
    right, biases = calibrated(), np.array([-0.6, 0.1, 0.5])
    spoilt = Scaling(1 / temperature, -biases * temperature)(right)
    fitted = fit_scaling(spoilt)
    assert fitted.temperature == pytest.approx(temperature, rel=0.06)
    assert fitted.biases == pytest.approx(biases, abs=0.07)
    before, after = judged(spoilt), judged(fitted(spoilt))
    assert after["ece"] < 0.3 * before["ece"]
    assert after["brier"] < before["brier"]


def test_a_scaling_holds_at_any_class_shares():
    """Fitted where validation images are balanced, judged where one class is common."""
    in_use = {"protein": 0.9, "silicone_oil": 0.05, "air_bubble": 0.05}
    spoil = Scaling(0.5, np.array([0.5, -0.5, 0.0]))
    fitted = fit_scaling(spoil(calibrated()))
    assert judged(fitted(spoil(calibrated(shares=in_use))))["ece"] < 0.015
    moved = fitted(spoil(calibrated(seed=1))).at(in_use)
    assert moved.shares == pytest.approx(in_use)
    weights = np.array(list(in_use.values()))[moved.labels]
    assert calibration(moved.labels, moved.probabilities, NAMES, weights)["ece"] < 0.02


def test_without_a_scaling_probabilities_stay():
    right = calibrated(100)
    same = Scaling(1.0, np.zeros(3))(right)
    np.testing.assert_allclose(same.probabilities, right.probabilities)


def test_both_kinds_of_probabilities_are_judged_at_the_prevalence():
    in_use = {"protein": 98.0, "silicone_oil": 1.0, "air_bubble": 1.0}
    found = calibration_of(calibrated(seed=1), calibrated(seed=2), in_use)
    assert found["as_is"]["ece"] < 0.01  # at the shares trained at they would be far off
    assert abs(found["scaled"]["ece"] - found["as_is"]["ece"]) < 0.01
    assert sum(found["biases"].values()) == pytest.approx(0)


def test_brier_is_scikit_learns_and_bins_add_up():
    right = calibrated(500)
    labels, probabilities = right.labels, right.probabilities
    found = judged(right)
    theirs = sum(brier_score_loss(labels == k, probabilities[:, k]) for k in range(3))
    assert found["brier"] == pytest.approx(theirs)
    for bins in found["reliability"].values():
        assert sum(share for *_, share in bins) == pytest.approx(1)


def test_weights_count_images_and_one_is_in_the_last_bin():
    truth, probability = np.array([True, False]), np.array([1.0, 1.0])
    bins = reliability(truth, probability, np.array([3.0, 1.0]))
    assert bins.tolist() == [[1.0, 0.75, 1.0]]
    assert expected_error(bins) == pytest.approx(0.25)


@pytest.mark.parametrize("p", [np.eye(3), np.roll(np.eye(3), 1, axis=1)])
def test_a_few_images_all_right_or_all_wrong_give_a_moderate_scaling(p):
    few = Predictions(np.empty(0, object), np.array([0, 1, 2]), p, NAMES, EQUAL)
    fitted = fit_scaling(few)
    assert 0.03 < fitted.temperature < 25
    assert np.abs(fitted.biases).max() < 3
    assert np.isfinite(fitted(few).probabilities).all()


def results_with(scaling, prevalence):
    values = made_up_results(tuple(prevalence))
    values["calibration"] |= {
        "temperature": scaling.temperature,
        "biases": dict(zip(prevalence, scaling.biases.tolist(), strict=True)),
    }
    return Results.model_validate(values | {"prevalence": prevalence})


@pytest.mark.parametrize("in_use", [(1000, 1, 1), (20, 3, 1), (1, 10, 1)])
def test_new_images_are_counted_right_whatever_their_mixture(in_use):
    """A classifier that is too sure and favours a class; its scaling is known from validation."""
    mixture = {n: s / sum(in_use) for n, s in zip(NAMES, in_use, strict=True)}
    spoil = Scaling(0.5, np.array([0.8, -0.4, -0.4]))
    scaling = fit_scaling(spoil(calibrated()))
    known = results_with(scaling, dict.fromkeys(NAMES, 1 / 3))
    new = calibrated(shares=mixture, seed=5)  # the images; the classifier was trained at EQUAL
    raw = spoil(new.at(EQUAL))
    shares = np.array(list(for_new_images(raw, "estimated", None, known).shares.values()))
    np.testing.assert_allclose(shares, list(mixture.values()), atol=0.015)
    assert for_new_images(raw, "trained", None, known) is raw
    assert for_new_images(raw, "given", mixture, None).shares == pytest.approx(mixture)
    called = {how: for_new_images(raw, how, None, known).probabilities.argmax(axis=1)
              for how in ("estimated", "trained", "stated")}  # fmt: skip
    right = {how: (classes == new.labels).mean() for how, classes in called.items()}
    assert right["estimated"] >= max(right["trained"], right["stated"]) + 0.01
    with pytest.raises(SettingsError, match="stated"):
        for_new_images(raw, "stated", None, None)


@pytest.mark.parametrize("how", ["given", "stated"])
def test_hard_negatives_do_not_make_known_shares_miss_a_class(how):
    """The hardest 5 % of the proteins have 0.3 of the draws of their class besides."""
    names, in_use = NAMES[:2], {"protein": 0.99, "silicone_oil": 0.01}
    share, hardest = 0.3, norm.ppf(0.95)

    def seen(images, seed, share):
        labels = np.repeat([0, 1], images)
        x = np.random.default_rng(seed).normal(size=len(labels)) + 4 * labels
        protein = norm.pdf(x) * (1 - share + share / 0.05 * (x > hardest))
        p = np.stack([protein, norm.pdf(x - 4)], axis=1)
        p /= p.sum(axis=1, keepdims=True)
        return Predictions(np.empty(0, object), labels, p, names, dict.fromkeys(names, 0.5))

    validation = seen((4000, 1000), 0, share)
    known, new = results_with(fit_scaling(validation), in_use), ((198_000, 2000), 1)
    exact, raw = seen(*new, 0.0).at(in_use), seen(*new, share)
    counted = for_new_images(raw, how, in_use, known)
    found = [one.probabilities.argmax(axis=1).sum() for one in (exact, raw.at(in_use), counted)]
    assert found[1] < 0.8 * found[0]
    assert found[2] == pytest.approx(found[0], rel=0.1)
