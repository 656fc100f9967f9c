"""Precision-recall curves and the confusion matrix of one classifier."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MultipleLocator,
    NullLocator,
)
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.tally import PRECISION_TARGET, recall_at_precision
from svp_lightning.evaluation.tally import precision_recall as curve_of
from svp_lightning.report.style import (
    INK,
    METHOD_COLOURS,
    MUTED,
    class_colours,
    figure_style,
    new_figure,
)
from svp_lightning.report.wording import percent

LINE_STYLES = ("-", "--", "-.", ":")
MAX_POINTS = 2000
"""Points drawn per curve: more cannot be seen and half a million would slow the drawing."""

Scored = tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.floating]]
RUN_COLOURS = (MUTED, METHOD_COLOURS["diffusion"])
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
