"""Differences between the arms of a study, judged on the runs' own redrawn test sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.comparison import Trainings, holm, paired_over_seeds, shared_trainings
from svp_lightning.evaluation.predictions import RESAMPLES, Resamples, read_resamples
from svp_lightning.report.inputs import RunResult
from svp_lightning.report.study import Difference, Group, Judge, comparable, difference

Read = Callable[[Path], Resamples | None]


def paired_judge() -> Judge:
    """A judge that reads each run's redrawn test sets once."""
    read = cache(lambda folder: read_resamples(folder / RESAMPLES))
    return lambda pairs, metric: judge_paired(pairs, metric, read)


def judge_paired(pairs: Sequence[tuple[Group, Group]], metric: str, read: Read) -> list[Difference]:
    """Judge pairs over seeds and test images, corrected for their number (Holm).

    One family of tests is all comparisons of a metric against one kind of control. Pairs
    whose runs kept no redrawn test sets, or drew them differently, are judged from their
    intervals (:func:`~svp_lightning.report.study.difference`) and take no part in it; runs on
    other data are not compared at all (:func:`~svp_lightning.report.study.comparable`).

    What trainings vary is estimated from all comparisons with one control together
    (:func:`~svp_lightning.evaluation.comparison.shared_trainings`).

    Args:
        pairs: (treated, reference) groups of a study.
        metric: such as ``macro_auprc`` or ``silicone_oil/recall``.
        read: gives the redrawn metrics of a run's folder, None where there are none.

    Raises:
        ArtifactError: a run's ``bootstrap.parquet`` is broken.
    """
    drawn = [_drawn(*pair, metric, read) for pair in pairs]
    shared = _shared(pairs, drawn)
    found = [
        difference(*pair, metric)
        if one is None
        else _judged(*pair, metric, one, shared.get(id(pair[1])))
        for pair, one in zip(pairs, drawn, strict=True)
    ]
    families: dict[str, list[int]] = {}
    for at, (_, reference) in enumerate(pairs):
        if found[at].p_value is not None:
            families.setdefault(reference.cell.method, []).append(at)
    for members in families.values():
        adjusted = holm([p for at in members if (p := found[at].p_value) is not None])
        for at, p in zip(members, adjusted, strict=True):
            found[at] = replace(found[at], p_adjusted=p, compared=len(members))
    return found


@dataclass(frozen=True)
class _Drawn:
    """Differences of two groups: runs of both by seed, (S,) observed and (S, R) redrawn."""

    runs: list[tuple[RunResult, RunResult]]
    observed: NDArray[np.float64]
    redrawn: NDArray[np.float64]


def _drawn(group: Group, reference: Group, metric: str, read: Read) -> _Drawn | None:
    others = {run.cell.seed: run for run in reference.runs}
    runs = [(run, others[run.cell.seed]) for run in group.runs if run.cell.seed in others]
    found = [one for pair in runs if (one := _differences(*pair, metric, read)) is not None]
    if not found or len(found) < len(runs):
        return None
    size = min(len(redrawn) for _, redrawn in found)  # runs may differ in their redraws
    return _Drawn(
        runs,
        np.array([observed for observed, _ in found]),
        np.stack([redrawn[:size] for _, redrawn in found]),
    )


def _shared(
    pairs: Sequence[tuple[Group, Group]], drawn: Sequence[_Drawn | None]
) -> dict[int, Trainings]:
    """``id`` of each reference -> what trainings vary, over the groups compared with it."""
    observed: dict[int, list[NDArray[np.float64]]] = {}
    for (_, reference), one in zip(pairs, drawn, strict=True):
        if one is not None and len(one.observed) > 1:
            observed.setdefault(id(reference), []).append(one.observed)
    return {reference: shared_trainings(arms) for reference, arms in observed.items()}


def _judged(
    group: Group, reference: Group, metric: str, drawn: _Drawn, shared: Trainings | None
) -> Difference:
    judged = paired_over_seeds(drawn.observed, drawn.redrawn, shared=shared)
    before = np.mean([run.estimate(metric).value for _, run in drawn.runs])
    certain = judged.p_value is None  # nothing varies: too few images to judge
    return Difference(
        metric,
        judged.value,
        None if certain else max(-1.0, judged.low),  # metrics are in [0, 1]
        None if certain else min(1.0, judged.high),
        tuple(run.cell.seed for run, _ in drawn.runs),
        p_value=judged.p_value,
        standardised=judged.standardised,
        error_reduction=judged.value / float(1 - before) if before < 1 else None,
    )


def _differences(
    run: RunResult, other: RunResult, metric: str, read: Read
) -> tuple[float, NDArray[np.float64]] | None:
    """Observed and redrawn difference of two runs of one seed, None where not paired."""
    values = run.estimate(metric).value, other.estimate(metric).value
    # The draw alone does not tell: ids of simulated images are those of any other simulation.
    if not comparable(run, other):
        return None
    a, b = read(run.folder), read(other.folder)
    if values[0] is None or values[1] is None or a is None or b is None or a.draw != b.draw:
        return None
    if metric not in a.names or metric not in b.names:
        return None
    size = min(len(a.values), len(b.values))  # a longer run's draws begin with the shorter one's
    return values[0] - values[1], a.of(metric)[:size] - b.of(metric)[:size]
