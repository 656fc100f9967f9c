from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from svp_lightning.evaluation.comparison import (
    by_intervals,
    holm,
    judge,
    over_seeds,
    paired_over_seeds,
    shared_trainings,
    standard_error,
)
from svp_lightning.evaluation.schema import Estimate


def study(rng, seeds, *, image=0.01, own=0.01, training=0.01, truth=0.0, resamples=200):
    """Differences whose parts have known standard deviations."""
    observed = truth + rng.normal(0, image) + rng.normal(0, training, seeds)
    observed = observed + rng.normal(0, own, seeds)
    shared = rng.normal(0, image, resamples)
    redrawn = observed[:, None] + shared + rng.normal(0, own, (seeds, resamples))
    return observed, redrawn


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    "parts",
    [
        {"image": 0.02, "own": 0.001, "training": 0.001},
        {"image": 0.01, "own": 0.01, "training": 0.01},
        {"image": 0.001, "own": 0.001, "training": 0.02},
    ],
)
def test_95_percent_intervals_cover_95_percent(seeds, parts):
    held = 0
    for trial in range(500):
        found = paired_over_seeds(*study(np.random.default_rng([seeds, trial]), seeds, **parts))
        held += found.low <= 0 <= found.high
    # 0.95 less 3 standard errors of 500 trials; experiments/interval_coverage has the table.
    assert held / 500 > 0.92


def test_seeds_alone_give_students_t():
    observed = np.array([0.01, 0.03, 0.05])
    found = paired_over_seeds(observed, np.repeat(observed[:, None], 50, axis=1))
    expected = stats.ttest_1samp(observed, 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.standardised == pytest.approx(0.03 / 0.02)


def test_images_alone_are_never_averaged_away():
    # All seeds react alike to a redrawn test set: more seeds do not make it larger.
    shared = np.random.default_rng(0).normal(0.02, 0.01, 1000)
    for seeds in (3, 10):
        error, freedom = standard_error(np.full(seeds, 0.02), np.tile(shared, (seeds, 1)))
        assert error == pytest.approx(shared.std(ddof=1))
        assert freedom > 1e6


def test_one_seed_is_its_test_images():
    redrawn = np.random.default_rng(1).normal(0.02, 0.01, (1, 4000))
    found = paired_over_seeds(np.array([0.02]), redrawn)
    assert (found.low, found.high) == pytest.approx((0.0004, 0.0396), abs=0.002)
    assert found.standardised is None
    assert found.p_value == pytest.approx(0.05, abs=0.02)


def test_identical_arms_do_not_differ():
    found = paired_over_seeds(np.zeros(3), np.zeros((3, 20)))
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert paired_over_seeds(np.full(3, 0.1), np.full((3, 20), 0.1)).p_value is None


def test_holm_is_the_textbooks():
    # Each p times the number of hypotheses not yet rejected, never falling.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.02]) == [0.02]


def test_holm_keeps_the_chance_of_any_false_finding():
    rng = np.random.default_rng(0)
    any_found = sum(min(holm(p)) <= 0.05 for p in rng.random((2000, 8)))
    assert any_found / 2000 < 0.065  # without it: 1 - 0.95**8 = 0.34


@pytest.mark.parametrize("training", [0.01, 0.04])
def test_among_many_arms_no_small_spread_is_a_finding(training):
    """Eleven arms without an effect, three seeds, one control: at most 5 % of studies find any."""
    found, arms = {True: 0, False: 0}, 11
    for trial in range(300):
        rng = np.random.default_rng([trial, 3])
        control = rng.normal(0, training, 3)
        drawn = [
            study(rng, 3, image=0.01, own=0, training=training, resamples=60) for _ in range(arms)
        ]
        drawn = [(a - control, b - control[:, None]) for a, b in drawn]
        together = shared_trainings([a for a, _ in drawn])
        for shared in (together, None):
            p = [paired_over_seeds(*one, shared=shared).p_value for one in drawn]
            found[shared is not None] += min(holm(p)) <= 0.05
    assert found[True] / 300 < 0.09  # 0.05 and three standard errors
    if training == 0.04:
        assert found[False] / 300 > 0.09  # each with its own spread only: false findings


def test_shared_spread_of_one_arm_is_its_own():
    observed, redrawn = study(np.random.default_rng(0), 3)
    shared = shared_trainings([observed])
    assert (shared.variance, shared.freedom) == (observed.var(ddof=1), 2)
    assert paired_over_seeds(observed, redrawn, shared=shared) == paired_over_seeds(
        observed, redrawn
    )
    assert shared_trainings([observed] * 1000).freedom == pytest.approx(8, rel=0.01)


def test_one_seed_can_differ_clearly_among_many_comparisons():
    redrawn = np.random.default_rng(1).normal(0.4, 0.01, (1, 50))
    p = paired_over_seeds(np.array([0.4]), redrawn).p_value
    assert max(holm([p] * 50)) < 0.001
    unsure = np.random.default_rng(1).normal(0.01, 0.01, (1, 1000))
    tail = np.count_nonzero(unsure <= 0)
    counted = 2 * (tail + 1) / 1001
    assert paired_over_seeds(np.array([0.01]), unsure).p_value == pytest.approx(counted)
    assert paired_over_seeds(np.array([0.1]), np.full((1, 20), 0.1)).p_value is None


@dataclass(frozen=True)
class Run:
    """A run as :func:`judge` sees it, its metrics ``value`` ± ``half``."""

    results: Any
    resamples: Any = None


def run(value, half=0.02, seed=1, data="same"):
    results = SimpleNamespace(
        seed=seed,
        estimate=lambda _: Estimate(value, value - half, value + half),
        provenance=SimpleNamespace(data=data),
        prevalence={"protein": 1.0},
    )
    return Run(results)


def test_one_seed_keeps_its_own_interval():
    one = Estimate(0.9, 0.85, 0.93)
    assert over_seeds([one]) == one


def test_several_seeds_are_never_surer_than_their_test_images():
    mean = over_seeds([Estimate(0.9, 0.85, 0.95)] * 5)
    assert mean.value == pytest.approx(0.9)
    assert mean.high - mean.low == pytest.approx(0.1)


def test_interval_over_seeds_is_students_t_within_0_and_1():
    values = [0.70, 0.74, 0.78]
    mean = over_seeds([Estimate(value) for value in values])
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (mean.low, mean.high) == pytest.approx(expected)
    mean = over_seeds([Estimate(0.99, 0.9, 1.0), Estimate(0.5, 0.4, 0.6)])
    assert (mean.low, mean.high) == (0.0, 1.0)
    assert over_seeds([Estimate(0.9), Estimate(None)]).value is None


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.86, "higher"), (0.83, "no detectable difference"), (0.74, "lower")],
)
def test_one_seed_is_judged_by_overlap(value, verdict):
    (found,) = judge([([run(value)], [run(0.80)])], "macro_auprc", ["none"])
    assert found.value == pytest.approx(value - 0.80)
    assert found.verdict == verdict
    assert found.low < found.value < found.high
    assert found.p_value is found.p_adjusted is None
    other = by_intervals([run(0.80)], [run(value)], "macro_auprc")
    assert (other.value, other.low) == pytest.approx((-found.value, -found.high))


def test_three_seeds_are_paired():
    # The seeds differ far more than the treatment does: only pairing can see it.
    levels = {1: 0.60, 2: 0.75, 3: 0.90}
    treated = [run(level + 0.02 + seed / 1000, 0.001, seed) for seed, level in levels.items()]
    found = by_intervals(treated, [run(v, 0.001, s) for s, v in levels.items()], "macro_auprc")
    assert found.seeds == (1, 2, 3)
    assert found.value == pytest.approx(0.022)
    assert found.verdict == "higher"


def test_seed_noise_hides_a_small_difference():
    treated = [run(0.8 + shift, 0.001, s) for s, shift in ((1, -0.03), (2, 0.06), (3, 0.0))]
    found = by_intervals(treated, [run(0.8, 0.001, seed) for seed in (1, 2, 3)], "macro_auprc")
    assert found.verdict == "no detectable difference"


def test_only_common_seeds_on_the_same_data_are_compared():
    found = by_intervals([run(0.9), run(0.1, seed=2)], [run(0.8)], "macro_auprc")
    assert found.seeds == (1,)
    assert found.value == pytest.approx(0.1)
    assert by_intervals([run(0.9, data="other")], [run(0.8)], "macro_auprc").value is None
