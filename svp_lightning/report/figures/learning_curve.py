"""How a metric grows with the number of real images of a rare class, with and without help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from svp_lightning.report.style import (
    METHOD_COLOURS,
    METHOD_MARKERS,
    MUTED,
    OTHER_METHOD_COLOUR,
    OTHER_METHOD_MARKER,
    figure_style,
    new_figure,
)

LINE_STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class CurvePoint:
    """The metric of one cell: ``arm`` names what was done, ``method`` decides the colour."""

    backbone: str
    method: str
    arm: str
    real_images: int
    value: float
    low: float | None
    high: float | None


def learning_curve(points: Mapping[str, Sequence[CurvePoint]]) -> Figure:
    """A row of panels per backbone, a column per metric, a band of 95 % around each line.

    Args:
        points: name of the metric -> the cells that have it.
    """
    everything = [point for column in points.values() for point in column]
    backbones = list(dict.fromkeys(point.backbone for point in everything))
    with figure_style():
        figure = new_figure(max(4.5, 3.2 * len(points)), 2.7 * len(backbones) + 0.7)
        grid = figure.subplots(len(backbones), len(points), squeeze=False, sharey="col")
        for row, backbone in enumerate(backbones):
            for axes, (metric, cells) in zip(grid[row], points.items(), strict=True):
                _panel(axes, [cell for cell in cells if cell.backbone == backbone])
                if row == 0:
                    axes.set_title(metric)
            grid[row, 0].set_ylabel(backbone, fontweight="bold")
        for axes in grid[-1]:
            axes.set_xlabel("Real images per rare class")
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))
    return figure


def _panel(axes: Axes, cells: Sequence[CurvePoint]) -> None:
    arms = list(dict.fromkeys((cell.method, cell.arm) for cell in cells))
    styles: dict[str, int] = {}
    for method, arm in arms:
        own = sorted((c for c in cells if c.arm == arm), key=lambda cell: cell.real_images)
        colour = MUTED if method == "none" else METHOD_COLOURS.get(method, OTHER_METHOD_COLOUR)
        x = [cell.real_images for cell in own]
        bounded = [c for c in own if c.low is not None and c.high is not None]
        axes.fill_between(
            [c.real_images for c in bounded],
            [c.low or 0.0 for c in bounded],
            [c.high or 0.0 for c in bounded],
            color=colour, alpha=0.13, linewidth=0,
        )  # fmt: skip
        style = LINE_STYLES[styles.setdefault(method, 0) % len(LINE_STYLES)]
        styles[method] += 1
        marker = METHOD_MARKERS.get(method, OTHER_METHOD_MARKER) if method != "none" else "x"
        axes.plot(x, [cell.value for cell in own], style, marker=marker, markersize=5,
                  color=colour, linewidth=1.3, label=arm)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted({cell.real_images for cell in cells})))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
