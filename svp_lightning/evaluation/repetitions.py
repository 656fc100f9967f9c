"""What the mean of a few repetitions varies by: moderated variances, intervals and p-values.

With d_s the difference of two arms in repetition s, and D_sr the same on the r-th redraw of the
test images, the mean difference varies for two reasons:

- the test images, shared by all repetitions: C, the mean covariance of D_s. and D_t. over s != t;
- the repetitions (and what images do to one of them only): s^2 / S, the variance of the d_s over S.

The interval is mean ± sqrt(t^2 s^2 / S + z^2 C), with Student's t for the part that few repetitions
estimate and the normal z for the other, and never narrower than the images alone make it. Welch's
and Satterthwaite's degrees of freedom are not used: where a few d_s agree by chance they rise
without bound, and among many arms there is always such a case.

Few repetitions estimate s^2 badly, so it is moderated (:func:`moderated`): each comparison's own
s^2 is shrunk towards what several have in common, the less the more they differ.
``experiments/interval_coverage`` measures how often the intervals hold the truth, and what another
arm changes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

ROUNDING = 1e-12
"""Differences of metrics below this are rounding."""
ALPHA = 0.05
SMALLEST_VARIANCE = 1e-5
"""Of the median: what a smaller variance counts as, so that its logarithm is no outlier."""
_SMALLEST_LOG_P = -300.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """How much a difference varies between repetitions: s^2 of one, and its degrees of freedom."""

    variance: float
    freedom: float


def moderated(observed: Sequence[Array]) -> list[Spread]:
    """Variances of A comparisons, each shrunk towards their common prior (Smyth 2004, limma).

    ``observed`` are the (S,) differences of each comparison, S at least 2 and not always the same.
    With f = S - 1, s^2 is taken as s0^2 times an F variate of f and d0 degrees of freedom; s0 and
    d0 follow from mean and variance of log s^2 (equation 6.2 there). The moderated variance is
    (d0 s0^2 + f s^2) / (d0 + f), with d0 + f degrees of freedom.

    Comparisons that share an arm are not independent: if all trainings vary alike, the differences
    of two arms from one control correlate by 1/2 and their variances by 1/4. So the log variances
    are expected to vary by 3/4 of what independent ones do, and A comparisons know a common
    variance with 4 A f / (A + 3) degrees of freedom. The prior counts for no more than these less
    the comparison's own f: one comparison keeps its own variance.
    """
    own = np.array([values.var(ddof=1) for values in observed])
    f = np.array([len(values) - 1.0 for values in observed])
    arms = len(own)
    if arms < 2 or not np.median(own) > ROUNDING**2:
        return [Spread(float(v), float(n)) for v, n in zip(own, f, strict=True)]
    log = np.log(np.maximum(own, SMALLEST_VARIANCE * np.median(own)))
    log -= special.digamma(f / 2) - np.log(f / 2)
    excess = float(log.var(ddof=1) - 0.75 * special.polygamma(1, f / 2).mean())
    d0 = _prior_freedom(excess)
    bias = special.digamma(d0 / 2) - math.log(d0 / 2) if math.isfinite(d0) else 0.0
    prior = math.exp(float(log.mean()) + bias)
    weight = np.minimum(d0, f * 3 * (arms - 1) / (arms + 3))
    variance = (weight * prior + f * own) / (weight + f)
    return [Spread(float(v), float(n)) for v, n in zip(variance, f + weight, strict=True)]


def _prior_freedom(excess: float) -> float:
    """d0 with trigamma(d0 / 2) = ``excess``; infinite where variances differ by chance only."""
    low, high = 1e-3, 1e6
    if excess <= special.polygamma(1, high):
        return math.inf
    return 2 * float(optimize.brentq(lambda x: special.polygamma(1, x) - excess, low, high))


@dataclass(frozen=True)
class Error:
    """What a mean difference varies by.

    ``images`` is the variance that the test images make, ``repetitions`` that of the mean over the
    repetitions, known with ``freedom`` degrees of freedom.
    """

    images: float
    repetitions: float
    freedom: float

    def half_width(self, log_p: float) -> float:
        """Of the interval that leaves out a share of exp(``log_p``)."""
        tail = math.exp(log_p) / 2
        t, z = special.stdtrit(self.freedom, tail), special.ndtri(tail)
        return math.sqrt(t**2 * self.repetitions + z**2 * self.images)

    def p_value(self, mean: float) -> float | None:
        """The two-sided p-value of no difference; None where nothing varies but means differ."""
        if self.half_width(math.log(ALPHA)) <= ROUNDING:
            return 1.0 if abs(mean) <= ROUNDING else None
        if self.half_width(_SMALLEST_LOG_P) <= abs(mean):
            return math.exp(_SMALLEST_LOG_P)
        found = optimize.brentq(lambda p: self.half_width(p) - abs(mean), _SMALLEST_LOG_P, 0.0)
        return math.exp(found)


def error_of(redrawn: Array, spread: Spread | None) -> Error:
    """What the mean over S repetitions varies by.

    ``redrawn`` (S, R) are differences on R redrawn test sets; column r is one draw for all. Without
    a ``spread`` (one repetition) the test images alone are known to vary.
    """
    repetitions = len(redrawn)
    covariance = np.atleast_2d(np.cov(redrawn))
    of_mean = float(covariance.mean())  # variance of the mean over these very trainings
    if spread is None:
        return Error(of_mean, 0.0, 1.0)
    between = covariance.sum() - covariance.trace()
    images = max(0.0, float(between) / (repetitions * (repetitions - 1)))
    trainings = spread.variance / repetitions
    return Error(max(images, of_mean - trainings), trainings, spread.freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): the chance of any false finding holds.

    In the order given, at most 1 and never below the one given.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()
