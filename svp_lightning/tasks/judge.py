"""Differences between the arms of a study, judged on the runs' own redrawn test sets."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.comparison import holm, paired_over_seeds
from svp_lightning.evaluation.resamples import Resamples, read_resamples
from svp_lightning.report.inputs import RunResult
from svp_lightning.report.study import Difference, Group, Judge, difference
from svp_lightning.tasks.measure import RESAMPLES

Read = Callable[[Path], Resamples | None]


def paired_judge() -> Judge:
    """A judge that reads each run's redrawn test sets once."""
    read = cache(lambda folder: read_resamples(folder / RESAMPLES))
    return lambda pairs, metric: judge_paired(pairs, metric, read)


def judge_paired(pairs: Sequence[tuple[Group, Group]], metric: str, read: Read) -> list[Difference]:
    """Judge pairs over seeds and test images, corrected for their number (Holm).

    One family of tests is all comparisons of a metric against one kind of control. Pairs
    whose runs kept no redrawn test sets, or were tested on different images, are judged from
    their intervals (:func:`~svp_lightning.report.study.difference`) and take no part in it.

    Args:
        pairs: (treated, reference) groups of a study.
        metric: such as ``macro_auprc`` or ``silicone_oil/recall``.
        read: gives the redrawn metrics of a run's folder, None where there are none.

    Raises:
        ArtifactError: a run's ``bootstrap.parquet`` is broken.
    """
    found = [_paired(*pair, metric, read) for pair in pairs]
    families: dict[str, list[int]] = {}
    for at, (_, reference) in enumerate(pairs):
        if found[at].p_value is not None:
            families.setdefault(reference.cell.method, []).append(at)
    for members in families.values():
        adjusted = holm([p for at in members if (p := found[at].p_value) is not None])
        for at, p in zip(members, adjusted, strict=True):
            found[at] = replace(found[at], p_adjusted=p, compared=len(members))
    return found


def _paired(group: Group, reference: Group, metric: str, read: Read) -> Difference:
    others = {run.cell.seed: run for run in reference.runs}
    shared = [(run, others[run.cell.seed]) for run in group.runs if run.cell.seed in others]
    drawn = [_differences(*pair, metric, read) for pair in shared]
    if not drawn or any(one is None for one in drawn):
        return difference(group, reference, metric)
    observed = np.array([one[0] for one in drawn if one is not None])
    redrawn = np.stack([one[1] for one in drawn if one is not None])
    judged = paired_over_seeds(observed, redrawn)
    before = np.mean([run.estimate(metric).value for _, run in shared])
    certain = judged.p_value is None  # nothing varies: too few images to judge
    return Difference(
        metric,
        judged.value,
        None if certain else max(-1.0, judged.low),  # metrics are in [0, 1]
        None if certain else min(1.0, judged.high),
        tuple(run.cell.seed for run, _ in shared),
        p_value=judged.p_value,
        standardised=judged.standardised,
        error_reduction=judged.value / float(1 - before) if before < 1 else None,
    )


def _differences(
    run: RunResult, other: RunResult, metric: str, read: Read
) -> tuple[float, NDArray[np.float64]] | None:
    """Observed and redrawn difference of two runs of one seed, None where not paired."""
    values = run.estimate(metric).value, other.estimate(metric).value
    a, b = read(run.folder), read(other.folder)
    if values[0] is None or values[1] is None or a is None or b is None or a.draw != b.draw:
        return None
    if metric not in a.names or metric not in b.names:
        return None
    size = min(len(a.values), len(b.values))  # a longer run's draws begin with the shorter one's
    return values[0] - values[1], a.of(metric)[:size] - b.of(metric)[:size]
