"""Means and differences of a study's arms, over repetitions and test images together.

Repetition r of a study draws its own real images, generator and classifier; all are tested on the
same images. Arms are compared repetition by repetition, on the same redrawn test images
(:mod:`~.repetitions`).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from scipy import stats

from svp_lightning.evaluation.predictions import Resamples
from svp_lightning.evaluation.repetitions import (
    ALPHA,
    ROUNDING,
    Array,
    Spread,
    error_of,
    holm,
    moderated,
)
from svp_lightning.evaluation.schema import Estimate, Results

MIN_REPETITIONS = 5
"""With fewer, a difference is shown and not called one."""
Verdict = Literal[
    "higher", "lower", "no detectable difference", "too few repetitions", "not judged"
]


class Evaluated(Protocol):
    """One run: its results, and its metrics on redrawn test sets if it kept them."""

    @property
    def results(self) -> Results: ...

    @property
    def resamples(self) -> Resamples | None: ...


Runs = Sequence[Evaluated]
"""Runs of one arm, a repetition (``seed``) each."""


@dataclass(frozen=True)
class Pair:
    """A comparison of runs of an arm with those of a reference.

    Comparisons of one ``family`` are corrected for their number together; those of one ``place``
    share what their variances have in common.
    """

    runs: Runs
    reference: Runs
    family: Hashable
    place: Hashable


@dataclass(frozen=True)
class Difference:
    """Arm minus reference, in the unit of the metric, with a 95 % interval.

    Attributes:
        metric: such as ``macro_auprc`` or ``silicone_oil/recall``.
        value: None where the arms share no repetition on the same data and redrawn test images.
        low, high: None where nothing varies: too few images to judge. With one repetition they
            know the test images only.
        seeds: the repetitions that both arms have.
        p_value: two-sided, of no difference.
        p_adjusted: the same, corrected for ``compared`` comparisons (Holm); decides the verdict.
        compared: comparisons of this metric in the same family.
        standardised: difference over its standard deviation between repetitions (Cohen's d_z);
            None with one, or where they do not differ.
        error_reduction: share of what the reference lacks to 1 that is made up for.
    """

    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple[int, ...] = ()
    p_value: float | None = None
    p_adjusted: float | None = None
    compared: int = 1
    standardised: float | None = None
    error_reduction: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What may be said about it."""
        if self.value is None or self.p_adjusted is None:
            return "not judged"
        if self.p_adjusted > ALPHA:
            return "no detectable difference"
        if len(self.seeds) < MIN_REPETITIONS:
            return "too few repetitions"
        return "higher" if self.value > 0 else "lower"


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over repetitions, with an interval clipped to [0, 1].

    One: the interval of its own results (resampled test images). Several: Student's t over the
    repetitions and the mean interval over test images, added in quadrature, because all share one
    test set and averaging them does not make it larger.
    """
    values = [e.value for e in estimates if e.value is not None]
    if len(values) < len(estimates):
        return Estimate(None)
    if len(estimates) == 1:
        return estimates[0]
    mean = float(np.mean(values))
    of_seeds = float(stats.t.ppf(1 - ALPHA / 2, len(values) - 1) * stats.sem(values))
    halves = [(e.high - e.low) / 2 for e in estimates if e.low is not None and e.high is not None]
    half = math.hypot(of_seeds, float(np.sqrt(np.mean(np.square(halves)))) if halves else 0.0)
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))


def judge(pairs: Sequence[Pair], metric: str) -> list[Difference]:
    """Judge pairs over repetitions and test images, corrected for their number (Holm).

    Runs of one repetition are compared on the redrawn test sets that both kept. Runs on other data
    or other draws of the test images are not compared (:func:`comparable`).

    Raises:
        ArtifactError: a run's ``bootstrap.parquet`` is broken.
    """
    drawn = [_drawn([pair.runs, pair.reference], metric) for pair in pairs]
    at_place: dict[Hashable, dict[int, Array]] = {}
    for at, (pair, one) in enumerate(zip(pairs, drawn, strict=True)):
        if one is not None and len(one.seeds) > 1:
            at_place.setdefault(pair.place, {})[at] = one.observed[0] - one.observed[1]
    spreads: dict[int, Spread] = {}
    for observed in at_place.values():
        spreads |= zip(observed, moderated(list(observed.values())), strict=True)
    found = [_judged(one, metric, spreads.get(at)) for at, one in enumerate(drawn)]
    for family in {pair.family for pair in pairs}:
        p_values = {
            at: p
            for at, one in enumerate(found)
            if pairs[at].family == family and (p := one.p_value) is not None
        }
        for at, p in zip(p_values, holm(list(p_values.values())), strict=True):
            found[at] = replace(found[at], p_adjusted=p, compared=len(p_values))
    return found


def share_closed(arm: Runs, control: Runs, oracle: Runs, metric: str) -> Estimate:
    """The share of an oracle's gain that an arm reaches: (arm - control) / (oracle - control).

    The interval is Fieller's (1954, doi:10.1111/j.2517-6161.1954.tb00159.x): of all shares r for
    which arm - control - r (oracle - control) is not judged to differ from 0, over the repetitions
    that all three have and the test images.

    Returns:
        Without a value where the arms are not comparable or the oracle gains nothing; without an
        interval where its gain is not clear of 0, so that no share can be excluded. It may lie
        below 0 or above 1.
    """
    drawn = _drawn([arm, oracle, control], metric)
    if drawn is None:
        return Estimate(None)
    observed, redrawn = drawn.observed[:2] - drawn.observed[2], drawn.redrawn[:2] - drawn.redrawn[2]
    gain, whole = observed.mean(axis=1).tolist()
    if whole <= ROUNDING:
        return Estimate(None)

    def squared(difference: Array, draws: Array) -> float:
        several = len(difference) > 1
        spread = Spread(float(difference.var(ddof=1)), len(difference) - 1) if several else None
        return error_of(draws, spread).half_width(math.log(ALPHA)) ** 2

    of_gain, of_whole = (squared(observed[k], redrawn[k]) for k in (0, 1))
    apart = squared(observed[0] - observed[1], redrawn[0] - redrawn[1])
    both = (of_gain + of_whole - apart) / 2
    a, b, c = whole**2 - of_whole, gain * whole - both, gain**2 - of_gain
    if a <= 0 or b**2 < a * c:
        return Estimate(gain / whole)
    root = math.sqrt(b**2 - a * c)
    return Estimate(gain / whole, (b - root) / a, (b + root) / a)


def comparable(run: Results, other: Results) -> bool:
    """Whether both were tested on the same data, and state metrics for one mixture of classes.

    The draws alone do not decide: ids of simulated images are those of any other simulation.
    """
    return (
        run.provenance.data == other.provenance.data
        and run.prevalence.keys() == other.prevalence.keys()
        and all(
            math.isclose(share, other.prevalence[name], rel_tol=1e-6)
            for name, share in run.prevalence.items()
        )
    )


@dataclass(frozen=True)
class _Drawn:
    """A metric of A arms in S common repetitions: (A, S) observed, (A, S, R) redrawn."""

    seeds: tuple[int, ...]
    observed: Array
    redrawn: Array


def _drawn(arms: Sequence[Runs], metric: str) -> _Drawn | None:
    """None where the arms have no repetition in common, or some of one is not comparable."""
    of_seed = [{run.results.seed: run for run in runs} for runs in arms]
    seeds = [seed for seed in of_seed[0] if all(seed in other for other in of_seed)]
    observed, redrawn = [], []
    for runs in ([own[seed] for own in of_seed] for seed in seeds):
        values = [run.results.estimate(metric).value for run in runs]
        kept = [run.resamples for run in runs]
        resamples = [one for one in kept if one is not None and metric in one.names]
        if None in values or len(resamples) < len(arms) or len({r.draw for r in resamples}) > 1:
            return None
        if not all(comparable(runs[0].results, other.results) for other in runs[1:]):
            return None
        observed.append(values)
        redrawn.append([one.of(metric) for one in resamples])
    if not seeds:
        return None
    # A longer run's draws begin with the shorter's.
    size = min(len(draws) for of_arms in redrawn for draws in of_arms)
    cut = np.array([[draws[:size] for draws in of_arms] for of_arms in redrawn])
    return _Drawn(tuple(seeds), np.array(observed, float).T, cut.swapaxes(0, 1))


def _judged(drawn: _Drawn | None, metric: str, spread: Spread | None) -> Difference:
    if drawn is None:
        return Difference(metric)
    observed = drawn.observed[0] - drawn.observed[1]
    mean, before = float(observed.mean()), float(drawn.observed[1].mean())
    error = error_of(drawn.redrawn[0] - drawn.redrawn[1], spread)
    p_value = error.p_value(mean)
    half = error.half_width(math.log(ALPHA))
    certain = p_value is None  # nothing varies: too few images to judge
    deviation = float(observed.std(ddof=1)) if len(observed) > 1 else 0.0
    return Difference(
        metric,
        mean,
        None if certain else max(-1.0, mean - half),  # metrics are in [0, 1]
        None if certain else min(1.0, mean + half),
        drawn.seeds,
        p_value=p_value,
        standardised=mean / deviation if deviation > ROUNDING else None,
        error_reduction=mean / (1 - before) if before < 1 else None,
    )
