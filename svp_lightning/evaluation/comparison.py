"""Means and differences of a study's arms, over training seeds and test images together.

Both arms are trained once per seed and tested on the same images. With d_s the difference of
seed s, and D_sr the same after the r-th redraw of the test images, the mean difference varies
for two reasons:

- the test images, shared by all seeds: C, the mean covariance of D_s. and D_t. over s != t;
- the trainings (and what images do to one seed only): s^2 / S, the variance of the d_s over S.

The interval is mean ± t * sqrt(C + s^2 / S), with Welch and Satterthwaite's degrees of freedom
(S - 1 for the second part, the first counts as known; 1 with two seeds, whose spread says too
little to trust it), and never narrower than the images alone make it.

Now and then three values are close to one another by luck, and among many arms there is always
such a case: with its own small s^2 and the many degrees of freedom that follow, it would be called
different at p = 1e-10. So s^2 is at least its mean over the arms that share a control
(:func:`shared_trainings`).

This is a hierarchical bootstrap whose upper level is computed rather than drawn. Drawing seeds
too and taking percentiles, as is often done, has no notion of how few they are, and counts
what images do to one seed three times: where seeds differ much it holds the truth 86 % of the
time with three of them (``experiments/interval_coverage``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from svp_lightning.evaluation.predictions import Resamples
from svp_lightning.evaluation.schema import Estimate, Results

ROUNDING = 1e-12
"""Differences of metrics below this are rounding."""
ALPHA = 0.05

Verdict = Literal["higher", "lower", "no detectable difference", "not judged"]


class Evaluated(Protocol):
    """One run: its results, and its metrics on redrawn test sets if it kept them."""

    @property
    def results(self) -> Results: ...

    @property
    def resamples(self) -> Resamples | None: ...


Runs = Sequence[Evaluated]
"""Runs that differ in their seed only."""


@dataclass(frozen=True)
class Difference:
    """Arm minus reference, in the unit of the metric, with a 95 % interval.

    Attributes:
        metric: such as ``macro_auprc`` or ``silicone_oil/recall``.
        value: None where the arms share no seed, or the metric is not defined.
        low, high: None where nothing varies: too few images to judge.
        seeds: those that both arms have.
        p_value: two-sided, of no difference; None where only intervals were compared.
        p_adjusted: the same, corrected for ``compared`` comparisons (Holm); decides the
            verdict where it is known.
        compared: comparisons of this metric against the same kind of reference.
        standardised: difference over its standard deviation between seeds (Cohen's d_z).
        error_reduction: share of what the reference lacks to 1 that is made up for.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    seeds: tuple[int, ...]
    p_value: float | None = None
    p_adjusted: float | None = None
    compared: int = 1
    standardised: float | None = None
    error_reduction: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What may be said about it."""
        if self.value is None or self.low is None or self.high is None:
            return "not judged"
        if self.p_adjusted is not None:
            if self.p_adjusted > ALPHA:
                return "no detectable difference"
            return "higher" if self.value > 0 else "lower"
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "no detectable difference"


@dataclass(frozen=True)
class PairedSeeds:
    """Mean difference (arm minus control) over seeds.

    Attributes:
        value: the mean of the seeds' differences.
        low, high: 95 % interval.
        p_value: two-sided, of no difference; None where nothing varies but the means differ.
        seeds: number of seeds S. With 1, interval and p-value know the test images only:
            another training may differ by more.
        standardised: mean difference over its standard deviation between seeds (Cohen's d_z);
            None with one seed, or where seeds do not differ.
    """

    value: float
    low: float
    high: float
    p_value: float | None
    seeds: int
    standardised: float | None


@dataclass(frozen=True)
class Trainings:
    """How much a difference varies from seed to seed.

    Attributes:
        variance: s^2.
        freedom: degrees of freedom it was estimated with.
    """

    variance: float
    freedom: float


def shared_trainings(observed: Sequence[NDArray[np.float64]]) -> Trainings:
    """The mean s^2 of A arms against one control.

    If all trainings vary alike, the differences of two arms correlate by 1/2 (they share the
    control's part), their variances by 1/4, and the mean has (S - 1) 4 A / (A + 3) degrees of
    freedom: those of one arm at A = 1, four times as many at most.

    Args:
        observed: for each arm (S,), S at least 2.
    """
    arms = len(observed)
    variance = float(np.mean([values.var(ddof=1) for values in observed]))
    freedom = min(len(values) for values in observed) - 1
    return Trainings(variance, freedom * 4 * arms / (arms + 3))


def paired_over_seeds(
    observed: NDArray[np.float64],
    redrawn: NDArray[np.float64],
    level: float = 0.95,
    shared: Trainings | None = None,
) -> PairedSeeds:
    """Judge the differences of paired runs.

    Args:
        observed: (S,) difference of each seed on the test images as they are.
        redrawn: (S, R) the same on R redrawn test sets; column r is one draw for all seeds.
        level: confidence level.
        shared: of the arms with the same control; the least that seeds are taken to vary.
    """
    mean = float(observed.mean())
    if len(observed) == 1:
        low, high = np.quantile(redrawn[0], [(1 - level) / 2, (1 + level) / 2])
        of_images = _bootstrap_p_value(mean, redrawn[0])
        return PairedSeeds(mean, float(low), float(high), of_images, 1, None)
    spread = float(observed.std(ddof=1))
    error, freedom = standard_error(observed, redrawn, shared)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    p_value: float | None
    if error > ROUNDING:
        p_value = float(2 * stats.t.sf(abs(mean) / error, freedom))
    else:
        p_value = 1.0 if abs(mean) <= ROUNDING else None
    standardised = mean / spread if spread > ROUNDING else None
    return PairedSeeds(mean, mean - half, mean + half, p_value, len(observed), standardised)


def standard_error(
    observed: NDArray[np.float64],
    redrawn: NDArray[np.float64],
    shared: Trainings | None = None,
) -> tuple[float, float]:
    """Standard error of the mean over at least two seeds, and its degrees of freedom.

    Args:
        observed: (S,).
        redrawn: (S, R).
        shared: as in :func:`paired_over_seeds`.
    """
    seeds = len(observed)
    covariance = np.atleast_2d(np.cov(redrawn))
    of_mean = float(covariance.mean())  # variance of the mean over these very trainings
    between = (covariance.sum() - covariance.trace()) / (seeds * (seeds - 1))
    images = max(0.0, float(between))
    spread = Trainings(float(observed.var(ddof=1)), seeds - 1)
    if shared is not None and shared.variance > spread.variance:
        spread = shared
    trainings = spread.variance / seeds
    total = max(images + trainings, of_mean)
    if seeds == 2:
        return float(np.sqrt(total)), 1.0
    if trainings <= ROUNDING**2:
        return float(np.sqrt(total)), np.inf
    return float(np.sqrt(total)), spread.freedom * (total / trainings) ** 2


def _bootstrap_p_value(mean: float, redrawn: NDArray[np.float64]) -> float | None:
    """How often redraws fall on the other side of 0; where none does, the normal tail.

    R redraws cannot say less than 2 / (R + 1), which times the number of comparisons is never
    small: all of many clear differences would go undetected. None where nothing varies.
    """
    tail = min(np.count_nonzero(redrawn <= 0), np.count_nonzero(redrawn >= 0))
    counted = min(1.0, 2 * (tail + 1) / (len(redrawn) + 1))
    if tail:
        return counted
    deviation = float(redrawn.std(ddof=1)) if len(redrawn) > 1 else 0.0
    if deviation <= ROUNDING:
        return None
    return min(counted, float(2 * stats.norm.sf(abs(mean) / deviation)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): the chance of any false finding holds.

    Args:
        p_values: in [0, 1].

    Returns:
        Adjusted values in the order given, at most 1 and never below the one given.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over seeds, with an interval clipped to [0, 1].

    One seed: the interval of its own results (resampled test images). Several: Student's t
    over the seeds and the mean interval over test images, added in quadrature, because all
    seeds share one test set and averaging them does not make it larger.
    """
    values = [e.value for e in estimates if e.value is not None]
    if len(values) < len(estimates):
        return Estimate(None)
    if len(estimates) == 1:
        return estimates[0]
    mean = float(np.mean(values))
    half = math.hypot(_t_half_width(values), _mean_half_width(estimates))
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))


def judge(
    pairs: Sequence[tuple[Runs, Runs]], metric: str, families: Sequence[str]
) -> list[Difference]:
    """Judge pairs over seeds and test images, corrected for their number (Holm).

    Runs of one seed are compared on the redrawn test sets that both kept. Pairs whose runs kept
    none, or drew them differently, are judged from their intervals (:func:`by_intervals`) and
    take no part in the correction; runs on other data are not compared (:func:`comparable`).
    What trainings vary is estimated from all pairs with one reference (:func:`shared_trainings`).

    Args:
        pairs: runs of a treated arm and of its reference; arms with one reference hold the same
            object.
        metric: such as ``macro_auprc`` or ``silicone_oil/recall``.
        families: for each pair the kind of reference: one family of tests.

    Raises:
        ArtifactError: a run's ``bootstrap.parquet`` is broken.
    """
    drawn = [_drawn(*pair, metric) for pair in pairs]
    arms: dict[int, list[NDArray[np.float64]]] = {}
    for (_, reference), one in zip(pairs, drawn, strict=True):
        if one is not None and len(one.seeds) > 1:
            arms.setdefault(id(reference), []).append(one.observed)
    shared = {key: shared_trainings(observed) for key, observed in arms.items()}
    found = [
        _paired(one, metric, shared.get(id(pair[1]))) if one else by_intervals(*pair, metric)
        for pair, one in zip(pairs, drawn, strict=True)
    ]
    for family in set(families):
        p_values = {
            at: p
            for at, one in enumerate(found)
            if families[at] == family and (p := one.p_value) is not None
        }
        for at, p in zip(p_values, holm(list(p_values.values())), strict=True):
            found[at] = replace(found[at], p_adjusted=p, compared=len(p_values))
    return found


def by_intervals(runs: Runs, reference: Runs, metric: str) -> Difference:
    """A difference judged from results files alone, on the careful side.

    - One common seed: from the largest difference to the smallest that the two intervals
      allow, so it has no zero only where the intervals do not overlap. It does not cover the
      chance of training (another seed), which nobody can know from one.
    - Several: the mean of the paired differences; Student's t over seeds and the intervals
      over test images of both, added in quadrature. Since both are measured on the same
      test images, the true interval is usually narrower.
    """
    both = [
        (run.results.seed, run.results.estimate(metric), other.results.estimate(metric))
        for run, other in _common(runs, reference)
        if comparable(run.results, other.results)
    ]
    both = [one for one in both if one[1].value is not None and one[2].value is not None]
    seeds = tuple(seed for seed, _, _ in both)
    if not both:
        return Difference(metric, None, None, None, seeds)
    a, b = (np.array([[e.value, e.low, e.high] for e in part], float)
            for part in zip(*(pair[1:] for pair in both), strict=True))  # fmt: skip
    deltas = a[:, 0] - b[:, 0]
    mean = float(deltas.mean())
    if len(both) == 1:
        return Difference(metric, mean, float(a[0, 1] - b[0, 2]), float(a[0, 2] - b[0, 1]), seeds)
    half = math.hypot(
        _t_half_width(deltas.tolist()),
        _mean_half_width([one for _, one, _ in both]),
        _mean_half_width([other for _, _, other in both]),
    )
    return Difference(metric, mean, mean - half, mean + half, seeds)


def comparable(run: Results, other: Results) -> bool:
    """Whether both were tested on the same data, and state metrics for one mixture of classes.

    The draws alone do not tell: ids of simulated images are those of any other simulation.
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
    """Differences of two arms: (S,) observed and (S, R) redrawn; the reference's mean."""

    seeds: tuple[int, ...]
    observed: NDArray[np.float64]
    redrawn: NDArray[np.float64]
    before: float


def _drawn(runs: Runs, reference: Runs, metric: str) -> _Drawn | None:
    """None where some seed that both have is not paired."""
    seeds, observed, redrawn, before = [], [], [], []
    for run, other in _common(runs, reference):
        new, old = (one.results.estimate(metric).value for one in (run, other))
        a, b = run.resamples, other.resamples
        if new is None or old is None or a is None or b is None or a.draw != b.draw:
            return None
        if metric not in a.names or metric not in b.names:
            return None
        if not comparable(run.results, other.results):
            return None
        size = min(len(a.values), len(b.values))  # a longer run's draws begin with the shorter's
        seeds.append(run.results.seed)
        observed.append(new - old)
        redrawn.append(a.of(metric)[:size] - b.of(metric)[:size])
        before.append(old)
    if not seeds:
        return None
    size = min(map(len, redrawn))
    rows = np.stack([one[:size] for one in redrawn])
    return _Drawn(tuple(seeds), np.array(observed), rows, float(np.mean(before)))


def _common(runs: Runs, reference: Runs) -> list[tuple[Evaluated, Evaluated]]:
    """Runs of both by common seed."""
    others = {run.results.seed: run for run in reference}
    return [(run, others[run.results.seed]) for run in runs if run.results.seed in others]


def _paired(drawn: _Drawn, metric: str, shared: Trainings | None) -> Difference:
    found = paired_over_seeds(drawn.observed, drawn.redrawn, shared=shared)
    certain = found.p_value is None  # nothing varies: too few images to judge
    return Difference(
        metric,
        found.value,
        None if certain else max(-1.0, found.low),  # metrics are in [0, 1]
        None if certain else min(1.0, found.high),
        drawn.seeds,
        p_value=found.p_value,
        standardised=found.standardised,
        error_reduction=found.value / (1 - drawn.before) if drawn.before < 1 else None,
    )


def _t_half_width(values: Sequence[float]) -> float:
    """Half the 95 % interval of a mean, from the spread of at least two values."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def _mean_half_width(estimates: Sequence[Estimate]) -> float:
    """Root mean square half-width of the intervals that are known, 0 where none is."""
    halves = [(e.high - e.low) / 2 for e in estimates if e.low is not None and e.high is not None]
    return float(np.sqrt(np.mean(np.square(halves)))) if halves else 0.0
