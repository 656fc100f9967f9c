"""What schema 2 of ``results.json`` adds to a run's page: thresholds, calibration, slices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from svp_lightning.errors import DataError
from svp_lightning.report.figures.calibration import reliability_diagram
from svp_lightning.report.figures.prevalence import metrics_by_prevalence
from svp_lightning.report.inputs import FIGURES, REMEDY, Estimate, RunResult
from svp_lightning.report.schema import Slice
from svp_lightning.report.style import save_figure

PREVALENCE = "prevalence.csv"
COLUMN_NAMES = {
    "ecd_um": "Equivalent circular diameter (µm)",
    "radius_um": "Radius (µm)",
    "defocus_um": "Distance from focus (µm)",
    "morphology": "Morphology",
}
SMALL_SLICE = 20
"""Fewer images than this say little; the page greys them."""


@dataclass(frozen=True)
class ThresholdRow:
    """One class in the table of thresholds."""

    name: str
    threshold: float | None
    chosen_on: int
    validation_precision: float
    validation_recall: float
    precision: Estimate
    recall: Estimate
    best_on_test: Estimate


@dataclass(frozen=True)
class SliceTable:
    """Recall by the bins of one property; a cell is None where a class has no image."""

    title: str
    rows: tuple[tuple[str, tuple[Slice | None, ...]], ...]


def run_details(run: RunResult) -> dict[str, Any]:
    """What the template ``run_details.html.j2`` shows.

    Raises:
        DataError: ``prevalence.csv`` is malformed.
    """
    table = prevalence_table(run)
    return {
        "thresholds": threshold_rows(run),
        "calibration": run.calibration,
        "slices": slice_tables(run),
        "small_slice": SMALL_SLICE,
        "by_prevalence": [] if table is None else table.to_dict("records"),
        "common": None if table is None else varied_class(run, table),
        "prevalence_metrics": ("precision", "recall_at_precision_95", "auprc"),
    }


def threshold_rows(run: RunResult) -> list[ThresholdRow]:
    """The working points in class order; empty for files of schema 1."""
    return [
        ThresholdRow(
            name,
            point.threshold,
            run.validation.get(name, 0),
            point.validation_precision,
            point.validation_recall,
            Estimate(point.precision, *point.precision_ci95),
            Estimate(point.recall, *point.recall_ci95),
            run.estimate(f"{name}/recall_at_precision_95"),
        )
        for name in run.class_names
        if (point := run.working_points.get(name)) is not None
    ]


def slice_tables(run: RunResult) -> list[SliceTable]:
    """One table per property, bins in the order of the file."""
    tables = []
    for column in dict.fromkeys(one.column for one in run.slices):
        own = {(one.slice, one.class_name): one for one in run.slices if one.column == column}
        bins = sorted(dict.fromkeys(one for one, _ in own), key=_bin_order)
        rows = tuple((b, tuple(own.get((b, name)) for name in run.class_names)) for b in bins)
        tables.append(SliceTable(COLUMN_NAMES.get(column, column), rows))
    return tables


def _bin_order(words: str) -> tuple[float, str]:
    """Numeric bins by their lower end, names by the alphabet."""
    try:
        return float(words.split(" ", 1)[0]), ""
    except ValueError:
        return float("inf"), words


def prevalence_table(run: RunResult) -> pd.DataFrame | None:
    """``prevalence.csv`` of a run, or None where there is none.

    Raises:
        DataError: it lacks a column.
    """
    file = run.folder / PREVALENCE
    if not file.is_file():
        return None
    table = pd.read_csv(file)
    wanted = ["ratio", *(f"{name}/precision" for name in run.class_names)]
    if missing := [name for name in wanted if name not in table]:
        raise DataError(f"{file} lacks the columns {missing}.", REMEDY)
    return table


def varied_class(run: RunResult, table: pd.DataFrame) -> str:
    """The class that ``prevalence.csv`` makes common.

    Older tables do not name it; there it is the one with most training images.
    """
    if "common" in table:
        return str(table["common"].iloc[0])
    return max(run.train, key=lambda name: run.train[name])


def draw_details(run: RunResult) -> None:
    """Draw the reliability diagram and the curves over prevalence, unless they are there."""
    table, found = prevalence_table(run), run.calibration
    drawings: dict[str, Callable[[], Figure]] = {}
    if found is not None:
        drawings["reliability"] = lambda: reliability_diagram(found, run.class_names)
    if table is not None:
        common = varied_class(run, table)
        drawings["prevalence"] = lambda: metrics_by_prevalence(table, run.class_names, common)
    for name, draw in drawings.items():
        path = run.folder / FIGURES / f"{name}.png"
        if not path.is_file():
            save_figure(draw(), path)
