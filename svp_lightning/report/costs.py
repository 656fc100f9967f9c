"""What the cells of a study took, and a whole study, in seconds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from svp_lightning.evaluation.schema import Cost
from svp_lightning.report.study_findings import Comparison
from svp_lightning.report.study_runs import Group, Run
from svp_lightning.report.text import duration

STAGES = {
    "network": "Training the network that judges images",
    "features": "Its features",
    "generator": "Training the generator",
    "synthetic": "Drawing images",
    "filter": "Keeping the filtered",
    "classifier": "Training the classifier",
    "test": "Validation and test",
}
SECONDS = ("wall_seconds", "cpu_seconds", "gpu_seconds")


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
    known = [group for group in groups if all(run.results.costs for run in group.runs)]
    costs = {id(group): _mean_costs(group.runs) for group in known}
    sums = {key: _sum(own.values()) for key, own in costs.items()}
    return [
        CostRow(
            group,
            {stage: cost.wall_seconds for stage, cost in costs[id(group)].items()},
            total.wall_seconds,
            total.cpu_seconds,
            total.gpu_seconds,
            _per_point(group, sums, comparisons),
        )
        for group in known
        for total in (sums[id(group)],)
    ]


def _sum(costs: Iterable[Cost]) -> Cost:
    known = list(costs)
    return Cost(**{name: sum(getattr(cost, name) for cost in known) for name in SECONDS})


def _mean_costs(runs: Sequence[Run]) -> dict[str, Cost]:
    found = {}
    for stage in STAGES:
        if own := [run.results.costs[stage] for run in runs if stage in run.results.costs]:
            total = _sum(own)
            mean = {name: getattr(total, name) / len(own) for name in SECONDS}
            found[stage] = Cost(**mean)
    return found


def _per_point(
    group: Group, sums: Mapping[int, Cost], comparisons: Sequence[Comparison]
) -> float | None:
    for one in comparisons:
        if one.group is group and one.reference.cell.is_control and id(one.reference) in sums:
            more = sums[id(group)].wall_seconds - sums[id(one.reference)].wall_seconds
            if one.first.verdict == "higher" and one.first.value:
                return more / (100 * one.first.value)
    return None


def study_total(runs: Sequence[Run]) -> Cost:
    """What the whole study took: what several runs share is counted once.

    An artifact's name tells its stage too. One run's classifier may be another's ``network``.
    """
    seen: dict[object, Cost] = {}
    for run in runs:
        for stage, cost in run.results.costs.items():
            seen[cost.artifact or (stage, run.folder)] = cost
    return _sum(seen.values())


def total_sentence(total: Cost) -> str:
    """The total in words."""
    words = f"Everything: {duration(total.wall_seconds)} of stages one after another, "
    words += f"{duration(total.cpu_seconds)} of processor time"
    return (
        f"{words}, {duration(total.gpu_seconds)} of GPU time." if total.gpu_seconds else f"{words}."
    )
