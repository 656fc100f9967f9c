"""What one classifier confuses, how well it is calibrated, at any prevalence, and its training."""

import re
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.errors import DataError
from svp_lightning.evaluation.counting import PRECISION_TARGET, SUPPORTED
from svp_lightning.evaluation.schema import Calibrated, Calibration
from svp_lightning.report.style import (
    DASHES,
    INK,
    KNOWN_CLASS_COLOURS,
    MUTED,
    class_colours,
    figure_style,
    legend_below,
    new_figure,
    panels,
)
from svp_lightning.report.text import metric_name, percent

COLUMNS = 4
SMALLEST_SHARE = 1e-6
PANELS: Mapping[str, str] = {
    "precision": "Precision",
    "recall_at_precision_95": "Recall at 95 % precision",
    "auprc": "AUPRC",
}
MARKERS = "osD^v<>P"
STAGES = {"train": "Training", "val": "Validation"}
STAGE_COLOURS = dict(zip(STAGES, KNOWN_CLASS_COLOURS.values(), strict=False))
MARKED_POINTS = 40
NOT_METRICS = ("lr", "learning_rate")
_NAME = re.compile(r"^(train|val)[/_](.+?)(_epoch)?$")


@figure_style()
def confusion(matrix: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """(K, K) counts of given (row) against predicted class, shaded by the share of each row."""
    k = len(class_names)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [display_name(name).replace(" ", "\n") for name in class_names]
    figure = new_figure(max(4.6, 1.6 + 1.05 * k), max(3.2, 1.3 + 0.8 * k))
    axes = figure.subplots(1, 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for (row, column), count in np.ndenumerate(matrix):
        words = f"{count:,}\n{percent(share[row, column])}"
        colour = "white" if share[row, column] > 0.6 else INK
        axes.text(column, row, words, ha="center", va="center", color=colour)
    axes.set_xticks(range(k), names)
    axes.set_yticks(range(k), names)
    axes.set_xlabel("Predicted as", color=MUTED)
    axes.set_ylabel("Labelled", color=MUTED)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


@figure_style()
def reliability_diagram(found: Calibration, class_names: Sequence[str]) -> Figure:
    """Before and after scaling, one panel per class; a larger dot means more of the particles."""
    colours, columns = class_colours(class_names), min(COLUMNS, len(class_names))
    rows = -(-len(class_names) // columns)
    figure = new_figure(max(4.5, 2.7 * columns), 2.9 * rows + 0.4)
    grid = panels(figure, len(class_names), columns, sharex=True, sharey=True)
    for number, (axes, name) in enumerate(zip(grid, class_names, strict=False)):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHES,
                  label="perfectly calibrated")  # fmt: skip
        _draw_bins(axes, found.scaled, name, MUTED, f"after scaling (T = {found.temperature:.2f})")
        _draw_bins(axes, found.as_is, name, colours[name], None)
        axes.set(title=display_name(name), xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set_aspect("equal")
        axes.set_xlabel("Probability given")
        if number % columns == 0:
            axes.set_ylabel("Share that is of the class", color=INK)
    legend_below(figure)
    return figure


def _draw_bins(axes: Axes, found: Calibrated, name: str, colour: str, label: str | None) -> None:
    bins = np.array(found.reliability[name])
    size = 14 + 46 * (1 + np.log10(np.maximum(bins[:, 2], SMALLEST_SHARE)) / 6)
    hollow = label is not None
    axes.plot(bins[:, 0], bins[:, 1], color=colour, linewidth=1.0, alpha=0.7)
    axes.scatter(bins[:, 0], bins[:, 1], s=size, edgecolors=colour, label=label, zorder=3,
                 facecolors="white" if hollow else colour)  # fmt: skip


@figure_style()
def metrics_by_prevalence(table: pd.DataFrame, class_names: Sequence[str], common: str) -> Figure:
    """Per-class metrics over particles of the ``common`` class per particle of each other class.

    ``table`` is ``prevalence.csv``; points that the test images do not support are hollow.
    """
    colours, figure = class_colours(class_names), new_figure(8.0, 3.3)
    for axes, (metric, title) in zip(
        figure.subplots(1, len(PANELS), sharey=True), PANELS.items(), strict=True
    ):
        for name, marker in zip(class_names, cycle(MARKERS), strict=False):
            axes.plot(table["ratio"], table[f"{name}/{metric}"], color=colours[name],
                      marker=marker, markersize=4.5, label=display_name(name))  # fmt: skip
            few = ~table[f"{name}/{SUPPORTED}"].astype(bool)
            if metric == "recall_at_precision_95" and few.any():
                axes.plot(table["ratio"][few], table[f"{name}/{metric}"][few], color="white",
                          marker=marker, markersize=4.5, markeredgecolor=colours[name],
                          linestyle=":")  # fmt: skip
        if metric == "precision":
            axes.axhline(PRECISION_TARGET, color=INK, linewidth=1, linestyle=DASHES)
        axes.set(title=title, xscale="log", ylim=(-0.02, 1.03))
        axes.set_xticks([r for r in (1, 10, 100, 1000) if r <= table["ratio"].max()])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:,.10g} : 1"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
        axes.set_xlabel(f"{display_name(common)} : each other class")
    legend_below(figure)
    return figure


@figure_style()
def training_curves(metrics: pd.DataFrame) -> Figure:
    """Loss and every other logged metric, training and validation in one panel each.

    Args:
        metrics: the log, one row per logging call; columns ``train/loss`` or ``val_macro_f1``,
            and ``step``. Columns ending in ``_step`` are passed over.

    Raises:
        DataError: no column holds a training or validation metric.
    """
    found = _panels(metrics)
    if not found:
        raise DataError(
            f"The training log has no train or val metric among {list(metrics.columns)}.",
            "Give the metrics.csv that Lightning wrote in the run folder.",
        )
    columns = min(3, len(found))
    figure = new_figure(2.7 * columns + 0.3, 2.4 * -(-len(found) // columns) + 0.3)
    for axes, (name, stages) in zip(
        panels(figure, len(found), columns), found.items(), strict=False
    ):
        for stage, column in stages.items():
            series = metrics[["step", column]].dropna().groupby("step")[column].mean()
            marker = "o" if len(series) <= MARKED_POINTS else ""
            axes.plot(series.index + 1, series.to_numpy(), marker=marker, markersize=3,
                      color=STAGE_COLOURS[stage], label=STAGES[stage])  # fmt: skip
        alone = " (validation)" if list(stages) == ["val"] else ""
        axes.set(title=f"{metric_name(name)}{alone}", xlabel="Optimiser steps")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if len(stages) > 1:
            axes.legend()
    return figure


def _panels(metrics: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Metric -> stage -> column, the loss first."""
    panels: dict[str, dict[str, str]] = {}
    for column in metrics.columns:
        match = _NAME.match(column)
        skipped = column.endswith("_step") or (match and match[2] in NOT_METRICS)
        if match and not skipped and metrics[column].notna().any():
            panels.setdefault(match[2], {})[match[1]] = column
    return dict(sorted(panels.items(), key=lambda item: ("loss" not in item[0], item[0])))
