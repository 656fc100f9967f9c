import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from svp_lightning.evaluation.counting import Tally
from svp_lightning.evaluation.intervals import (
    confidence_intervals,
    percentile_intervals,
    precision,
    wilson_interval,
)

NAMES = ("protein", "silicone_oil")


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 200), (57, 100), (30, 30)])
def test_wilson_is_scipys(k, n):
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    found = wilson_interval(np.array([k]), np.array([n]))
    assert np.ravel(found) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_trials_say_nothing():
    assert np.ravel(wilson_interval(np.array([0]), np.array([0]))).tolist() == [0, 1]


def test_precision_covers_the_truth_where_the_bootstrap_collapses():
    # 3 in 1,000 proteins are called oil: a test set of 200 often shows none.
    rng = np.random.default_rng(0)
    images, shares = np.array([200, 40]), np.array([0.9, 0.1])
    rates = np.array([0.003, 0.9])
    true = 0.1 * 0.9 / (0.1 * 0.9 + 0.9 * 0.003)
    held, collapsed = 0, 0
    for _ in range(1000):
        called = rng.binomial(images, rates)
        found = precision(called, images, 1, shares)
        held += found.low <= true <= found.high
        collapsed += called[0] == 0
        assert 0 <= found.low <= found.value <= found.high <= 1
    assert collapsed > 400  # each of these would have the interval [1, 1], which misses
    assert held >= 930


def ends(k: int, n: int) -> tuple[float, float]:
    found = stats.binomtest(k, n).proportion_ci(method="wilson")
    return found.low, found.high


def test_the_ends_of_precision_solve_the_equations_of_mover():
    """Of the ratio t of false to true calls: (a - t b)² is the sum of both squared distances."""
    called, images = np.array([6, 50, 3]), np.array([100, 60, 80])
    shares = np.array([0.5, 0.2, 0.3])
    found = precision(called, images, 1, shares)
    rate = called / images
    low, high = np.transpose([ends(*each) for each in zip(called, images, strict=True)])
    a, b = shares[[0, 2]] @ rate[[0, 2]], shares[1] * rate[1]
    assert found.value == pytest.approx(b / (a + b))
    for end, false, true in ((found.high, low, high), (found.low, high, low)):
        t = 1 / end - 1
        distance = np.sum((shares * (rate - false))[[0, 2]] ** 2)
        distance += t**2 * (shares[1] * (rate - true)[1]) ** 2
        assert (a - t * b) ** 2 == pytest.approx(distance)
    assert found.low < found.value < found.high


def test_macro_recall_has_the_ends_of_a_mean_of_independent_shares():
    called = np.repeat([0, 1, 0, 1], [20, 10, 4, 6])
    tally = Tally(np.repeat([0, 1], [30, 10]), np.eye(2)[called], NAMES)
    redrawn = tally.redrawn(resamples=1)
    redrawn = np.full_like(redrawn, 0.62)  # between the ends of both classes and of their mean
    ci95 = confidence_intervals(redrawn, tally, dict.fromkeys(NAMES, 1.0))
    parts = np.array([[20 / 30, *ends(20, 30)], [6 / 10, *ends(6, 10)]])
    value, low, high = parts.T
    expected = value.mean() + np.array(
        [-np.linalg.norm(value - low) / 2, np.linalg.norm(high - value) / 2]
    )
    assert ci95["macro_recall"] == pytest.approx(expected)
    assert ci95["per_class"]["protein"]["recall"] == pytest.approx(parts[0, 1:])


@pytest.mark.parametrize("called", [(0, 20), (5, 0), (50, 20), (0, 1)])
def test_precision_at_the_edges(called):
    found = precision(np.array(called), np.array([50, 20]), 1, np.array([0.99, 0.01]))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low


def test_a_class_never_called_has_precision_0_by_convention():
    found = precision(np.array([0, 0]), np.array([50, 20]), 1, np.array([0.5, 0.5]))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_perfect_small_test_set_is_not_certainty():
    labels = np.repeat([0, 1], [30, 8])
    probabilities = np.eye(2)[labels]
    tally = Tally(labels, probabilities, NAMES)
    ci95 = confidence_intervals(tally.redrawn(resamples=20), tally, {"protein": 30, NAMES[1]: 8})
    low, high = ci95["per_class"]["silicone_oil"]["precision"]
    assert low < 0.85
    assert high == 1
    assert ci95["per_class"]["silicone_oil"]["recall"] == pytest.approx(ends(8, 8))
    assert ci95["per_class"]["silicone_oil"]["auprc"] == pytest.approx(ends(8, 8))
    assert ci95["macro_precision"][0] < 0.95
    assert ci95["macro_recall"][0] < 0.95
    assert ci95["macro_auprc"][0] < 0.95


def test_large_test_sets_keep_their_percentiles():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [3000, 3000])
    score = np.clip(rng.normal(0.35 + 0.3 * labels, 0.2), 0, 1)
    probabilities = np.stack([1 - score, score], axis=1)
    tally = Tally(labels, probabilities, NAMES)
    redrawn = tally.redrawn(resamples=300)
    ci95 = confidence_intervals(redrawn, tally, dict.fromkeys(NAMES, 1.0))
    column = 5 + 5  # precision of the second class
    low, high = np.quantile(redrawn[:, column], [0.025, 0.975])
    assert ci95["per_class"]["silicone_oil"]["precision"] == pytest.approx([low, high], abs=0.003)
    low, high = np.quantile(redrawn[:, column + 3], [0.025, 0.975])
    assert ci95["per_class"]["silicone_oil"]["auprc"] == pytest.approx([low, high], abs=0.003)


def test_auprc_of_few_images_holds_the_truth_where_percentiles_do_not():
    """One number per image, normal; the rare class lies 4 standard deviations higher."""
    true = quad(lambda recall: recall / (recall + 27 * norm.sf(norm.isf(recall) + 4)), 0, 1)[0]
    held = {"percentiles": 0, "ours": 0}
    labels = np.repeat([0, 1], [1000, 50])
    for trial in range(200):
        score = np.random.default_rng(trial).normal(4.0 * labels)
        rare = expit(4 * score - 8 - np.log(27))
        tally = Tally(labels, np.stack([1 - rare, rare], axis=1), NAMES)
        prevalence = {"protein": 27.0, "silicone_oil": 1.0}
        redrawn = tally.redrawn(prevalence, resamples=100)
        for way, ci95 in (
            ("percentiles", percentile_intervals(redrawn, NAMES)),
            ("ours", confidence_intervals(redrawn, tally, prevalence)),
        ):
            low, high = ci95["per_class"]["silicone_oil"]["auprc"]
            held[way] += low <= true <= high
    assert held["percentiles"] < 180 < 184 <= held["ours"], held
