"""Precision over recall: of the classes of one classifier, and of several classifiers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.counting import PRECISION_TARGET, recall_at_precision
from svp_lightning.evaluation.counting import precision_recall as curve_of
from svp_lightning.report.arms import ARMS
from svp_lightning.report.style import (
    DASHES,
    INK,
    LINE_STYLES,
    MUTED,
    class_colours,
    figure_style,
    legend_below,
    new_figure,
    panels,
)

MAX_POINTS = 2000
"""Points drawn per curve: more cannot be seen and half a million would slow the drawing."""
Scored = tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.floating]]
RUN_COLOURS = (MUTED, ARMS["diffusion"].colour)
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def _draw(
    axes: Axes,
    scored: Scored,
    k: int,
    *,
    log: bool = False,
    **style: Any,
) -> Curve:
    """Draw precision over recall of class ``k``; ``log``: the error rate, 1 - precision."""
    labels, probabilities, weights = scored
    precision, recall, _ = curve_of(labels == k, probabilities[:, k], weights)
    # Both ends of the steps at these recalls: most thresholds lie where the class is found already.
    wanted = np.linspace(0, 1, MAX_POINTS // 2)
    first, after = (np.searchsorted(recall, wanted, side) for side in ("left", "right"))
    keep = np.unique(np.r_[first, after - 1].clip(0, len(recall) - 1))
    axes.plot(recall[keep], (1 - precision if log else precision)[keep], **style)
    return recall, precision


def _target(axes: Axes, log: bool) -> None:
    """The line of 95 % precision, and the axis of recall."""
    line = 1 - PRECISION_TARGET if log else PRECISION_TARGET
    axes.axhline(line, color=INK, linewidth=1, linestyle=DASHES, label="95 % precision")
    axes.set_xlabel("Recall (share of the class that is found)")
    axes.xaxis.set_major_formatter(FuncFormatter(_percent_tick))


@figure_style()
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
    scored = (labels, probabilities, np.ones(len(labels)) if weights is None else weights)
    figure = new_figure(8.0, 3.9)
    if scale == "log":
        axes = figure.subplots(1, 1)
        _log_precision_axis(axes, _draw_classes(axes, scored, class_names, log=True))
    else:
        full, axes = figure.subplots(1, 2)
        _draw_classes(full, scored, class_names)
        full.set(xlim=(0, 1.005), ylim=(0, 1.01), title="All thresholds", ylabel="Precision")
        _zoom(axes, _draw_classes(axes, scored, class_names))
    legend_below(figure)
    return figure


@figure_style()
def compared_precision_recall(
    runs: Mapping[str, Scored], class_names: Sequence[str], shown: Sequence[str]
) -> Figure:
    """Curves of several classifiers over each other, precision on a log scale of the errors.

    ``runs``: name -> labels (n,), probabilities (n, K), weights (n,). The classes ``shown`` get a
    panel.
    """
    figure = new_figure(max(4.6, 4.0 * len(shown)), 3.7)
    for axes, name in zip(panels(figure, len(shown), len(shown)), shown, strict=True):
        k = class_names.index(name)
        curves = [
            _draw(axes, scored, k, log=True, linestyle=LINE_STYLES[position % 4],
                  color=RUN_COLOURS[position % 2], label=run)
            for position, (run, scored) in enumerate(runs.items())
        ]  # fmt: skip
        _target(axes, log=True)
        _log_precision_axis(axes, curves)
        axes.set_title(display_name(name))
    legend_below(figure, ncols=1)
    return figure


def _draw_classes(
    axes: Axes, scored: Scored, class_names: Sequence[str], *, log: bool = False
) -> list[Curve]:
    """The curves of the classes that have images."""
    colours, curves = class_colours(class_names), []
    present = [k for k in range(len(class_names)) if (scored[0] == k).any()]
    for position, k in enumerate(present):
        name = class_names[k]
        recall, precision = _draw(axes, scored, k, log=log, color=colours[name],
                                  linestyle=LINE_STYLES[position % 4],
                                  label=display_name(name))  # fmt: skip
        curves.append((recall, precision))
        if best := recall_at_precision(precision, recall):
            target = 1 - PRECISION_TARGET if log else PRECISION_TARGET
            axes.plot(best, target, "o", color=colours[name], markersize=6,
                      markeredgecolor="white", zorder=5, clip_on=False)  # fmt: skip
    _target(axes, log)
    if not log:
        axes.yaxis.set_major_formatter(FuncFormatter(_percent_tick))
    return curves


def _percent_tick(share: float, _: int | None) -> str:
    return f"{100 * share:.4g} %"


def _zoom(axes: Axes, curves: Sequence[Curve]) -> None:
    """Show precisions from 80 %, and the recalls the worst class reaches there."""
    worst = min((recall_at_precision(p, r) for r, p in curves), default=0.0)
    left = min(0.8, max(0.0, np.floor(10 * worst) / 10 - 0.1))
    axes.set(xlim=(left, 1.0 + 0.005 * (1 - left)), ylim=(0.8, 1.004), title="Enlarged")
    axes.yaxis.set_major_locator(MultipleLocator(0.05))


def _log_precision_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    """Label 1 - precision on a log axis as precision, best at the top."""
    rates = np.concatenate([1 - precision for _, precision in curves])
    floor = min(1e-2, rates[rates > 0].min(initial=1e-2))
    ticks = [0.5, *(10.0**-k for k in range(1, 8) if 10.0**-k > floor / 2)]
    axes.set_yscale("log")
    axes.set_ylim(1.0, floor / 1.5)  # a precision of exactly 100 % lies beyond the top edge
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * (1 - rate):.6g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set(xlim=(0, 1.005), ylabel="Precision (log scale of the errors)")
