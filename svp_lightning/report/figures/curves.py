"""Curves of one classifier: precision and recall, confusion, calibration, prevalence, training."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    MultipleLocator,
    NullLocator,
)
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.errors import DataError
from svp_lightning.evaluation.counting import PRECISION_TARGET, SUPPORTED, recall_at_precision
from svp_lightning.evaluation.counting import precision_recall as curve_of
from svp_lightning.evaluation.schema import Calibrated, Calibration
from svp_lightning.report.arms import ARMS
from svp_lightning.report.style import (
    INK,
    KNOWN_CLASS_COLOURS,
    MUTED,
    class_colours,
    figure_style,
    new_figure,
)
from svp_lightning.report.text import metric_name, percent

LINE_STYLES = ("-", "--", "-.", ":")
MAX_POINTS = 2000
"""Points drawn per curve: more cannot be seen and half a million would slow the drawing."""
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

Scored = tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.floating]]
RUN_COLOURS = (MUTED, ARMS["diffusion"].colour)
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def _curve(positive: NDArray[np.bool_], score: NDArray[Any], weights: NDArray[Any]) -> Curve:
    """Recall and precision at every threshold, the strictest first."""
    precision, recall, _ = curve_of(positive, score, weights)
    return recall, precision


def precision_recall(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating],
    class_names: Sequence[str],
    *,
    weights: NDArray[np.floating] | None = None,
    scale: Literal["linear", "log"] = "linear",
) -> Figure:
    """One curve per class, each class against the rest.

    The left panel shows everything; the right one the part where a laboratory would work. A
    dot marks the recall at a precision of 95 %.

    Args:
        labels: (n,) class indices.
        probabilities: (n, K).
        class_names: K names.
        weights: (n,) how much each image counts, to show the precision at another prevalence
            than that of the test set; None counts each once.
        scale: ``"log"`` spreads precisions near 100 % out (90, 99, 99.9 %), in one panel.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    curves = {
        name: _curve(labels == k, probabilities[:, k], weights)
        for k, name in enumerate(class_names)
        if (labels == k).any()
    }
    with figure_style():
        figure = new_figure(8.0, 3.9)
        if scale == "log":
            axes = figure.subplots(1, 1)
            _draw_curves(axes, curves, class_names, error_rate=True)
            _log_precision_axis(axes, curves)
        else:
            full, axes = figure.subplots(1, 2)
            _draw_curves(full, curves, class_names)
            full.set(xlim=(0, 1.005), ylim=(0, 1.01), title="All thresholds", ylabel="Precision")
            _draw_curves(axes, curves, class_names)
            _zoom(axes, curves)
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))
    return figure


def compared_precision_recall(
    runs: Mapping[str, Scored], class_names: Sequence[str], shown: Sequence[str]
) -> Figure:
    """Curves of several classifiers over each other, precision on a log scale of the errors.

    Args:
        runs: name of a run -> labels (n,), probabilities (n, K) and weights (n,).
        class_names: K names.
        shown: the classes that get a panel.
    """
    with figure_style():
        figure = new_figure(max(4.6, 4.0 * len(shown)), 3.7)
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, name in zip(panels, shown, strict=True):
            k = class_names.index(name)
            curves = {
                run: _curve(labels == k, scores[:, k], weights)
                for run, (labels, scores, weights) in runs.items()
            }
            for position, (run, (recall, precision)) in enumerate(curves.items()):
                keep = np.unique(np.linspace(0, len(recall) - 1, MAX_POINTS).round().astype(int))
                axes.plot(recall[keep], 1 - precision[keep], LINE_STYLES[position % 4],
                          color=RUN_COLOURS[position % 2], label=run)  # fmt: skip
            axes.axhline(1 - PRECISION_TARGET, color=INK, linewidth=1, linestyle=(0, (4, 3)),
                         label="95 % precision")  # fmt: skip
            _log_precision_axis(axes, curves)
            axes.set(title=display_name(name), xlabel="Recall (share of the class that is found)")
            axes.xaxis.set_major_formatter(FuncFormatter(_percent_tick))
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=1)
    return figure


def _draw_curves(
    axes: Axes, curves: dict[str, Curve], class_names: Sequence[str], *, error_rate: bool = False
) -> None:
    """Draw precision, or 1 - precision where ``error_rate``, over recall."""
    colours = class_colours(class_names)
    for position, (name, (recall, precision)) in enumerate(curves.items()):
        keep = np.unique(np.linspace(0, len(recall) - 1, MAX_POINTS).round().astype(int))
        height = 1 - precision if error_rate else precision
        style = LINE_STYLES[position % len(LINE_STYLES)]
        label = display_name(name)
        axes.plot(recall[keep], height[keep], style, color=colours[name], label=label)
        if best := recall_at_precision(precision, recall):
            target = 1 - PRECISION_TARGET if error_rate else PRECISION_TARGET
            axes.plot(best, target, "o", color=colours[name], markersize=6,
                      markeredgecolor="white", zorder=5, clip_on=False)  # fmt: skip
    line = 1 - PRECISION_TARGET if error_rate else PRECISION_TARGET
    axes.axhline(line, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="95 % precision")
    axes.set_xlabel("Recall (share of the class that is found)")
    axes.xaxis.set_major_formatter(FuncFormatter(_percent_tick))
    if not error_rate:
        axes.yaxis.set_major_formatter(FuncFormatter(_percent_tick))


def _percent_tick(share: float, _: int | None) -> str:
    return f"{100 * share:.4g} %"


def _zoom(axes: Axes, curves: dict[str, Curve]) -> None:
    """Show precisions from 80 %, and the recalls the worst class reaches there."""
    worst = min((recall_at_precision(p, r) for r, p in curves.values()), default=0.0)
    left = min(0.8, max(0.0, np.floor(10 * worst) / 10 - 0.1))
    axes.set(xlim=(left, 1.0 + 0.005 * (1 - left)), ylim=(0.8, 1.004), title="Enlarged")
    axes.yaxis.set_major_locator(MultipleLocator(0.05))


def _log_precision_axis(axes: Axes, curves: dict[str, Curve]) -> None:
    """Label 1 - precision on a log axis as precision, best at the top."""
    rates = np.concatenate([1 - precision for _, precision in curves.values()])
    floor = min(1e-2, rates[rates > 0].min(initial=1e-2))
    ticks = [0.5, *(10.0**-k for k in range(1, 8) if 10.0**-k > floor / 2)]
    axes.set_yscale("log")
    axes.set_ylim(1.0, floor / 1.5)  # a precision of exactly 100 % lies beyond the top edge
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * (1 - rate):.6g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set(xlim=(0, 1.005), ylabel="Precision (log scale of the errors)")


def confusion(matrix: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Counts of given against predicted class, shaded by the share of each row.

    Args:
        matrix: (K, K) counts, row the given class.
        class_names: K names.
    """
    k = len(class_names)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [display_name(name).replace(" ", "\n") for name in class_names]
    with figure_style():
        figure = new_figure(max(4.6, 1.6 + 1.05 * k), max(3.2, 1.3 + 0.8 * k))
        axes = figure.subplots(1, 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
        for row in range(k):
            for column in range(k):
                words = f"{matrix[row, column]:,}\n{percent(share[row, column])}"
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


def reliability_diagram(found: Calibration, class_names: Sequence[str]) -> Figure:
    """One panel per class; a larger dot means more of the particles.

    Args:
        found: before and after scaling.
        class_names: K names.
    """
    colours = class_colours(class_names)
    columns = min(COLUMNS, len(class_names))
    rows = -(-len(class_names) // columns)
    with figure_style():
        figure = new_figure(max(4.5, 2.7 * columns), 2.9 * rows + 0.4)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, name in zip(grid, class_names, strict=False):
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)),
                      label="perfectly calibrated")  # fmt: skip
            _draw_bins(
                axes, found.scaled, name, MUTED, f"after scaling (T = {found.temperature:.2f})"
            )
            _draw_bins(axes, found.as_is, name, colours[name], None)
            axes.set(title=display_name(name), xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
            axes.set_aspect("equal")
            axes.set_xlabel("Probability given")
        for axes in grid[::columns]:
            axes.set_ylabel("Share that is of the class", color=INK)
        for axes in grid[len(class_names) :]:
            axes.set_axis_off()
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def _draw_bins(axes: Axes, found: Calibrated, name: str, colour: str, label: str | None) -> None:
    bins = np.array(found.reliability[name])
    size = 14 + 46 * (1 + np.log10(np.maximum(bins[:, 2], SMALLEST_SHARE)) / 6)
    hollow = label is not None
    axes.plot(bins[:, 0], bins[:, 1], color=colour, linewidth=1.0, alpha=0.7)
    axes.scatter(bins[:, 0], bins[:, 1], s=size, edgecolors=colour, label=label, zorder=3,
                 facecolors="white" if hollow else colour)  # fmt: skip


def metrics_by_prevalence(table: pd.DataFrame, class_names: Sequence[str], common: str) -> Figure:
    """Per-class metrics over particles of the common class per particle of each other class.

    Args:
        table: ``prevalence.csv``: ``ratio``, ``<class>/<metric>``, and where the test images
            support it; other points are hollow.
        class_names: K names.
        common: the class whose share the table varies.
    """
    colours = class_colours(class_names)
    with figure_style():
        figure = new_figure(8.0, 3.3)
        for axes, (metric, title) in zip(
            figure.subplots(1, len(PANELS), sharey=True),
            PANELS.items(),
            strict=True,
        ):
            for position, name in enumerate(class_names):
                axes.plot(table["ratio"], table[f"{name}/{metric}"], color=colours[name],
                          marker=MARKERS[position % len(MARKERS)], markersize=4.5,
                          label=display_name(name))  # fmt: skip
                few = ~table[f"{name}/{SUPPORTED}"].astype(bool)
                if metric == "recall_at_precision_95" and few.any():
                    axes.plot(table["ratio"][few], table[f"{name}/{metric}"][few], color="white",
                              marker=MARKERS[position % len(MARKERS)], markersize=4.5,
                              markeredgecolor=colours[name], linestyle=":")  # fmt: skip
            if metric == "precision":
                axes.axhline(PRECISION_TARGET, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.set(title=title, xscale="log", ylim=(-0.02, 1.03))
            axes.set_xticks([r for r in (1, 10, 100, 1000) if r <= table["ratio"].max()])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:,.10g} : 1"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
            axes.set_xlabel(f"{display_name(common)} : each other class")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))
    return figure


def training_curves(metrics: pd.DataFrame) -> Figure:
    """Loss and every other logged metric, training and validation in one panel each.

    Args:
        metrics: the log, one row per logging call; columns ``train/loss`` or ``val_macro_f1``,
            and ``step``. Columns ending in ``_step`` are passed over.

    Raises:
        DataError: no column holds a training or validation metric.
    """
    panels = _panels(metrics)
    if not panels:
        raise DataError(
            f"The training log has no train or val metric among {list(metrics.columns)}.",
            "Give the metrics.csv that Lightning wrote in the run folder.",
        )
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    with figure_style():
        figure = new_figure(2.7 * columns + 0.3, 2.4 * rows + 0.3)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, stages) in zip(grid, panels.items(), strict=False):
            for stage, column in stages.items():
                series = metrics[["step", column]].dropna().groupby("step")[column].mean()
                marker = "o" if len(series) <= MARKED_POINTS else ""
                axes.plot(series.index + 1, series.to_numpy(), marker=marker, markersize=3,
                          color=STAGE_COLOURS[stage], label=STAGES[stage])  # fmt: skip
            axes.set(title=metric_name(name), xlabel="Optimiser steps")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if len(stages) > 1:
                axes.legend()
            elif "val" in stages:
                axes.set_title(f"{metric_name(name)} (validation)")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
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
