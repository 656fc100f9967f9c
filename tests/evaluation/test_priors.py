"""Corrected probabilities, with the exact posteriors of Gaussian classes as the oracle."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from svp_lightning.evaluation import priors
from svp_lightning.evaluation.counting import metric_names
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.priors import class_shares, corrected, estimated_shares

NAMES = ("protein", "silicone_oil", "air_bubble")
CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 1.5]])
IN_USE = {"protein": 1000.0, "silicone_oil": 1.0, "air_bubble": 1.0}
ARMS = {
    "natural": {"protein": 1000.0, "silicone_oil": 10.0, "air_bubble": 10.0},
    "diffusion": {"protein": 1000.0, "silicone_oil": 110.0, "air_bubble": 40.0},
    "balanced": {"protein": 1.0, "silicone_oil": 1.0, "air_bubble": 1.0},
}


def images(counts, seed=0):
    """Labels and features: classes that overlap, so that shares decide what is ranked first."""
    labels = np.repeat([0, 1, 2], counts)
    noise = np.random.default_rng(seed).normal(size=(len(labels), 2))
    return labels, CENTRES[labels] + noise


def exact(labels, features, shares):
    """What a perfect classifier says that was trained at these shares."""
    likelihood = [multivariate_normal(centre).pdf(features) for centre in CENTRES]
    weighted = np.transpose(likelihood) * class_shares(shares, NAMES)
    posterior = weighted / weighted.sum(axis=1, keepdims=True)
    return Predictions(np.empty(0, object), labels, posterior, NAMES, shares)


def flat(found, prevalence):
    macro = found.tally().metrics(prevalence)
    per_class = macro.pop("per_class")
    return np.array([*macro.values(), *(v for own in per_class.values() for v in own.values())])


def test_arms_trained_at_other_shares_get_the_same_corrected_metrics():
    test = images((4000, 300, 300))
    arms = [exact(*test, shares) for shares in ARMS.values()]
    raw = np.array([flat(arm, IN_USE) for arm in arms])
    fair = np.array([flat(arm.at(IN_USE), IN_USE) for arm in arms])
    np.testing.assert_allclose(fair, fair[[0, 0, 0]], atol=1e-9)
    auprc = metric_names(NAMES).index("macro_auprc")
    assert np.ptp(raw[:, auprc]) > 0.01  # of three classes, the shares decide the ranking too
    assert np.ptp(raw[:, metric_names(NAMES).index("macro_precision")]) > 0.1
    assert fair[2, auprc] > raw[2, auprc] + 0.03


@pytest.mark.parametrize("stored", [np.float32, np.float64])
def test_correction_gives_the_posterior_at_the_shares_in_use(stored):
    test = images((200, 50, 50))
    arm = exact(*test, ARMS["balanced"])
    arm = Predictions(arm.ids, arm.labels, arm.probabilities.astype(stored), NAMES, arm.shares)
    wanted = exact(*test, IN_USE).probabilities
    there = arm.at(IN_USE)
    np.testing.assert_allclose(there.probabilities, wanted, rtol=1e-5)
    np.testing.assert_allclose(there.at(IN_USE).probabilities, there.probabilities)
    np.testing.assert_allclose(there.at(ARMS["balanced"]).probabilities, arm.probabilities, 1e-5)


def test_the_right_prevalence_gives_the_best_metrics():
    """Within one arm, other shares rank the images worse for those in use."""
    auprc = metric_names(NAMES).index("macro_auprc")
    others = [(1.0, 1.0, 1.0), (1.0, 30.0, 30.0), (1000.0, 1.0, 500.0)]
    lost = np.zeros(len(others))
    for seed in (1, 2, 3):
        arm = exact(*images((40_000, 6000, 6000), seed), ARMS["diffusion"])
        best = flat(arm.at(IN_USE), IN_USE)[auprc]
        shares = [dict(zip(NAMES, of, strict=True)) for of in others]
        lost += [best - flat(arm.at(of), IN_USE)[auprc] for of in shares]
    assert (lost / 3 > 0.002).all(), lost / 3


def test_a_certain_image_of_an_impossible_class_stays_so():
    none = np.array([1.0, 0.0])
    found = corrected(np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([0.5, 0.5]), none)
    assert found.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("counts", [(5000, 50, 20), (300, 2000, 10), (100, 100, 2000)])
def test_the_shares_of_unlabelled_images_are_found_from_any_training(counts):
    test, true = images(counts, seed=2), np.array(counts) / sum(counts)
    for shares in ARMS.values():
        found = estimated_shares(exact(*test, shares).probabilities, class_shares(shares, NAMES))
        assert found.sum() == pytest.approx(1)
        np.testing.assert_allclose(found, true, atol=0.04)


def test_each_step_of_the_estimate_is_the_mean_of_the_corrected_probabilities(monkeypatch):
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 50).astype(np.float32)
    probabilities[:2] = np.eye(3)[:2]  # of images that can be of one class alone
    behind = share = np.array([0.5, 0.3, 0.2])
    for steps in range(1, 4):
        monkeypatch.setattr(priors, "MAX_ITERATIONS", steps)
        share = corrected(probabilities, behind, share).mean(axis=0)
        np.testing.assert_allclose(estimated_shares(probabilities, behind), share, rtol=1e-12)


def test_no_image_leaves_the_shares():
    shares = np.array([0.7, 0.2, 0.1])
    assert estimated_shares(np.empty((0, 3)), shares).tolist() == shares.tolist()
