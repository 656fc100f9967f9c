import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score

from svp_lightning.errors import DataError, SettingsError
from svp_lightning.evaluation.metrics import (
    CLASS_METRICS,
    MACRO_METRICS,
    classification_metrics,
)
from svp_lightning.evaluation.prevalence import prevalence_weights
from svp_lightning.evaluation.statistics import resampled_metrics
from svp_lightning.evaluation.tally import tally_arrays

NAMES = ("protein", "silicone_oil", "air_bubble")


def predictions(seed=0, counts=(300, 40, 30), signal=1.5):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], counts)
    scores = rng.normal(size=(len(labels), 3))
    scores[np.arange(len(labels)), labels] += signal
    exp = np.exp(scores)
    return labels, (exp / exp.sum(1, keepdims=True)).astype(np.float32)


def test_shape_is_that_of_results_json():
    metrics = classification_metrics(*predictions(), NAMES)
    assert tuple(metrics) == (*MACRO_METRICS, "per_class")
    assert tuple(metrics["per_class"]) == NAMES
    assert all(tuple(values) == CLASS_METRICS for values in metrics["per_class"].values())
    assert json.loads(json.dumps(metrics)) == metrics


def test_agrees_with_scikit_learn():
    labels, probabilities = predictions()
    metrics = classification_metrics(labels, probabilities, NAMES)
    predicted = probabilities.argmax(1)
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert metrics["per_class"]["silicone_oil"]["auprc"] == pytest.approx(
        average_precision_score(labels == 1, probabilities[:, 1])
    )
    assert metrics["accuracy"] == pytest.approx((labels == predicted).mean())


def test_perfect_and_constant_predictions():
    labels = np.array([0, 0, 1, 2])
    perfect = classification_metrics(labels, np.eye(3)[labels], NAMES)
    assert all(perfect[name] == 1 for name in MACRO_METRICS)
    constant = classification_metrics(labels, np.tile([0.8, 0.1, 0.1], (4, 1)), NAMES)
    bubble = constant["per_class"]["air_bubble"]
    assert bubble["precision"] == bubble["f1"] == bubble["recall_at_precision_95"] == 0
    assert bubble["auprc"] == pytest.approx(0.25)  # one of four images, all tied
    assert constant["macro_recall"] == pytest.approx(1 / 3)


def test_perfect_rankings_never_exceed_1_by_rounding():
    beyond = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels, weights = np.repeat([0, 1, 2], (50, 19, 17)), rng.random(3)
        weights, own = weights[labels], rng.uniform(0.6, 1, len(labels))
        probabilities = np.repeat((1 - own)[:, None] / 2, 3, axis=1)
        probabilities[np.arange(len(labels)), labels] = own
        truth = labels == 1
        beyond += average_precision_score(truth, probabilities[:, 1], sample_weight=weights) > 1
        found = classification_metrics(labels, probabilities, NAMES, weights)
        assert max(found[name] for name in MACRO_METRICS) <= 1
        assert max(own["auprc"] for own in found["per_class"].values()) == 1
        assert resampled_metrics(labels, probabilities, NAMES, weights, resamples=5).max() <= 1
        prevalence = dict(zip(NAMES, rng.random(3), strict=True))
        counted = tally_arrays(labels, probabilities, NAMES).metrics(prevalence)
        assert max(counted[name] for name in MACRO_METRICS) <= 1
    assert beyond  # scikit-learn's do, so the test can fail


def test_recall_at_precision_counts_down_to_the_last_good_threshold():
    # By score: 19 oil, 1 protein, 1 oil, 1 bubble: 20 of the first 21 are oil, 95.2 %.
    labels = np.array([1] * 19 + [0] + [1, 2])
    oil = np.linspace(0.9, 0.1, 22)
    probabilities = np.stack([1 - oil, oil, np.zeros(22)], axis=1)
    metrics = classification_metrics(labels, probabilities, NAMES)
    assert metrics["per_class"]["silicone_oil"]["recall_at_precision_95"] == pytest.approx(1.0)
    probabilities[19, 1] = 1.0  # the protein image now leads
    metrics = classification_metrics(labels, probabilities, NAMES)
    assert metrics["per_class"]["silicone_oil"]["recall_at_precision_95"] == pytest.approx(1.0)
    labels[3] = 0  # a second one: 19 of 21, 90.5 %
    metrics = classification_metrics(labels, probabilities, NAMES)
    assert metrics["per_class"]["silicone_oil"]["recall_at_precision_95"] == 0


def test_weights_count_like_repeated_images():
    labels, probabilities = predictions(counts=(20, 8, 6))
    repeats = np.random.default_rng(1).integers(1, 5, len(labels))
    weighted = classification_metrics(labels, probabilities, NAMES, repeats.astype(float))
    repeated = classification_metrics(
        np.repeat(labels, repeats), np.repeat(probabilities, repeats, axis=0), NAMES
    )
    for name in MACRO_METRICS:
        assert weighted[name] == pytest.approx(repeated[name])


def test_prevalence_lowers_precision_of_a_rare_class_but_not_recall():
    labels, probabilities = predictions(counts=(100, 100, 100))
    prevalence = {"protein": 1000, "silicone_oil": 1, "air_bubble": 1}
    weights = prevalence_weights(labels, prevalence, NAMES)
    assert weights.mean() == pytest.approx(1)
    assert weights[labels == 0].sum() / weights[labels == 1].sum() == pytest.approx(1000)
    plain = classification_metrics(labels, probabilities, NAMES)
    in_use = classification_metrics(labels, probabilities, NAMES, weights)
    oil, oil_in_use = plain["per_class"]["silicone_oil"], in_use["per_class"]["silicone_oil"]
    assert oil_in_use["recall"] == pytest.approx(oil["recall"])
    predicted = probabilities.argmax(1)
    assert oil_in_use["precision"] < 0.1 * oil["precision"]
    assert oil_in_use["precision"] == pytest.approx(
        precision_score(labels, predicted, average=None, labels=[1], sample_weight=weights)[0]
    )
    assert (prevalence_weights(labels, None, NAMES) == 1).all()


@pytest.mark.parametrize(
    "prevalence", [{"protein": 1.0}, {"protein": 1.0, "silicone_oil": 0.0, "air_bubble": 1.0}]
)
def test_impossible_prevalence_is_refused(prevalence):
    with pytest.raises(SettingsError, match="prevalence"):
        prevalence_weights(np.array([0, 1, 2]), prevalence, NAMES)


def test_unusable_predictions_are_refused_by_name():
    labels, probabilities = predictions()
    with pytest.raises(DataError, match="air_bubble"):
        classification_metrics(labels[:310], probabilities[:310], NAMES)
    with pytest.raises(DataError, match="shape"):
        classification_metrics(labels, probabilities[:, :2], NAMES)
    with pytest.raises(DataError, match="-1"):
        classification_metrics(labels - 1, probabilities, NAMES)
    probabilities[7, 1] = np.nan
    with pytest.raises(DataError, match="image 7"):
        classification_metrics(labels, probabilities, NAMES)
