import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score

from svp_lightning.errors import SettingsError
from svp_lightning.evaluation.metrics import (
    CLASS_METRICS,
    MACRO_METRICS,
    classification_metrics,
)
from svp_lightning.evaluation.statistics import (
    _Resampled,
    bootstrap_intervals,
    paired_difference,
)

NAMES = ("protein", "silicone_oil", "air_bubble")


def predictions(rng, counts=(300, 40, 30), signal=1.5, decimals=None):
    labels = np.repeat([0, 1, 2], counts)
    scores = rng.normal(size=(len(labels), 3))
    scores[np.arange(len(labels)), labels] += signal
    exp = np.exp(scores)
    probabilities = (exp / exp.sum(1, keepdims=True)).astype(np.float32)
    if decimals is not None:  # many ties, within and between classes
        probabilities = probabilities.round(decimals)
    return labels, probabilities


def flatten(metrics):
    per_class = [metrics["per_class"][name][m] for name in NAMES for m in CLASS_METRICS]
    return np.array([metrics[m] for m in MACRO_METRICS] + per_class)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    signal=st.sampled_from([0.0, 1.5, 6.0]),
    decimals=st.sampled_from([None, 2, 1, 0]),
)
def test_resampled_metrics_equal_those_of_the_drawn_images(seed, signal, decimals):
    rng = np.random.default_rng(seed)
    labels, probabilities = predictions(rng, (30, 6, 5), signal, decimals)
    drawn = np.concatenate([rng.choice(np.flatnonzero(labels == k), n) for k, n in
                            enumerate((30, 6, 5))])  # fmt: skip
    times = np.bincount(drawn, minlength=len(labels)).astype(float)
    fast = _Resampled(labels, probabilities, 3)(times)
    slow = classification_metrics(labels[drawn], probabilities[drawn], NAMES)
    np.testing.assert_allclose(fast, flatten(slow), atol=1e-12)


def test_interval_agrees_with_scipy():
    labels, probabilities = predictions(np.random.default_rng(0))
    own, others = probabilities[labels == 1, 1], probabilities[labels != 1, 1]

    def auprc(own, others):
        truth = np.repeat([True, False], [len(own), len(others)])
        return average_precision_score(truth, np.concatenate([own, others]))

    expected = bootstrap(
        (own, others), auprc, vectorized=False, method="percentile", n_resamples=800, rng=0
    ).confidence_interval
    low, high = bootstrap_intervals(labels, probabilities, NAMES, resamples=800)["per_class"][
        "silicone_oil"
    ]["auprc"]
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_intervals_contain_the_metric_and_depend_on_the_seed_alone():
    labels, probabilities = predictions(np.random.default_rng(1))
    metrics = classification_metrics(labels, probabilities, NAMES)
    first = bootstrap_intervals(labels, probabilities, NAMES, resamples=200, seed=5)
    assert first == bootstrap_intervals(labels, probabilities, NAMES, resamples=200, seed=5)
    assert first != bootstrap_intervals(labels, probabilities, NAMES, resamples=200, seed=6)
    for name in MACRO_METRICS:
        low, high = first[name]
        assert low <= metrics[name] <= high
    narrow = bootstrap_intervals(labels, probabilities, NAMES, resamples=200, seed=5, level=0.5)
    assert np.ptp(narrow["macro_f1"]) < np.ptp(first["macro_f1"])


def test_intervals_cover_the_true_value():
    # The true values, from a sample large enough to know them well.
    rng = np.random.default_rng(2)
    labels, probabilities = predictions(rng, (40_000, 40_000, 40_000))
    true = classification_metrics(labels, probabilities, NAMES)
    covered = {"macro_recall": 0, "macro_auprc": 0, "accuracy": 0}
    repetitions = 80
    for seed in range(repetitions):
        sample = predictions(np.random.default_rng([3, seed]), (80, 80, 80))
        ci95 = bootstrap_intervals(*sample, NAMES, resamples=100, seed=seed)
        for name in covered:
            low, high = ci95[name]
            covered[name] += low <= true[name] <= high
    # 95 % is the aim; 0.87 leaves room for 3 standard deviations of 80 repetitions.
    assert all(count >= 0.87 * repetitions for count in covered.values()), covered


def test_weights_enter_the_intervals():
    labels, probabilities = predictions(np.random.default_rng(4), (100, 100, 100))
    weights = np.array([1000.0, 1.0, 1.0])[labels]
    ci95 = bootstrap_intervals(labels, probabilities, NAMES, weights, resamples=100)
    metrics = classification_metrics(labels, probabilities, NAMES, weights)
    low, high = ci95["per_class"]["silicone_oil"]["precision"]
    assert low <= metrics["per_class"]["silicone_oil"]["precision"] <= high < 0.1


def test_paired_difference_sees_what_separate_intervals_do_not():
    rng = np.random.default_rng(5)
    labels, worse = predictions(rng, (2000, 150, 150))
    # The better classifier makes the same mistakes, but for a few images it puts right.
    better = worse.copy()
    wrong = np.flatnonzero((worse.argmax(1) != labels) & (labels > 0))[:15]
    better[wrong] = np.eye(3, dtype=np.float32)[labels[wrong]]
    found = paired_difference(labels, worse, better, NAMES, "macro_recall", resamples=300)
    assert 0 < found.low <= found.difference <= found.high
    assert found.p_value < 0.05
    separate = [
        bootstrap_intervals(labels, p, NAMES, resamples=300)["macro_recall"]
        for p in (worse, better)
    ]
    assert separate[0][1] > separate[1][0]  # they overlap
    mirrored = paired_difference(labels, better, worse, NAMES, "macro_recall", resamples=300)
    assert mirrored.difference == -found.difference
    assert mirrored.p_value == found.p_value


def test_no_difference_is_no_finding():
    labels, probabilities = predictions(np.random.default_rng(6))
    same = paired_difference(labels, probabilities, probabilities, NAMES, resamples=50)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    with pytest.raises(SettingsError, match=r"silicone_oil\.auprc"):
        paired_difference(labels, probabilities, probabilities, NAMES, "auprc")
