"""The cell that gains most beside its control: curves, confusion, most confident mistakes."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from svp_lightning.evaluation.priors import prevalence_weights
from svp_lightning.report.figures.curves import compared_precision_recall
from svp_lightning.report.inputs import RunResult, predictions_of
from svp_lightning.report.run_figures import Shown, known_figures
from svp_lightning.report.study_findings import Comparison
from svp_lightning.report.wording import cell_name

SHOWN = ("confusion", "worst_mistakes")


def compared_runs(
    comparisons: Sequence[Comparison], results: Sequence[RunResult]
) -> tuple[RunResult, ...]:
    """Control and the cell that gains most on it by the primary metric, first common seed.

    A choice for illustration: it gains most on the test images, by luck in part.
    """
    judged = [
        c for c in comparisons if c.reference.cell.is_control and c.differences[0].value is not None
    ]
    if not judged:
        return tuple(results[:1])
    best = max(judged, key=lambda c: c.differences[0].value or 0.0)
    seed = best.differences[0].seeds[0]
    return tuple(
        next(run for run in group.runs if run.cell.seed == seed)
        for group in (best.reference, best.group)
    )


def close_up_curves(runs: Sequence[RunResult]) -> Figure | None:
    """Precision-recall on a log scale, a panel per rare class; None without predictions."""
    first = runs[0]
    curves = {}
    for run in runs:
        if run.class_names != first.class_names:
            return None
        found = predictions_of(run)
        if found is None:
            return None
        weights = prevalence_weights(found.labels, run.prevalence, run.class_names)
        curves[cell_name(run.cell)] = (found.labels, found.probabilities, weights)
    return compared_precision_recall(curves, first.class_names, first.rare)


def close_up_pictures(runs: Sequence[RunResult]) -> list[Shown]:
    """Confusion and mistakes of each run, named after it."""
    pictures = []
    for run in runs:
        for shown in known_figures(run.folder):
            if shown.path.stem in SHOWN:
                title = f"{shown.title}: {cell_name(run.cell)}, seed {run.cell.seed}"
                pictures.append(Shown(shown.path, title, shown.caption))
    return pictures
