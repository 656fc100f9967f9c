"""The figures a study is made for: metrics and differences by arm, ratio and real images."""

from collections.abc import Callable, Collection, Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from svp_lightning.evaluation.comparison import Difference
from svp_lightning.evaluation.schema import Estimate
from svp_lightning.report.arms import Arm, arms_of
from svp_lightning.report.study_runs import Group
from svp_lightning.report.style import (
    INK,
    LINE_STYLES,
    MUTED,
    RULE,
    figure_style,
    legend_below,
    new_figure,
    panels,
)
from svp_lightning.report.text import backbone_name, metric_name

DODGE = 0.16
"""Arms at the same ratio lie this far apart, in category widths, so none hides another."""
MAX_UPRIGHT = 3
"""With more places than this, names of arms do not fit side by side below a panel."""
ROW_INCHES = 0.26
TITLE_LETTERS = 22

Places = Mapping[float | str, int]
"""Ratio, or method without one -> place on the axis."""


def augmentation_effect(groups: Sequence[Group], metrics: Sequence[str]) -> Figure:
    """A row of panels per backbone, a column per metric; the control is a horizontal band.

    Points are means over seeds, small dots the seeds; the axis is the ratio of added images, then
    the arms without one.
    """
    treated = [group for group in groups if not group.cell.is_control]
    looks = arms_of([_line(group) for group in treated])
    places = _places(treated)
    crowded = _crowded(places)

    def panel(axes: Axes, own: Sequence[Group], metric: str) -> None:
        _effect_panel(axes, own, metric, places, looks)

    words = "Added images per real rare image"
    # Where the names of arms are below the panels, in full, the legend leaves them out.
    below = [looks[key].name for key in places if isinstance(key, str)] if crowded else []
    return _grid(groups, metrics, panel, 3.9 if crowded else 2.6, words, below)


def learning_curve(groups: Sequence[Group], metrics: Sequence[str]) -> Figure:
    """Metrics over real images per rare class: a row of panels per backbone, a line per arm."""
    known = [group for group in groups if group.cell.real_images is not None]
    return _grid(known, metrics, _curve_panel, 2.7, "Real images per rare class")


@figure_style()
def _grid(
    groups: Sequence[Group],
    metrics: Sequence[str],
    panel: Callable[[Axes, Sequence[Group], str], None],
    row_inches: float,
    words: str,
    leave_out: Collection[str] = (),
) -> Figure:
    """A row of panels per backbone, a column per metric, one legend."""
    backbones = list(dict.fromkeys(group.cell.backbone for group in groups))
    figure = new_figure(max(4.5, 3.2 * len(metrics)), row_inches * len(backbones) + 0.7)
    grid = figure.subplots(len(backbones), len(metrics), squeeze=False, sharey="col")
    for row, backbone in zip(grid, backbones, strict=True):
        own = [group for group in groups if group.cell.backbone == backbone]
        for axes, metric in zip(row, metrics, strict=True):
            panel(axes, own, metric)
        row[0].set_ylabel(backbone_name(backbone), fontweight="bold")
    for top, bottom, metric in zip(grid[0], grid[-1], metrics, strict=True):
        top.set_title(metric_name(metric))
        bottom.set_xlabel(words)
    legend_below(figure, leave_out=leave_out)
    return figure


def _line(group: Group) -> str:
    """What connects points: the method, and the variant where there are several."""
    return f"{group.cell.method} {group.cell.variant}".strip()


def _place(group: Group) -> float | str:
    return float(group.cell.ratio) if group.cell.adds_images else _line(group)


def _places(treated: Sequence[Group]) -> dict[float | str, int]:
    """Ratios in order, then the arms without one, on a categorical axis."""
    found = list(dict.fromkeys(map(_place, treated)))
    ratios = sorted(key for key in found if isinstance(key, float))
    others = [key for key in found if isinstance(key, str)]
    keys: list[float | str] = [*ratios, *others]
    return {key: place for place, key in enumerate(keys)}


def _crowded(places: Places) -> bool:
    return len(places) > MAX_UPRIGHT and any(isinstance(key, str) for key in places)


def _effect_panel(
    axes: Axes, groups: Sequence[Group], metric: str, places: Places, looks: Mapping[str, Arm]
) -> None:
    known = [(g, e) for g in groups if (e := g.estimate(metric)).value is not None]
    # More than one only where a study has controls that are different trainings.
    for estimate in (e for group, e in known if group.cell.is_control):
        if estimate.low is not None and estimate.high is not None:
            axes.axhspan(estimate.low, estimate.high, color=RULE, alpha=0.7, linewidth=0,
                         label="control, 95 % interval")  # fmt: skip
        axes.axhline(estimate.value or 0.0, color=MUTED, linestyle="--", linewidth=1.2,
                     label="control: nothing added")  # fmt: skip
    treated = [(group, e) for group, e in known if not group.cell.is_control]
    lines = list(dict.fromkeys(_line(group) for group, _ in treated))
    for position, line in enumerate(lines):
        mine = [(group, e) for group, e in treated if _line(group) == line]
        shift = DODGE * (position - (len(lines) - 1) / 2) if mine[0][0].cell.adds_images else 0.0
        x = [places[_place(group)] + shift for group, _ in mine]
        _draw_arm(axes, x, [e for _, e in mine], looks[line])
        for at, (group, _) in zip(x, mine, strict=True):
            if len(group.runs) > 1:
                values = [run.results.estimate(metric).value or np.nan for run in group.runs]
                axes.plot([at] * len(values), values, ".", color=looks[line].colour,
                          markersize=3.5, alpha=0.55)  # fmt: skip
    _name_places(axes, places, looks)


def _draw_arm(axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], arm: Arm) -> None:
    """Points with their intervals, and a band where there are several."""
    low, high = ([getattr(e, end) for e in estimates] for end in ("low", "high"))
    if len(estimates) > 1 and None not in low:
        axes.fill_between(x, low, high, color=arm.colour, alpha=0.13, linewidth=0)
    for at, estimate in zip(x, estimates, strict=True):
        if estimate.low is not None and estimate.high is not None:
            axes.plot([at, at], [estimate.low, estimate.high], color=arm.colour, linewidth=1.2)
    axes.plot(x, [e.value or 0.0 for e in estimates], marker=arm.marker, markersize=5.5,
              color=arm.colour, linewidth=1.0, label=arm.name,
              linestyle=":" if len(estimates) > 1 else "none")  # fmt: skip


def _name_places(axes: Axes, places: Places, looks: Mapping[str, Arm]) -> None:
    crowded = _crowded(places)
    names = [f"{key:g}×" if isinstance(key, float) else looks[key].name for key in places]
    axes.set_xlim(-0.6, max(places.values(), default=0) + 0.6)
    axes.set_xticks(list(places.values()), names if crowded else [
        name.replace(" ", "\n") for name in names
    ])  # fmt: skip
    axes.tick_params(axis="x", length=3)
    for label in axes.get_xticklabels() if crowded else []:
        label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.grid(visible=False, axis="x")


def _curve_panel(axes: Axes, groups: Sequence[Group], metric: str) -> None:
    styles: dict[str, int] = {}
    looks = arms_of([group.cell.method for group in groups])
    for method, treatment in dict.fromkeys((g.cell.method, g.cell.treatment) for g in groups):
        own = sorted(
            (g for g in groups if g.cell.treatment == treatment),
            key=lambda group: group.cell.real_images or 0,
        )
        x = [group.cell.real_images or 0 for group in own]
        values = np.array(
            [[e.value, e.low, e.high] for e in (g.estimate(metric) for g in own)], float
        )
        arm, style = looks[method], styles.get(method, 0)
        styles[method] = style + 1
        axes.fill_between(x, values[:, 1], values[:, 2], color=arm.colour, alpha=0.13, linewidth=0)
        axes.plot(x, values[:, 0], LINE_STYLES[style % len(LINE_STYLES)], marker=arm.marker,
                  markersize=5, color=arm.colour, linewidth=1.3, label=treatment)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted({g.cell.real_images or 0 for g in groups})))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


@figure_style()
def differences_from_control(arms: Mapping[str, Sequence[Difference]]) -> Figure:
    """A panel per metric, a row per arm in the order given (the first on top).

    ``arms``: name of the arm -> its difference from the control in each metric, in percentage
    points; filled where it counts as a difference.
    """
    metrics = [metric_name(one.metric) for one in next(iter(arms.values()))]
    figure = new_figure(max(4.5, 2.2 * len(metrics) + 3.2), ROW_INCHES * len(arms) + 1.25)
    grid = panels(figure, len(metrics), len(metrics), sharey=True)
    for axes, metric in zip(grid, metrics, strict=True):
        axes.axvline(0, color=MUTED, linestyle="--", linewidth=1.2)
        axes.set_title(fill(metric, TITLE_LETTERS))
        axes.set_xlabel("points from the control")
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.12)
    rows = range(len(arms) - 1, -1, -1)
    for row, differences in zip(rows, arms.values(), strict=True):
        for axes, one in zip(grid, differences, strict=True):
            _difference(axes, row, one)
    for axes in grid:  # no number is near an end: those of the next panel begin there
        low, high = axes.dataLim.intervalx
        ticks = MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(low, high)
        axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    grid[0].set_yticks(list(rows), list(arms))
    grid[0].set_ylim(-0.6, len(arms) - 0.4)
    return figure


def _difference(axes: Axes, row: int, one: Difference) -> None:
    if one.value is None:
        return
    counts = one.verdict in ("higher", "lower")
    colour = INK if counts else MUTED
    if one.low is not None and one.high is not None:
        axes.plot([100 * one.low, 100 * one.high], [row, row], color=colour, linewidth=1.2)
    axes.plot(100 * one.value, row, "o", color=colour, markersize=5,
              markerfacecolor=colour if counts else "white")  # fmt: skip
