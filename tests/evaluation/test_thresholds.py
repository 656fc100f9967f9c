import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from svp_lightning.errors import DataError
from svp_lightning.evaluation.thresholds import (
    LabelledPredictions,
    choose_threshold,
    working_points,
)

NAMES = ("protein", "silicone_oil")


def split(seed, counts=(400, 100), signal=2.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], counts)
    score = 1 / (1 + np.exp(-rng.normal(signal * (labels - 0.5), 1)))
    return LabelledPredictions(labels, np.stack([1 - score, score], axis=1))


def test_the_threshold_is_the_best_precise_one():
    part = split(0)
    truth, score = part.labels == 1, part.probabilities[:, 1]
    threshold, precision, recall = choose_threshold(truth, score, np.ones(len(truth)))
    called = score >= threshold
    assert precision == pytest.approx(truth[called].mean())
    assert precision >= 0.95
    assert recall == pytest.approx(called[truth].mean())
    theirs, recalls, _ = precision_recall_curve(truth, score)
    assert recall == pytest.approx(recalls[theirs >= 0.95].max())


def test_no_threshold_is_precise_enough():
    truth = np.array([False, True, False, True])
    assert choose_threshold(truth, np.array([0.9, 0.8, 0.7, 0.1]), np.ones(4)) is None
    worse = LabelledPredictions(np.array([0, 1]), np.array([[0.1, 0.9], [0.9, 0.1]]))
    point = working_points(worse, split(1), dict.fromkeys(NAMES, 1.0), NAMES)["silicone_oil"]
    assert point["threshold"] is None
    assert (point["precision"], point["recall"]) == (0, 0)


def test_test_images_do_not_choose_the_threshold():
    prevalence = {"protein": 4.0, "silicone_oil": 1.0}
    points = [working_points(split(0), split(s), prevalence, NAMES) for s in (1, 2)]
    a, b = (point["silicone_oil"] for point in points)
    assert a["threshold"] == b["threshold"]
    assert a["recall"] != b["recall"]
    test = split(1)
    called = test.probabilities[:, 1] >= a["threshold"]
    assert a["recall"] == pytest.approx(called[test.labels == 1].mean())
    assert a["precision"] == pytest.approx((test.labels[called] == 1).mean())
    assert a["precision_ci95"][0] < a["precision"] < a["precision_ci95"][1]


def test_rarer_classes_need_stricter_thresholds():
    even = working_points(split(0), split(1), dict.fromkeys(NAMES, 1.0), NAMES)
    rare = working_points(split(0), split(1), {"protein": 100.0, "silicone_oil": 1.0}, NAMES)
    assert rare["silicone_oil"]["threshold"] > even["silicone_oil"]["threshold"]
    assert rare["silicone_oil"]["recall"] < even["silicone_oil"]["recall"]


def test_a_class_without_validation_images_is_refused():
    bad = LabelledPredictions(np.zeros(3, int), np.full((3, 2), 0.5))
    with pytest.raises(DataError, match="silicone_oil"):
        working_points(bad, split(0), dict.fromkeys(NAMES, 1.0), NAMES)
