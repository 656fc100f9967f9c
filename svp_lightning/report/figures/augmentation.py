"""How a metric changes with the number of added images: the figure a study is made for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svp_lightning.report.style import (
    METHOD_COLOURS,
    METHOD_MARKERS,
    MUTED,
    OTHER_METHOD_COLOUR,
    OTHER_METHOD_MARKER,
    RULE,
    figure_style,
    new_figure,
)
from svp_lightning.report.wording import method_name

DODGE = 0.16
"""Methods at the same ratio stand this far apart, in category widths, so none hides another."""
MAX_UPRIGHT = 3
"""With more places than this, names of methods do not fit side by side below a panel."""


@dataclass(frozen=True)
class EffectPoint:
    """The metric of one cell of a study, over its seeds.

    ``ratio`` is generated or duplicated images per real image of a rare class, None for
    methods that add no images. The control is method ``"none"``. ``low`` and ``high`` are
    None where no interval is known.
    """

    backbone: str
    method: str
    ratio: float | None
    value: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...] = ()
    """The value of each seed."""


def augmentation_effect(points: Mapping[str, Sequence[EffectPoint]]) -> Figure:
    """A row of panels per backbone, a column per metric; the control is a horizontal band.

    Args:
        points: name of the metric -> the cells that have it.
    """
    everything = [point for column in points.values() for point in column]
    backbones = list(dict.fromkeys(point.backbone for point in everything))
    places = _places(everything)
    with figure_style():
        crowded = _crowded(places)
        height = (3.9 if crowded else 2.6) * len(backbones) + 0.7
        figure = new_figure(max(4.5, 3.1 * len(points) + 0.6), height)
        grid = figure.subplots(len(backbones), len(points), squeeze=False, sharey="col")
        for row, backbone in enumerate(backbones):
            for column, (metric, cells) in enumerate(points.items()):
                axes = grid[row, column]
                _panel(axes, [cell for cell in cells if cell.backbone == backbone], places)
                if row == 0:
                    axes.set_title(metric)
                if column == 0:
                    axes.set_ylabel(backbone, fontweight="bold")
                if row == len(backbones) - 1:
                    axes.set_xlabel("Added images per real rare image")
        named: dict[str, Artist] = {}
        for axes in grid.ravel():
            handles, names = axes.get_legend_handles_labels()
            named |= dict(zip(names, handles, strict=True))
        if crowded:  # their names stand below the panels, in full
            ticks = {method_name(key) for key in places if isinstance(key, str)}
            named = {name: handle for name, handle in named.items() if name not in ticks}
        figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=min(4, len(named))
        )
    return figure


def _places(points: Sequence[EffectPoint]) -> dict[float | str, int]:
    """Ratios in order, then the methods without one, on a categorical axis."""
    treated = [point for point in points if point.method != "none"]
    ratios = sorted({point.ratio for point in treated if point.ratio is not None})
    others = dict.fromkeys(point.method for point in treated if point.ratio is None)
    keys: list[float | str] = [*ratios, *others]
    return {key: place for place, key in enumerate(keys)}


def _panel(axes: Axes, cells: Sequence[EffectPoint], places: Mapping[float | str, int]) -> None:
    # More than one only where a study has controls that are different trainings.
    for control in (cell for cell in cells if cell.method == "none"):
        if control.low is not None and control.high is not None:
            axes.axhspan(control.low, control.high, color=RULE, alpha=0.7, linewidth=0,
                         label="control, 95 % interval")  # fmt: skip
        axes.axhline(control.value, color=MUTED, linestyle="--", linewidth=1.2,
                     label="control: nothing added")  # fmt: skip
    treated = [cell for cell in cells if cell.method != "none"]
    methods = list(dict.fromkeys(cell.method for cell in treated))
    for position, method in enumerate(methods):
        mine = [cell for cell in treated if cell.method == method]
        shift = DODGE * (position - (len(methods) - 1) / 2)
        _draw_method(axes, method, mine, places, shift if mine[0].ratio is not None else 0.0)
    axes.set_xlim(-0.6, max(places.values(), default=0) + 0.6)
    crowded = _crowded(places)
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(list(places.values()), [_tick(key, upright=not crowded) for key in places])
    axes.tick_params(axis="x", length=3)
    for label in axes.get_xticklabels():
        label.set(**turned)
    axes.grid(visible=False, axis="x")


def _draw_method(
    axes: Axes,
    method: str,
    cells: Sequence[EffectPoint],
    places: Mapping[float | str, int],
    shift: float,
) -> None:
    colour = METHOD_COLOURS.get(method, OTHER_METHOD_COLOUR)
    x = [places[method if c.ratio is None else c.ratio] + shift for c in cells]
    known = [(p, c.low, c.high) for p, c in zip(x, cells, strict=True) if c.low is not None]
    if len(known) == len(cells) > 1:
        places_known, low, high = zip(*known, strict=True)
        axes.fill_between(places_known, low, high, color=colour, alpha=0.13, linewidth=0)
    for place, cell in zip(x, cells, strict=True):
        if cell.low is not None and cell.high is not None:
            axes.plot([place, place], [cell.low, cell.high], color=colour, linewidth=1.2)
        if len(cell.seeds) > 1:
            axes.plot([place] * len(cell.seeds), cell.seeds, ".", color=colour, markersize=3.5,
                      alpha=0.55)  # fmt: skip
    axes.plot(
        x,
        [cell.value for cell in cells],
        marker=METHOD_MARKERS.get(method, OTHER_METHOD_MARKER),
        markersize=5.5,
        color=colour,
        linewidth=1.0,
        linestyle=":" if len(cells) > 1 else "none",
        label=method_name(method),
    )


def _crowded(places: Mapping[float | str, int]) -> bool:
    return len(places) > MAX_UPRIGHT and any(isinstance(key, str) for key in places)


def _tick(key: float | str, *, upright: bool) -> str:
    if isinstance(key, float):
        return f"{key:g}×"
    return method_name(key).replace(" ", "\n") if upright else method_name(key)
