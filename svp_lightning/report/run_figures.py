"""The figures of one run: drawing those that need its predictions, finding all that exist."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.priors import prevalence_weights
from svp_lightning.report.figures.curves import confusion, precision_recall
from svp_lightning.report.inputs import FIGURES, RunResult
from svp_lightning.report.style import save_figure

SHEET_PREFIX = "contact_sheet_"


@dataclass(frozen=True)
class Shown:
    """A figure on disk and what a page says about it."""

    path: Path
    title: str
    caption: str


CAPTIONS = {
    "precision_recall": (
        "Precision and recall",
        "Each point of a curve is a threshold on the probability of a class. Up and to the "
        "right is better; the dot is the largest recall at a precision of 95 % (dashed line).",
    ),
    "precision_recall_log": (
        "Precision near 100 %",
        "The same curves with the errors on a logarithmic scale: from 90 % to 99 % to 99.9 %, "
        "ten times fewer of the particles counted as a class are something else.",
    ),
    "confusion": (
        "What is taken for what",
        "Test images by label (rows) and predicted class (columns), with the share of the row. "
        "Counts are of test images, whatever the prevalence.",
    ),
    "prevalence": (
        "Metrics as the common class becomes more common",
        "The same predictions, were there so many particles of the class named below the panels "
        "for one of each other class; the dashed line is 95 %.",
    ),
    "reliability": (
        "Calibration",
        "Test images in bins of the probability given to a class, against the share that is of "
        "the class. On the diagonal a probability means what it says; larger dots stand for more "
        "particles. Hollow: after temperature scaling.",
    ),
    "worst_mistakes": (
        "Most confident mistakes",
        "Test images whose label and prediction differ, most confident first. Look at them: "
        "some are mistakes of the classifier, some of the label.",
    ),
    "training_curves": (
        "Training",
        "Loss and metrics over training. Validation images are real ones.",
    ),
    "noise_to_image": (
        "From noise to particle",
        "The diffusion model at work: pure noise on the left, a finished image on the right.",
    ),
}
"""File name without suffix -> title, caption; in the order of the page."""


def draw_missing_figures(run: RunResult, predictions: Predictions) -> None:
    """Draw the curves and the confusion matrix, unless the evaluation already has."""
    weights = (
        prevalence_weights(predictions.labels, run.prevalence, run.class_names)
        if run.prevalence_is_given
        else None
    )
    data = (predictions.labels, predictions.probabilities, predictions.class_names)
    drawings: dict[str, Callable[[], Figure]] = {
        "precision_recall": lambda: precision_recall(*data, weights=weights),
        "precision_recall_log": lambda: precision_recall(*data, weights=weights, scale="log"),
        "confusion": lambda: confusion(predictions.confusion(), predictions.class_names),
    }
    for name, draw in drawings.items():
        path = run.folder / FIGURES / f"{name}.png"
        if not path.is_file():
            save_figure(draw(), path)


def known_figures(folder: Path) -> list[Shown]:
    """Figures of :data:`CAPTIONS` that the run ``folder`` holds, in page order."""
    return [
        Shown(path, title, caption)
        for name, (title, caption) in CAPTIONS.items()
        if (path := folder / FIGURES / f"{name}.png").is_file()
    ]


def sample_sheets(run: RunResult) -> list[Shown]:
    """The contact sheets in the run's folder, in class order."""
    return [
        Shown(path, f"Images: {display_name(name).lower()}", "")
        for name in run.class_names
        if (path := run.folder / FIGURES / f"{SHEET_PREFIX}{name}.png").is_file()
    ]
