"""Counts corrected by a confusion matrix, where the right number is known."""

import numpy as np
import pytest
from scipy.stats import beta

from svp_lightning.evaluation.corrected_counts import Confusion, Corrector, at_least, size_bins
from svp_lightning.evaluation.particle_counts import poisson_interval

MANY = 10**9


def confusion_of(*rates: list[list[float]], images: int = MANY) -> Confusion:
    """The same bins and rates for every class, of so many test images each."""
    counts = np.array([np.array(one) * images for one in rates]).round().astype(np.int64)
    bins, K, _ = counts.shape
    return Confusion(counts, np.repeat(np.arange(bins)[:, None], K, axis=1))


def test_sizes_fall_into_the_bin_of_the_threshold_that_they_reach() -> None:
    found = size_bins(np.array([np.nan, 1.9, 2.0, 4.9, 5.0, 90.0]), (2.0, 5.0))
    assert found.tolist() == [0, 1, 2, 2, 3, 3]


def test_without_mistakes_the_intervals_are_garwoods() -> None:
    counts = np.array([[0, 0], [400, 3], [20, 0]])
    low, high = poisson_interval(at_least(counts))
    exact = Corrector(None).interval([(counts, 2.0)])
    assert np.allclose(exact, (2 * low, 2 * high))
    drawn = Corrector(confusion_of(*[[[1, 0], [0, 1]]] * 3)).interval([(counts, 1.0)])
    assert np.allclose(drawn, (low, high), rtol=0.06, atol=0.15)


def test_known_mistakes_give_back_the_particles_that_there_are() -> None:
    true = np.array([[0, 0, 0], [700, 200, 100], [90, 10, 0]])
    small = [[0.9, 0.08, 0.02], [0.2, 0.8, 0.0], [0.1, 0.1, 0.8]]
    large = [[1.0, 0.0, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]]
    called = np.stack([true[0], true[1] @ np.array(small), true[2] @ np.array(large)])
    corrector = Corrector(confusion_of(small, small, large))
    found = corrector.estimate(called.round().astype(int))
    assert found == pytest.approx(at_least(true), abs=1e-6)
    low, high = corrector.interval([(called.round().astype(int), 1.0)])
    assert (low <= at_least(true) + 1e-6).all()
    assert (at_least(true) <= high).all()


def test_estimates_are_sums_of_the_particles_never_negative_and_cumulative() -> None:
    rates = [[0.9, 0.1], [0.3, 0.7]]
    called = np.array([[0, 0], [60, 1], [30, 9], [5, 0]])  # fewer of the second than mistakes
    found = Corrector(confusion_of(*[rates] * 4)).estimate(called)
    assert (found >= 0).all()
    assert (np.diff(found, axis=0) <= 1e-9).all()
    assert found.sum(axis=1) == pytest.approx(at_least(called).sum(axis=1))


def test_none_seen_after_the_correction_is_not_none_for_certain() -> None:
    """More are called the second class by mistake than it has; the fewer, the larger they are."""
    rates = [[0.96, 0.04], [0.1, 0.9]]
    called = np.array([[0, 0], [3000, 60], [1900, 40], [100, 0]])
    found = Corrector(confusion_of(*[rates] * 4, images=1000))
    assert found.estimate(called)[:, 1].tolist() == [0, 0, 0, 0]
    low, high = found.interval([(called, 1.0)])
    none = poisson_interval(np.zeros(1, int))[1].item()
    assert (low[:, 1] == 0).all()
    assert (high[:, 1] >= none).all()
    assert (np.diff(high, axis=0) <= 0).all()


def test_few_test_images_widen_the_interval_by_the_exact_interval_of_their_share() -> None:
    """1,000,000 particles, none counted as the second class; the first is mistaken at most so."""
    called = np.array([[0, 0], [10**6 - 2000, 2000]])
    confusion = confusion_of(*[[[1, 0], [0, 1]]] * 2, images=300)
    low, high = Corrector(confusion).interval([(called, 1.0)])
    most = beta.ppf(0.975, 1, 300)  # 0 of 300 mistaken: up to 1.2 %, 12,000 of the particles
    assert most > 0.01
    assert low[0, 1] == 0  # all 2,000 may be mistakes
    assert low[0, 0] == pytest.approx(10**6 - 2000, rel=0.01)
    assert high[0, 1] == pytest.approx(2000, rel=0.15)


def test_particles_of_a_size_at_which_a_class_is_never_recognised_may_be_none_or_all() -> None:
    """Small oil is always called protein; of 100 larger oil droplets 90 are recognised."""
    small, large = [[1, 0], [1, 0]], [[1, 0], [0.1, 0.9]]
    called = np.array([[0, 0], [500, 0], [300, 0]])
    corrector = Corrector(confusion_of(large, small, large, images=100))
    assert corrector.estimate(called)[:, 1] == pytest.approx(0)  # as many as are called
    low, high = corrector.interval([(called, 1.0)])
    everything = poisson_interval(at_least(called).sum(axis=1))[1]
    assert 250 < low[2, 0] == low[0, 0] < 300
    assert high[2, 1] < 10  # 0 found of 9 in 10
    assert 500 < high[0, 1] < 560 + high[2, 1] < everything[0]
    low, high = corrector.interval([(2 * called, 1.0), (called, -1.0)])
    assert -560 < low[0, 1] < -500
    assert 1000 < high[0, 1] < 1100


def test_the_particle_more_has_the_size_that_is_recognised_worst() -> None:
    """None of a class is found; 1 in 10 of the small ones would be."""
    rates = [[[1, 0], [0.9, 0.1]], [[1, 0], [0.9, 0.1]], [[1, 0], [0, 1]]]
    called = np.array([[0, 0], [10_000, 0], [50, 0]])
    _, high = Corrector(confusion_of(*rates)).interval([(called, 1.0)])
    assert high[1:, 1] == pytest.approx([36.9, 3.69], rel=0.1)


def test_a_difference_holds_the_error_of_both_runs() -> None:
    one, other = np.array([[0], [400]]), np.array([[0], [100]])
    low, high = Corrector(None).interval([(one, 1.0), (other, -2.0)])
    half = 1.96 * np.sqrt(400 + 4 * 100)
    assert low[0, 0] == pytest.approx(200 - half, abs=6)
    assert high[0, 0] == pytest.approx(200 + half, abs=6)


def test_sizes_with_few_test_images_are_joined_from_the_largest_down() -> None:
    given = np.zeros(50, int)
    bins = np.repeat([1, 2, 3, 4], [5, 30, 12, 3])
    called = (bins == 4).astype(int)
    given, called = np.append(given, [1] * 10), np.append(called, [1] * 10)
    bins = np.append(bins, [2] * 10)
    found = Confusion.measured(given, called, bins, 5, 2)
    assert found.group[1:, 0].tolist() == [2, 2, 1, 1]
    assert found.images[:, 0].tolist() == [[47, 3], [35, 0], [35, 0], [12, 3], [12, 3]]
    assert found.images[:, 1].tolist() == [[0, 10]] * 5
    unknown = Confusion.measured(given, called, np.zeros_like(bins), 5, 2)
    assert unknown.images[:, 0].tolist() == [[47, 3]] * 5


def test_corrected_intervals_hold_the_truth_where_poisson_ones_fail() -> None:
    """2,000 protein, of which 3 % are called oil, and 100 oil; measured on 400 images each."""
    rng, true = np.random.default_rng(3), np.array([2000, 100])
    rates, held, held_uncorrected = np.array([[0.97, 0.03], [0.1, 0.9]]), 0, 0
    for _ in range(60):
        counts = np.stack([[0, 0], rng.poisson(true @ rates)])
        images = np.stack([rng.multinomial(400, row) for row in rates])
        confusion = Confusion(np.stack([images] * 2), np.array([[0, 0], [1, 1]]))
        low, high = Corrector(confusion).interval([(counts, 1.0)])
        held += low[1, 1] <= 100 <= high[1, 1]
        low, high = Corrector(None).interval([(counts, 1.0)])
        held_uncorrected += low[1, 1] <= 100 <= high[1, 1]
    assert held >= 52  # 57 of 60 expected
    assert held_uncorrected <= 15
