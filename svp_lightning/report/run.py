"""``report.html`` of one run."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from svp_lightning.data.classes import display_name
from svp_lightning.errors import DataError
from svp_lightning.evaluation.counting import CLASS_METRICS, MACRO_METRICS, SUPPORTED
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.priors import prevalence_weights
from svp_lightning.evaluation.schema import Results, Slice
from svp_lightning.report.fidelity import fidelity_section
from svp_lightning.report.figures.curves import precision_recall
from svp_lightning.report.figures.diagnostics import (
    confusion,
    metrics_by_prevalence,
    reliability_diagram,
)
from svp_lightning.report.page import (
    FIGURES,
    REPORT,
    Picture,
    pictures,
    provenance_rows,
    write_page,
)
from svp_lightning.report.run_findings import (
    PARTICLES,
    brevity,
    expected_counts,
    headline,
    prevalence_sentence,
    shares_of_classes,
)
from svp_lightning.report.study_runs import Run, read_run
from svp_lightning.report.style import save_figure
from svp_lightning.report.text import FIDELITY_TERMS, RUN_TERMS, glossary

PREVALENCE = "prevalence.csv"
PREVALENCE_METRICS = ("precision", "recall_at_precision_95", "auprc")
COLUMN_NAMES = {
    "radius_um": "Radius (µm)",
    "defocus_um": "Distance from focus (µm)",
    "morphology": "Morphology",
}
SMALL_SLICE = 20
"""The page greys slices of fewer images."""
TOO_FEW = (
    "Too few test images: two of another class bring precision below 95 %. The number hangs on "
    "those that rank highest, and the interval is too narrow."
)
GENERATOR_FIGURES = ("noise_to_image",)
CAPTIONS = {
    "precision_recall": ("Precision and recall", "Dots: largest recall at 95 % precision."),
    "precision_recall_log": ("Precision near 100 %", ""),
    "confusion": ("What is taken for what", "Test images, and their share of the row."),
    "prevalence": (
        "Metrics as the common class becomes more common",
        "Precision of the most probable class. Hollow: too few test images.",
    ),
    "reliability": (
        "Calibration",
        "Larger dots: more particles. Hollow: after scaling by temperature and biases.",
    ),
    "worst_mistakes": (
        "Most confident mistakes",
        "Most confident first, in the colour of the predicted class. Some labels may be wrong.",
    ),
    "training_curves": ("Training", "Validation images are real ones."),
    "noise_to_image": (
        "From noise to particle",
        "Added images may be drawn in another number of steps.",
    ),
}
"""File name without suffix -> title, caption; in the order of the page."""


def run_report(run_dir: Path | str) -> Path:
    """Write ``report.html`` of a finished evaluation; figures not drawn yet are drawn first.

    The page is self-contained: it opens without a network and can be sent by mail.

    Returns:
        The path of the page.

    Raises:
        DataError: a file is missing, or a table lacks a column.
        ArtifactError: a file is malformed.
    """
    run = read_run(Path(run_dir))
    folder, results = run.folder, run.results
    predictions, table = run.predictions(), prevalence_table(run)
    fidelity = fidelity_section(folder)
    _draw_missing(run, predictions, table)
    figures = pictures(folder / FIGURES, CAPTIONS)
    return write_page(
        folder / REPORT,
        "run.html.j2",
        {
            "title": run.cell.name,
            "run": run,
            "results": results,
            "headline": headline(results, predictions) + brevity(results),
            "prevalence": prevalence_sentence(results),
            "trained_shares": shares_of_classes(results.trained_shares),
            "overall_metrics": MACRO_METRICS,
            "class_metrics": CLASS_METRICS,
            "particles": PARTICLES,
            "expected": expected_counts(results, predictions) if predictions else None,
            "slices": slice_tables(results),
            "small_slice": SMALL_SLICE,
            "by_prevalence": [] if table is None else table.to_dict("records"),
            "common": None if table is None else str(table["common"][0]),
            "by_prevalence_names": [
                f"{name}/{metric}" for name in results.class_names for metric in PREVALENCE_METRICS
            ],
            "supported": SUPPORTED,
            "too_few": TOO_FEW,
            "figures": [one for one in figures if one.name not in GENERATOR_FIGURES],
            "generator_figures": [one for one in figures if one.name in GENERATOR_FIGURES],
            "sheets": sample_sheets(run),
            "provenance": provenance_rows(results.provenance.model_dump()),
            "fidelity": fidelity,
            "glossary": glossary(RUN_TERMS + (FIDELITY_TERMS if fidelity else ())),
        },
    )


SliceTable = tuple[str, list[tuple[str, list[Slice | None]]]]
"""Title, and rows of a bin's name and a cell per class, None where it has no image."""


def slice_tables(results: Results) -> list[SliceTable]:
    """Recall by one property each, numeric bins by their lower end, names by the alphabet."""
    size = ": ".join(filter(None, ["Size (µm)", results.size_definition]))
    names, classes, tables = COLUMN_NAMES | {"ecd_um": size}, results.class_names, []
    for column in dict.fromkeys(one.column for one in results.slices):
        own = {(one.slice, one.class_name): one for one in results.slices if one.column == column}
        bins = sorted(dict.fromkeys(one for one, _ in own), key=_bin_order)
        rows = [
            (name.replace("_", " "), [own.get((name, of_class)) for of_class in classes])
            for name in bins
        ]
        tables.append((names.get(column, column), rows))
    return tables


def _bin_order(words: str) -> tuple[float, str]:
    try:
        return float(words.split(" ", 1)[0]), ""
    except ValueError:
        return float("inf"), words


def prevalence_table(run: Run) -> pd.DataFrame | None:
    """``prevalence.csv`` of a run, or None where there is none.

    Raises:
        DataError: it lacks a column.
    """
    file = run.folder / PREVALENCE
    if not file.is_file():
        return None
    table = pd.read_csv(file)
    names = run.results.class_names
    of_class = (f"{c}/{m}" for c in names for m in (*PREVALENCE_METRICS, SUPPORTED))
    wanted = ["ratio", "common", *of_class]
    if missing := [name for name in wanted if name not in table]:
        raise DataError(
            f"{file} lacks the columns {missing}.", "Run task=prevalence again to rewrite it."
        )
    return table


def _draw_missing(run: Run, predictions: Predictions | None, table: pd.DataFrame | None) -> None:
    """Draw the figures that need no images, unless the evaluation already has."""
    results, names = run.results, run.results.class_names
    drawings: dict[str, Callable[[], Figure]] = {
        "reliability": lambda: reliability_diagram(results.calibration, names)
    }
    if predictions is not None:
        weights = prevalence_weights(predictions.labels, results.prevalence, names)
        data = (predictions.labels, predictions.probabilities, names)
        drawings |= {
            "precision_recall": lambda: precision_recall(*data, weights=weights),
            "precision_recall_log": lambda: precision_recall(*data, weights=weights, scale="log"),
            "confusion": lambda: confusion(predictions.confusion(), names),
        }
    if table is not None:
        common = str(table["common"][0])
        drawings["prevalence"] = lambda: metrics_by_prevalence(table, names, common)
    for name, draw in drawings.items():
        path = run.folder / FIGURES / f"{name}.png"
        if not path.is_file():
            save_figure(draw(), path)


def sample_sheets(run: Run) -> list[Picture]:
    """The contact sheets in the run's folder, in class order."""
    words = {
        f"contact_sheet_{name}": (f"Images: {display_name(name).lower()}", "")
        for name in run.results.class_names
    }
    return pictures(run.folder / FIGURES, words)
