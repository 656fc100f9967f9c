"""What the cells of a study took, and a whole study, in seconds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from svp_lightning.evaluation.schema import Cost
from svp_lightning.report.study_findings import Comparison
from svp_lightning.report.study_runs import Group, Run
from svp_lightning.report.text import duration

STAGES = {
    "network": "Training the network that judges images",
    "features": "Its features",
    "generator": "Training the generator",
    "synthetic": "Drawing images",
    "looks": "Simulating microscopes to choose from",
    "simulated": "Simulating images",
    "filter": "Keeping the filtered",
    "microscopes": "Simulating what the classifier starts from",
    "pretraining": "Training what the classifier starts from",
    "classifier": "Training the classifier",
    "test": "Validation and test",
}
SECONDS = ("wall_seconds", "cpu_seconds", "gpu_seconds")


class CostRow(NamedTuple):
    """Mean over the seeds of a cell, in seconds; every stage is counted in full."""

    group: Group
    stages: Mapping[str, float]
    """Stage -> wall seconds, for those the cell has."""
    wall: float
    cpu: float
    gpu: float
    per_point: float | None
    """Wall seconds beyond the control's for each percentage point of the primary metric gained
    over it; None where no gain is detectable."""


def cost_rows(groups: Sequence[Group], comparisons: Sequence[Comparison]) -> list[CostRow]:
    """One row per cell whose runs recorded what they took."""
    known = [group for group in groups if all(run.results.costs for run in group.runs)]
    costs = {id(group): _mean_costs(group.runs) for group in known}
    walls = {key: sum(own["wall_seconds"].values()) for key, own in costs.items()}

    def per_point(group: Group) -> float | None:
        for one in comparisons:
            if one.group is group and one.reference.cell.is_control and id(one.reference) in walls:
                more = walls[id(group)] - walls[id(one.reference)]
                if one.first.verdict == "higher" and one.first.value:
                    return more / (100 * one.first.value)
        return None

    rows = []
    for group in known:
        own = costs[id(group)]
        wall, cpu, gpu = (sum(own[name].values()) for name in SECONDS)
        rows.append(CostRow(group, own["wall_seconds"], wall, cpu, gpu, per_point(group)))
    return rows


def _mean_costs(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Kind of seconds -> stage -> their mean over the runs that have it."""
    of_stage = {
        stage: [run.results.costs[stage] for run in runs if stage in run.results.costs]
        for stage in STAGES
    }
    return {
        name: {
            stage: sum(getattr(cost, name) for cost in own) / len(own)
            for stage, own in of_stage.items()
            if own
        }
        for name in SECONDS
    }


def study_total(runs: Sequence[Run]) -> Cost:
    """What the whole study took: what several runs share is counted once.

    An artifact's name identifies its stage, too. One run's classifier may be another's ``network``.
    """
    seen: dict[object, Cost] = {}
    for run in runs:
        for stage, cost in run.results.costs.items():
            seen[cost.artifact or (stage, run.folder)] = cost
    return Cost(**{name: sum(getattr(cost, name) for cost in seen.values()) for name in SECONDS})


def total_sentence(total: Cost) -> str:
    """The total in words."""
    words = f"Everything: {duration(total.wall_seconds)} of stages one after another, "
    words += f"{duration(total.cpu_seconds)} of processor time"
    return (
        f"{words}, {duration(total.gpu_seconds)} of GPU time." if total.gpu_seconds else f"{words}."
    )
