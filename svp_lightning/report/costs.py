"""What the cells of a study took, and what a point of AUPRC costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from svp_lightning.report.inputs import RunResult
from svp_lightning.report.schema import Cost
from svp_lightning.report.study import Group
from svp_lightning.report.study_findings import Comparison
from svp_lightning.report.wording import duration

STAGES = {
    "network": "Training the network that judges images",
    "features": "Its features",
    "generator": "Training the generator",
    "synthetic": "Drawing images",
    "filter": "Keeping the filtered",
    "classifier": "Training the classifier",
    "test": "Validation and test",
}


@dataclass(frozen=True)
class CostRow:
    """Mean over the seeds of a cell, in seconds; every stage is counted in full.

    Attributes:
        stages: stage -> wall seconds, for those the cell has.
        per_point: wall seconds beyond the control's for each percentage point of the primary
            metric gained over it; None where no gain is detectable.
    """

    group: Group
    stages: Mapping[str, float]
    wall: float
    cpu: float
    gpu: float
    per_point: float | None


def cost_rows(groups: Sequence[Group], comparisons: Sequence[Comparison]) -> list[CostRow]:
    """One row per cell whose runs recorded what they took."""
    totals = {id(g): _mean_costs(g.runs) for g in groups if all(run.costs for run in g.runs)}
    rows = []
    for group in groups:
        if id(group) not in totals:
            continue
        costs = totals[id(group)]
        rows.append(
            CostRow(
                group,
                {stage: cost.wall_seconds for stage, cost in costs.items()},
                wall := sum(cost.wall_seconds for cost in costs.values()),
                sum(cost.cpu_seconds for cost in costs.values()),
                sum(cost.gpu_seconds for cost in costs.values()),
                _per_point(group, wall, totals, comparisons),
            )
        )
    return rows


def _mean_costs(runs: Sequence[RunResult]) -> dict[str, Cost]:
    found = {}
    for stage in STAGES:
        own = [run.costs[stage] for run in runs if stage in run.costs]
        if own:
            means = {
                name: float(np.mean([getattr(cost, name) for cost in own]))
                for name in ("wall_seconds", "cpu_seconds", "gpu_seconds")
            }
            found[stage] = Cost(**means)
    return found


def _per_point(
    group: Group,
    wall: float,
    totals: Mapping[int, Mapping[str, Cost]],
    comparisons: Sequence[Comparison],
) -> float | None:
    for one in comparisons:
        if one.group is group and one.reference.cell.is_control and id(one.reference) in totals:
            gain = one.differences[0]
            if gain.verdict == "higher" and gain.value:
                before = sum(cost.wall_seconds for cost in totals[id(one.reference)].values())
                return (wall - before) / (100 * gain.value)
    return None


def study_total(results: Sequence[RunResult]) -> Cost | None:
    """What the whole study took: what several runs share is counted once.

    An artifact's name tells its stage too. One run's classifier may be another's ``network``.
    """
    seen: dict[object, Cost] = {}
    for run in results:
        for stage, cost in run.costs.items():
            seen[cost.artifact or (stage, run.folder)] = cost
    if not seen:
        return None
    return Cost(
        wall_seconds=sum(cost.wall_seconds for cost in seen.values()),
        cpu_seconds=sum(cost.cpu_seconds for cost in seen.values()),
        gpu_seconds=sum(cost.gpu_seconds for cost in seen.values()),
    )


def total_sentence(total: Cost) -> str:
    """The total in words."""
    words = f"Everything together: {duration(total.wall_seconds)} of stages one after another, "
    words += f"{duration(total.cpu_seconds)} of processor time"
    return (
        f"{words}, {duration(total.gpu_seconds)} of GPU time." if total.gpu_seconds else f"{words}."
    )
