"""The cells of a study over their seeds, and how each differs from its control.

:func:`over_seeds` and :func:`difference` need nothing but ``results.json`` and are conservative
on purpose; they state what their intervals cover. Where runs keep their redrawn test sets, the
report task judges differences pairwise instead and hands them in (:data:`Judge`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from svp_lightning.report.inputs import Cell, Estimate, RunResult

ALPHA = 0.05
Verdict = Literal["higher", "lower", "no detectable difference", "not judged"]


Place = tuple[str, int | None]
"""Backbone and real images: a treated cell and its control have them in common."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        cell: the cell of the first run (its seed means nothing here).
        runs: by ascending seed.
    """

    cell: Cell
    runs: tuple[RunResult, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.cell.seed for run in self.runs)

    def estimate(self, metric: str) -> Estimate:
        return over_seeds([run.estimate(metric) for run in self.runs])


@dataclass(frozen=True)
class Difference:
    """Cell minus reference, in the unit of the metric, with a 95 % interval.

    ``seeds`` are those that both have. ``value`` is None where no seed is shared or the
    metric is not defined.

    Attributes:
        p_value: two-sided, of no difference; None where only intervals were compared.
        p_adjusted: the same, corrected for ``compared`` comparisons (Holm); decides the
            verdict where it is known.
        compared: comparisons of this metric against the same kind of control.
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
        if self.value is None or self.low is None or self.high is None:
            return "not judged"
        if self.p_adjusted is not None:
            if self.p_adjusted > ALPHA:
                return "no detectable difference"
            return "higher" if self.value > 0 else "lower"
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "no detectable difference"


Judge = Callable[[Sequence[tuple[Group, Group]], str], list[Difference]]
"""(group, reference) pairs and a metric -> the difference of each pair."""


def judge_by_intervals(pairs: Sequence[tuple[Group, Group]], metric: str) -> list[Difference]:
    """:func:`difference` of each pair: what results files alone allow."""
    return [difference(group, reference, metric) for group, reference in pairs]


def group_runs(results: Sequence[RunResult]) -> tuple[Group, ...]:
    """Groups in the order of ``results``; a control is a group whatever its method's name.

    Of controls with one seed (nothing added, and 0 × generated images: the same training) the
    first counts: twice the same is not two seeds. Variants, needed to tell treated cells apart,
    tell controls apart only where they are different trainings.
    """
    apart = _places_of_several_controls(results)
    groups: dict[Cell, dict[int, RunResult]] = {}
    for run in results:
        cell = replace(run.cell, seed=0)
        if cell.is_control:
            variant = cell.variant if _place(cell) in apart else ""
            cell = replace(cell, method="none", ratio=0.0, variant=variant)
        groups.setdefault(cell, {}).setdefault(run.cell.seed, run)
    return tuple(
        Group(cell, tuple(sorted(runs.values(), key=lambda run: run.cell.seed)))
        for cell, runs in groups.items()
    )


def _places_of_several_controls(results: Sequence[RunResult]) -> set[Place]:
    """Where controls of one seed are not one training (another learning rate, say)."""
    first: dict[tuple[Place, int], RunResult] = {}
    controls = [run for run in results if run.cell.is_control]
    return {
        _place(run.cell)
        for run in controls
        if not _same_training(first.setdefault((_place(run.cell), run.cell.seed), run), run)
    }


def _place(cell: Cell) -> Place:
    return cell.backbone, cell.real_images


def _same_training(run: RunResult, other: RunResult) -> bool:
    """Whether two runs of one seed tested one classifier, or two that answer the same."""
    costs = run.costs.get("classifier"), other.costs.get("classifier")
    artifacts = {cost.artifact for cost in costs if cost is not None}
    one_artifact = None not in costs and len(artifacts) == 1 and None not in artifacts
    return one_artifact or (run.overall == other.overall and run.per_class == other.per_class)


def control_of(group: Group, groups: Sequence[Group]) -> Group | None:
    """The control of the same backbone and real images (and variant, where controls have one)."""
    controls = [
        other
        for other in groups
        if other.cell.is_control and _place(other.cell) == _place(group.cell)
    ]
    same = [other for other in controls if other.cell.variant == group.cell.variant]
    if same:
        return same[0]
    return controls[0] if len(controls) == 1 else None


def remedies_of(group: Group, groups: Sequence[Group]) -> list[Group]:
    """What else could have been done: the treated groups without generated images.

    Of the same backbone and number of real images; of those that add images, the ones that
    add as many to each rare class (duplicates).
    """
    return [
        other
        for other in groups
        if not other.cell.is_control
        and not is_generative(other.cell)
        and _place(other.cell) == _place(group.cell)
        and other.cell.ratio in (0, group.cell.ratio)
    ]


def is_generative(cell: Cell) -> bool:
    """Whether generated images are trained on, alone or beside another remedy."""
    return "diffusion" in cell.method and cell.ratio > 0


def adds_to_all_classes(cell: Cell) -> bool:
    """Whether images are added to the plentiful classes, too."""
    return "all_classes" in cell.method


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


def difference(group: Group, reference: Group, metric: str) -> Difference:
    """How much higher ``group`` is than ``reference``, paired by seed.

    Only runs evaluated on the same data (``provenance.data``), at the same prevalence, are
    compared.

    - One common seed: from the largest difference to the smallest that the two intervals
      allow, so it has no zero only where the intervals do not overlap. It does not cover the
      chance of training (another seed), which nobody can know from one.
    - Several: the mean of the paired differences; Student's t over seeds and the intervals
      over test images of both, added in quadrature. Since both are measured on the same
      test images, the true interval is usually narrower.
    """
    pairs = _pairs(group, reference, metric)
    seeds = tuple(seed for seed, _, _ in pairs)
    if not pairs:
        return Difference(metric, None, None, None, seeds)
    deltas = [a.value - b.value for _, a, b in pairs if a.value is not None and b.value is not None]
    mean = float(np.mean(deltas))
    bounds = [(a.low, a.high, b.low, b.high) for _, a, b in pairs]
    if any(bound is None for four in bounds for bound in four):
        return Difference(metric, mean, None, None, seeds)
    if len(pairs) == 1:
        (a_low, a_high, b_low, b_high) = np.array(bounds[0], dtype=float)
        return Difference(metric, mean, float(a_low - b_high), float(a_high - b_low), seeds)
    half = math.hypot(
        _t_half_width(deltas),
        _mean_half_width([a for _, a, _ in pairs]),
        _mean_half_width([b for _, _, b in pairs]),
    )
    return Difference(metric, mean, mean - half, mean + half, seeds)


def _pairs(group: Group, reference: Group, metric: str) -> list[tuple[int, Estimate, Estimate]]:
    others = {run.cell.seed: run for run in reference.runs}
    pairs = []
    for run in group.runs:
        other = others.get(run.cell.seed)
        if other is None or not comparable(run, other):
            continue
        a, b = run.estimate(metric), other.estimate(metric)
        if a.value is not None and b.value is not None:
            pairs.append((run.cell.seed, a, b))
    return pairs


def comparable(run: RunResult, other: RunResult) -> bool:
    """Whether both were tested on the same data, and state metrics for one mixture of classes.

    Files that do not name their data are taken to be of the same when neither does.
    """
    same_data = run.provenance.get("data") == other.provenance.get("data")
    return same_data and _same_prevalence(run, other)


def _same_prevalence(run: RunResult, other: RunResult) -> bool:
    return run.prevalence.keys() == other.prevalence.keys() and all(
        math.isclose(share, other.prevalence[name], rel_tol=1e-6)
        for name, share in run.prevalence.items()
    )


def _t_half_width(values: Sequence[float]) -> float:
    """Half the 95 % interval of a mean, from the spread of at least two values."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def _mean_half_width(estimates: Sequence[Estimate]) -> float:
    """Root mean square half-width of the intervals that are known, 0 where none is."""
    halves = [(e.high - e.low) / 2 for e in estimates if e.low is not None and e.high is not None]
    return float(np.sqrt(np.mean(np.square(halves)))) if halves else 0.0
