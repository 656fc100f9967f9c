"""How far each arm of a study lies from its control: paired differences with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svp_lightning.report.style import INK, MUTED, figure_style, new_figure

_ROW_INCHES = 0.26
_TITLE_LETTERS = 22


@dataclass(frozen=True)
class DifferencePoint:
    """The difference of one arm from its control in one metric.

    ``value``, ``low`` and ``high`` are in [-1, 1]; the last two are None where no interval is
    known. ``decided``: whether it counts as a difference after correction.
    """

    arm: str
    value: float
    low: float | None
    high: float | None
    decided: bool


def differences_from_control(points: Mapping[str, Sequence[DifferencePoint]]) -> Figure:
    """A panel per metric, a row per arm in the order given (the first on top).

    Args:
        points: name of the metric -> the arms that have it; percentage points are drawn.
    """
    arms = list(dict.fromkeys(point.arm for column in points.values() for point in column))
    rows = {arm: len(arms) - 1 - place for place, arm in enumerate(arms)}
    with figure_style():
        size = max(4.5, 2.2 * len(points) + 3.2), _ROW_INCHES * len(arms) + 1.25
        figure = new_figure(*size)
        panels = figure.subplots(1, len(points), squeeze=False, sharey=True)[0]
        for axes, (metric, column) in zip(panels, points.items(), strict=True):
            _panel(axes, column, rows)
            axes.set_title(fill(metric, _TITLE_LETTERS))
            axes.set_xlabel("points from the control")
        panels[0].set_yticks(list(rows.values()), list(rows))
        panels[0].set_ylim(-0.6, len(arms) - 0.4)
    return figure


def _panel(axes: Axes, column: Sequence[DifferencePoint], rows: Mapping[str, int]) -> None:
    axes.axvline(0, color=MUTED, linestyle="--", linewidth=1.2)
    for point in column:
        row, colour = rows[point.arm], INK if point.decided else MUTED
        if point.low is not None and point.high is not None:
            axes.plot([100 * point.low, 100 * point.high], [row, row], color=colour, linewidth=1.2)
        filling = colour if point.decided else "white"
        axes.plot(100 * point.value, row, "o", color=colour, markerfacecolor=filling, markersize=5)
    axes.grid(visible=False, axis="y")
