"""Working points: chosen on validation images, judged on test images, with honest intervals."""

import numpy as np
import pytest

from svp_lightning.errors import DataError
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.working_points import _Ladder, choose_threshold, working_points

TWO = ("protein", "silicone_oil")
EVEN, RARE = {"protein": 1.0, "silicone_oil": 1.0}, {"protein": 100.0, "silicone_oil": 1.0}


def split(seed, counts=(400, 100), signal=2.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], counts)
    score = 1 / (1 + np.exp(-rng.normal(signal * (labels - 0.5), 1)))
    return made(labels, np.stack([1 - score, score], axis=1))


def made(labels, probabilities):
    return Predictions(np.empty(0, object), labels, probabilities, TWO, EVEN)


def test_the_threshold_is_the_precise_one_of_largest_recall():
    truth, score = split(0).labels == 1, split(0).probabilities[:, 1]
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
    wrong = made(np.array([0, 1]), np.array([[0.1, 0.9], [0.9, 0.1]]))
    point = working_points(wrong, split(1), EVEN)["silicone_oil"]
    assert (point["threshold"], point["precision"], point["recall"]) == (None, 0, 0)


def test_validation_images_choose_the_threshold_and_test_images_judge_it():
    prevalence = {"protein": 4.0, "silicone_oil": 1.0}
    points = [working_points(split(0), split(s), prevalence) for s in (1, 2)]
    a, b = (point["silicone_oil"] for point in points)
    assert a["threshold"] == b["threshold"]
    assert a["recall"] != b["recall"]
    labels, probabilities = split(1).labels, split(1).at(prevalence).probabilities
    called = probabilities[:, 1] >= a["threshold"]
    assert a["recall"] == pytest.approx(called[labels == 1].mean())
    assert a["precision"] == pytest.approx((labels[called] == 1).mean())
    assert a["precision_ci95"][0] < a["precision"] < a["precision_ci95"][1]


def test_rarer_classes_are_found_less_often():
    even, rare = (
        working_points(split(0), split(1), prevalence)["silicone_oil"]
        for prevalence in (EVEN, RARE)
    )
    assert rare["recall"] < even["recall"]
    assert rare["validation_precision"] >= 0.95


def test_a_class_without_validation_images_is_refused():
    with pytest.raises(DataError, match="silicone_oil"):
        working_points(made(np.zeros(3, int), np.full((3, 2), 0.5)), split(0), EVEN)


def test_intervals_cover_what_another_validation_set_would_have_chosen():
    """Of many labs with 30 own validation images each, 95 % see the truth of their threshold."""
    prevalence = {"protein": 100.0, "silicone_oil": 1.0}
    covered, alone, labs = 0, 0, 40
    world = split(1_000, (50_000, 20_000), 4.0)
    points = [
        working_points(split(s, (2000, 30), 4.0), split(s + 500, (2000, 500), 4.0), prevalence,
                       resamples=100)["silicone_oil"]
        for s in range(labs)
    ]  # fmt: skip
    typical = np.median([true_recall(world, point["threshold"], prevalence) for point in points])
    for point in points:
        low, high = point["recall_ci95"]
        covered += low <= typical <= high
        alone += abs(point["recall"] - typical) < 2 * np.sqrt(typical * (1 - typical) / 500)
    assert covered >= 0.85 * labs
    assert alone < 0.7 * labs  # test images alone would claim far too much


def true_recall(world, threshold, prevalence):
    score = world.at(prevalence).probabilities[world.labels == 1, 1]
    return (score >= (np.inf if threshold is None else threshold)).mean()


def test_whole_groups_are_redrawn():
    prevalence = {"protein": 4.0, "silicone_oil": 1.0}
    validation, test = split(0), split(1)
    runs = np.arange(500) // 50  # in order: a run is of one class, and there are few
    alone, grouped = (
        working_points(validation, test, prevalence, of)["silicone_oil"]["recall_ci95"]
        for of in ((None, None), (runs, np.zeros(500, int)))
    )
    assert grouped != pytest.approx(alone, abs=0.005)
    same = working_points(validation, test, prevalence, (np.arange(500), np.arange(500)))
    assert same["silicone_oil"]["recall_ci95"] == pytest.approx(alone, abs=0.03)


def test_the_classes_of_a_run_are_redrawn_together():
    """Of the bad run, every image of both classes is called the other."""
    runs, labels = np.repeat(np.arange(20), 10), np.tile(np.repeat([0, 1], 5), 20)
    bad = np.where(runs == 0, 1 - labels, labels)
    score = 0.2 + 0.6 * bad
    found = made(labels, np.stack([1 - score, score], axis=1))
    ladder = _Ladder(1, (labels, labels), [score, score], (runs, runs))
    others, own = ladder.rates("test", 200, np.random.default_rng(0))
    at = np.flatnonzero(ladder.thresholds > 0.5)[-1]
    np.testing.assert_allclose(others[:, at], 1 - own[:, at])
    assert working_points(found, found, EVEN, (runs, runs))["silicone_oil"]["threshold"] > 0.5
