from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from svp_lightning.evaluation.comparison import (
    MIN_REPETITIONS,
    Pair,
    judge,
    over_seeds,
    share_closed,
)
from svp_lightning.evaluation.predictions import Resamples
from svp_lightning.evaluation.schema import Estimate

METRIC = "macro_auprc"


@dataclass(frozen=True)
class Run:
    """A run as :func:`judge` sees it."""

    results: Any
    resamples: Resamples | None


def run(value, seed=1, data="same", redrawn=None, draw="same images"):
    results = SimpleNamespace(
        seed=seed,
        estimate=lambda _: Estimate(value),
        provenance=SimpleNamespace(data=data),
        prevalence={"protein": 1.0},
    )
    kept = None if redrawn is None else Resamples(redrawn[:, None], (METRIC,), draw)
    return Run(results, kept)


def arm(levels, *, gain=0.0, image=0.002, own=0.001, seed=0, **kwargs):
    """A run for each level; what redrawn test images do is shared by all arms, apart from ``own``.

    Trainings and redrawn images move a run by ``own`` each.
    """
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).normal(0, image, 200)
    values = [level + gain + rng.normal(0, own) for level in levels]
    return [
        run(value, at, redrawn=value + shared + rng.normal(0, own, 200), **kwargs)
        for at, value in enumerate(values, 1)
    ]


LEVELS = np.linspace(0.6, 0.8, MIN_REPETITIONS)


def compared(*pairs):
    return judge([Pair(new, old, "one", "one") for new, old in pairs], METRIC)


def test_repetitions_are_paired():
    # They differ far more than the treatment does: only pairing can see it.
    (found,) = compared((arm(LEVELS, gain=0.02, seed=1), arm(LEVELS)))
    assert found.value == pytest.approx(0.02, abs=0.002)
    assert found.low < 0.02 < found.high
    assert found.high - found.low < 0.01
    assert found.verdict == "higher"
    assert found.seeds == tuple(range(1, MIN_REPETITIONS + 1))
    assert found.error_reduction == pytest.approx(0.02 / 0.3, rel=0.1)
    assert found.standardised > 5
    assert compared((arm(LEVELS), arm(LEVELS, gain=0.02, seed=1)))[0].verdict == "lower"


@pytest.mark.parametrize("repetitions", [1, MIN_REPETITIONS - 1])
def test_few_repetitions_support_no_claim(repetitions):
    levels = LEVELS[:repetitions]
    (found,) = compared((arm(levels, gain=0.1, own=1e-4, seed=1), arm(levels, own=1e-4)))
    assert found.low > 0
    assert found.verdict == "too few repetitions"


def test_noise_of_repetitions_hides_a_small_difference():
    (found,) = compared((arm(LEVELS, gain=0.01, own=0.05, seed=1), arm(LEVELS, own=0.05)))
    assert found.verdict == "no detectable difference"


def test_p_values_are_corrected_within_a_family():
    control = arm(LEVELS)
    pairs = [Pair(arm(LEVELS, seed=k), control, family, "one") for k, family in enumerate("aab", 1)]
    found = judge(pairs, METRIC)
    assert [one.compared for one in found] == [2, 2, 1]
    assert found[2].p_adjusted == found[2].p_value
    first, second = sorted(found[:2], key=lambda one: one.p_value)
    assert first.p_adjusted == pytest.approx(min(1, 2 * first.p_value))
    assert second.p_adjusted == pytest.approx(max(first.p_adjusted, second.p_value))


def test_comparisons_of_one_place_alone_share_what_they_vary():
    pairs = [(arm(LEVELS, own=own, seed=k), arm(LEVELS, seed=9))
             for k, own in enumerate((0.001, 0.002, 0.003, 0.05), 1)]  # fmt: skip
    alone = [compared(pair)[0] for pair in pairs]
    apart = judge([Pair(*pair, "one", k) for k, pair in enumerate(pairs)], METRIC)
    assert [one.low for one in apart] == [one.low for one in alone]
    together = compared(*pairs)
    assert all(a.low != b.low for a, b in zip(together, alone, strict=True))
    assert [one.value for one in together] == [one.value for one in alone]


def test_only_common_repetitions_are_compared():
    treated, control = arm(LEVELS, gain=0.1, seed=1), arm(LEVELS)
    assert compared((treated[1:], control[:3]))[0].seeds == (2, 3)
    assert compared((treated[:1], control[1:]))[0].verdict == "not judged"


def test_runs_with_fewer_redraws_are_compared_on_those():
    control = arm(LEVELS)
    control[0] = run(0.6, 1, redrawn=control[0].resamples.of(METRIC)[:50])
    assert compared((arm(LEVELS, seed=1), control))[0].p_value is not None


@pytest.mark.parametrize("other", [{"data": "other"}, {"draw": "other"}])
def test_other_data_or_draws_are_not_compared(other):
    (found,) = compared((arm(LEVELS, gain=0.1), arm(LEVELS, **other)))
    assert (found.value, found.verdict) == (None, "not judged")
    assert share_closed(arm(LEVELS), arm(LEVELS), arm(LEVELS, **other), METRIC).value is None
    kept = [run(0.9), *arm(LEVELS)[1:]]
    assert compared((kept, arm(LEVELS)))[0].verdict == "not judged"


def test_an_arm_that_nothing_moves_is_not_judged():
    (found,) = compared((arm(LEVELS, gain=0.1, image=0, own=0), arm(LEVELS, image=0, own=0)))
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.verdict) == (None, "not judged")


def test_share_of_the_oracles_gain_with_an_interval_that_covers():
    """Fieller's interval of a ratio of 0.5, over trainings and test images."""
    held, trials, levels = 0, 200, np.full(6, 0.6)
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        of_images = rng.normal(0, 0.005, 3)
        arms = [
            arm(levels + moved, gain=gain, own=0.01, image=0, seed=int(rng.integers(2**32)))
            for gain, moved in zip((0.03, 0.0, 0.06), of_images, strict=True)
        ]
        redrawn = rng.normal(0, 0.005, (3, 200))
        arms = [
            [Run(one.results, Resamples(one.resamples.values + noise[:, None], (METRIC,), ""))
             for one in runs]
            for runs, noise in zip(arms, redrawn, strict=True)
        ]  # fmt: skip
        found = share_closed(*arms, METRIC)
        held += found.low is None or found.low <= 0.5 <= found.high
    assert held / trials > 0.95 - 3 * 0.0154


def test_share_of_a_gain_that_may_be_none_has_no_interval():
    control, oracle = arm(LEVELS, own=0.05), arm(LEVELS, own=0.05, seed=2)
    found = share_closed(arm(LEVELS, gain=0.01, seed=1), control, oracle, METRIC)
    assert found.low is found.high is None
    clear = share_closed(
        arm(LEVELS, gain=0.02, seed=1), arm(LEVELS), arm(LEVELS, gain=0.1, seed=2), METRIC
    )
    assert clear.value == pytest.approx(0.2, abs=0.03)
    assert clear.low < clear.value < clear.high
    worse = arm(LEVELS, gain=-0.1, seed=2)  # an oracle that loses is no limit
    assert share_closed(arm(LEVELS, gain=-0.05, seed=1), arm(LEVELS), worse, METRIC).value is None


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
