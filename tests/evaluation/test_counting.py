"""One engine for all metrics, with scikit-learn and scipy as the oracles."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    precision_recall_curve,
    precision_recall_fscore_support,
)

from svp_lightning.errors import DataError, SettingsError
from svp_lightning.evaluation.counting import (
    CLASS_METRICS,
    MACRO_METRICS,
    SUPPORTED,
    Tally,
    metric_names,
    precision_recall,
    recall_at_precision,
    within_reach,
)
from svp_lightning.evaluation.intervals import percentile_intervals
from svp_lightning.evaluation.predictions import Predictions, prevalence_table
from svp_lightning.evaluation.priors import prevalence_weights
from svp_lightning.evaluation.redraws import draw_runs
from tests.examples import examples

NAMES = ("protein", "silicone_oil", "air_bubble")
IN_USE = {"protein": 1000.0, "silicone_oil": 1.0, "air_bubble": 2.0}


def predictions(seed, counts=(60, 9, 7), signal=1.5, decimals=None):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([0, 1, 2], counts))
    scores = rng.normal(size=(len(labels), 3))
    scores[np.arange(len(labels)), labels] += signal
    p = (np.exp(scores) / np.exp(scores).sum(1, keepdims=True)).astype(np.float32)
    return labels, p if decimals is None else p.round(decimals)  # rounded: many ties


def found(seed, counts):
    labels, p = predictions(seed, counts)
    return Predictions(np.empty(0, object), labels, p, NAMES, dict.fromkeys(NAMES, 1 / 3))


def flat(metrics):
    per_class = [metrics["per_class"][name][m] for name in NAMES for m in CLASS_METRICS]
    return np.array([metrics[m] for m in MACRO_METRICS] + per_class)


def scikit_learn(labels, p, weights=None):
    """The flat metrics, image by image."""
    p, per_class = p.astype(np.float64), []
    of_classes = precision_recall_fscore_support(
        labels, p.argmax(1), labels=[0, 1, 2], sample_weight=weights, zero_division=0
    )
    for k, values in enumerate(np.transpose(of_classes[:3])):
        precision, recall, _ = precision_recall_curve(labels == k, p[:, k], sample_weight=weights)
        area = average_precision_score(labels == k, p[:, k], sample_weight=weights)
        per_class.append([*values, area, recall[precision >= 0.95 - 1e-9].max(initial=0)])
    macro = np.mean(per_class, axis=0)[:4]
    accuracy = accuracy_score(labels, p.argmax(1), sample_weight=weights)
    return np.concatenate([macro, [accuracy], np.ravel(per_class)])


@examples(60)
@given(
    seed=st.integers(0, 10_000),
    signal=st.sampled_from([0.0, 1.5, 9.0]),
    decimals=st.sampled_from([None, 2, 1, 0]),
    prevalence=st.sampled_from([None, IN_USE]),
)
@example(seed=158, signal=1.5, decimals=0, prevalence=None)  # 38 of 40 is 95 %
def test_metrics_are_scikit_learns_at_any_prevalence(seed, signal, decimals, prevalence):
    labels, p = predictions(seed, signal=signal, decimals=decimals)
    weights = None if prevalence is None else prevalence_weights(labels, prevalence, NAMES)
    found = Tally(labels, p, NAMES).metrics(prevalence)
    np.testing.assert_allclose(flat(found), scikit_learn(labels, p, weights), atol=1e-9)
    assert flat(found).max() <= 1  # scikit-learn's may exceed it by rounding


@examples(20)
@given(seed=st.integers(0, 10_000), decimals=st.sampled_from([None, 1, 0]))
def test_redrawn_metrics_are_those_of_the_drawn_images(seed, decimals):
    labels, p = predictions(seed, decimals=decimals)
    redrawn = Tally(labels, p, NAMES).redrawn(resamples=3, seed=seed)
    for number, found in enumerate(redrawn):
        generator = np.random.Generator(np.random.SFC64([seed, number]))
        rows = [np.flatnonzero(labels == k) for k in range(3)]
        drawn = np.concatenate([r[generator.integers(len(r), size=len(r))] for r in rows])
        np.testing.assert_allclose(found, scikit_learn(labels[drawn], p[drawn]), atol=1e-9)


def test_shape_is_that_of_results_json():
    metrics = Tally(*predictions(0), NAMES).metrics()
    assert tuple(metrics) == (*MACRO_METRICS, "per_class")
    assert tuple(metrics["per_class"]) == NAMES
    assert all(tuple(values) == CLASS_METRICS for values in metrics["per_class"].values())
    assert json.loads(json.dumps(metrics)) == metrics


def test_perfect_and_constant_predictions():
    labels = np.array([0, 0, 1, 2])
    perfect = Tally(labels, np.eye(3)[labels], NAMES).metrics()
    assert all(perfect[name] == 1 for name in MACRO_METRICS)
    constant = Tally(labels, np.tile([0.8, 0.1, 0.1], (4, 1)), NAMES).metrics()
    bubble = constant["per_class"]["air_bubble"]
    assert bubble["precision"] == bubble["f1"] == bubble["recall_at_precision_95"] == 0
    assert bubble["auprc"] == pytest.approx(0.25)  # one of four images, all tied
    assert constant["macro_recall"] == pytest.approx(1 / 3)


def test_recall_at_precision_counts_down_to_the_last_good_threshold():
    # By score: 19 oil, 1 protein, 1 oil, 1 bubble: 20 of the first 21 are oil, 95.2 %.
    labels = np.array([1] * 19 + [0] + [1, 2])
    oil = np.linspace(0.9, 0.1, 22)
    p = np.stack([1 - oil, oil, np.zeros(22)], axis=1)

    def found():
        own = Tally(labels, p, NAMES).metrics()["per_class"]["silicone_oil"]
        best = recall_at_precision(*precision_recall(labels == 1, p[:, 1])[:2])
        assert own["recall_at_precision_95"] == pytest.approx(best)
        return own["recall_at_precision_95"]

    assert found() == pytest.approx(1.0)
    p[19, 1] = 1.0  # the protein image leads
    assert found() == pytest.approx(1.0)
    labels[3] = 0  # a second one: 19 of 21, 90.5 %
    assert found() == 0


def test_curve_starts_at_the_strictest_threshold():
    labels, p = predictions(3)
    precision, recall, threshold = precision_recall(labels == 1, p[:, 1])
    assert (np.diff(threshold) < 0).all()
    assert (np.diff(recall) >= 0).all()
    for at in (0, 5, -1):
        called = p[:, 1] >= threshold[at]
        assert precision[at] == pytest.approx((labels[called] == 1).mean())
        assert recall[at] == pytest.approx(called[labels == 1].mean())


def test_a_rarer_class_is_called_less_often_and_ranked_worse():
    table = prevalence_table(found(0, (100, 100, 100)), "protein", (1, 10, 100, 1000))
    assert table["ratio"].tolist() == [1, 10, 100, 1000]
    assert set(table["common"]) == {"protein"}
    assert table["silicone_oil/auprc"].is_monotonic_decreasing
    assert table["protein/auprc"].is_monotonic_increasing
    assert table["silicone_oil/recall"].is_monotonic_decreasing  # a rare class has to be surer


def test_a_recall_that_two_errors_would_undo_is_marked():
    """19 times the weight of two must be found: with 3,800 protein images up to 100 : 1."""
    share, images = np.array([100, 1, 1]) / 102, np.array([3800, 100, 100])
    assert within_reach(np.ones(3), share, images).tolist() == [True, True, True]
    assert within_reach(np.array([1.0, 0.99, 0.5]), share, images).tolist() == [True, False, False]
    assert within_reach(np.zeros(3), share, images).all()  # all of the class could be found
    assert not within_reach(np.ones(3), share, images // 10)[1:].any()


def test_recall_at_a_ratio_out_of_reach_does_not_move_and_is_marked():
    table = prevalence_table(found(0, (2000, 600, 600)), "protein", (1, 1e3, 1e6))
    recall = table["silicone_oil/recall_at_precision_95"]
    assert 0 < recall[1] == pytest.approx(recall[2])
    assert table[f"silicone_oil/{SUPPORTED}"].tolist() == [True, False, False]


def test_weights_have_mean_1_and_the_stated_shares():
    labels = np.repeat([0, 1, 2], (30, 20, 10))
    weights = prevalence_weights(labels, IN_USE, NAMES)
    assert weights.mean() == pytest.approx(1)
    assert weights[labels == 0].sum() / weights[labels == 1].sum() == pytest.approx(1000)


def test_intervals_agree_with_scipy_and_depend_on_the_seed_alone():
    labels, p = predictions(0, (300, 40, 30))
    tally = Tally(labels, p, NAMES)

    def auprc(own, others):
        truth = np.repeat([True, False], [len(own), len(others)])
        return average_precision_score(truth, np.concatenate([own, others]))

    expected = bootstrap(
        (p[labels == 1, 1], p[labels != 1, 1]), auprc,
        vectorized=False, method="percentile", n_resamples=500, rng=0,
    ).confidence_interval  # fmt: skip
    redrawn = tally.redrawn(resamples=800)
    low, high = percentile_intervals(redrawn, NAMES)["per_class"]["silicone_oil"]["auprc"]
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.025)
    # A draw depends on its number alone.
    np.testing.assert_array_equal(tally.redrawn(resamples=5), redrawn[:5])
    assert (tally.redrawn(resamples=5, seed=1) != redrawn[:5]).any()
    ends, metrics = percentile_intervals(redrawn, NAMES), tally.metrics()
    assert all(ends[name][0] <= metrics[name] <= ends[name][1] for name in MACRO_METRICS)


def test_intervals_cover_the_true_value():
    true = Tally(*predictions(2, (20_000,) * 3), NAMES).metrics()
    covered = {"macro_recall": 0, "macro_auprc": 0, "accuracy": 0}
    repetitions = 80
    for seed in range(repetitions):
        redrawn = Tally(*predictions([3, seed], (80, 80, 80)), NAMES).redrawn(resamples=100)
        ci95 = percentile_intervals(redrawn, NAMES)
        for name in covered:
            covered[name] += ci95[name][0] <= true[name] <= ci95[name][1]
    # 95 % is the aim; 0.87 leaves room for 3 standard deviations of 80 repetitions.
    assert all(count >= 0.87 * repetitions for count in covered.values()), covered


def test_whole_groups_are_redrawn():
    labels = np.repeat([0, 1, 2], (200, 40, 40))
    groups = np.arange(len(labels)) % 4
    # A run is right or wrong as a whole, so its images are one observation, not seventy.
    p = np.where((groups < 2)[:, None], np.eye(3)[labels], np.roll(np.eye(3)[labels], 1, axis=1))
    tally, recall = Tally(labels, p, NAMES), metric_names(NAMES).index("protein/recall")
    images = tally.redrawn(resamples=200)[:, recall]
    runs = tally.redrawn(groups=groups, resamples=200)[:, recall]
    assert runs.std() > 4 * images.std()
    assert set(np.round(runs * 4).astype(int)) == {0, 1, 2, 3, 4}
    with pytest.raises(DataError, match="one run"):
        tally.redrawn(groups=np.zeros(len(labels), int), resamples=2)


def test_the_classes_of_a_run_are_redrawn_together():
    """A bad run is bad in all its classes, so a mean over classes varies as each of them does."""
    runs, labels = np.repeat(np.arange(20), 30), np.tile(np.repeat([0, 1, 2], 10), 20)
    p = np.eye(3)[np.where(runs < 10, labels, (labels + 1) % 3)]
    redrawn = Tally(labels, p, NAMES).redrawn(groups=runs, resamples=300)
    names = metric_names(NAMES)
    recall = redrawn[:, [names.index(f"{name}/recall") for name in NAMES]]
    np.testing.assert_allclose(recall, recall[:, :1].repeat(3, axis=1))
    assert redrawn[:, names.index("macro_recall")].std() == pytest.approx(0.5 / 20**0.5, rel=0.15)


def test_every_redrawn_test_set_holds_every_class():
    labels = np.repeat([0, 1, 2], (200, 4, 4))
    runs = np.concatenate([np.arange(200) // 5, [1, 1, 2, 2], [3, 3, 4, 4]])
    p = np.full((len(labels), 3), 0.25) + 0.25 * np.eye(3)[labels]
    redrawn = Tally(labels, p, NAMES).redrawn(groups=runs, resamples=100)
    np.testing.assert_allclose(redrawn, 1)  # each class keeps its images, all of them right


def test_unusable_input_is_refused_by_name():
    labels, p = predictions(0)
    with pytest.raises(DataError, match="air_bubble"):
        Tally(labels[labels < 2], p[labels < 2], NAMES)
    with pytest.raises(DataError, match="shape"):
        Tally(labels, p[:, :2], NAMES)
    with pytest.raises(DataError, match="-1"):
        Tally(labels - 1, p, NAMES)
    for impossible in ({"dust": 1.0}, {"protein": 1.0, "silicone_oil": 0.0, "air_bubble": 1.0}):
        with pytest.raises(SettingsError, match="prevalence"):
            Tally(labels, p, NAMES).metrics(impossible)
    p[7, 1] = np.nan
    with pytest.raises(DataError, match="image 7"):
        Tally(labels, p, NAMES)


def test_runs_that_hardly_ever_hold_all_classes_are_refused():
    with pytest.raises(DataError, match="all classes"):
        draw_runs(np.random.default_rng(0), np.eye(12, dtype=int), 12, resamples=5)
