"""Concentration over size, as flow imaging reports it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.particle_counts import ALL, UNCERTAIN
from svp_lightning.report.style import DASHES, INK, MUTED, class_colours, figure_style, new_figure

TICKS_UM = (0.5, 1, 2, 5, 10, 25, 50, 100, 200)
MAX_STEPS = 1000
"""Points drawn of a curve: more cannot be seen."""


def size_distribution(
    sizes: Mapping[str, NDArray[np.floating]],
    class_names: Sequence[str],
    corrected: pd.DataFrame,
    limits: Mapping[float, float],
    factor: float,
    x_label: str,
    y_label: str,
) -> Figure:
    """Particles of at least each size: lines as called, dots corrected with their intervals.

    Args:
        sizes: class name, :data:`~.particle_counts.UNCERTAIN` or
            :data:`~.particle_counts.ALL` -> diameters, µm, in any order.
        class_names: K names, for the colours.
        corrected: ``class``, ``min_size_um``, ``value``, ``low``, ``high``.
        limits: least size, µm -> limit for all particles, in the unit of the y axis.
        factor: y of one particle.
        x_label: with its unit.
        y_label: with its unit.
    """
    colours = {**class_colours(class_names), UNCERTAIN: MUTED, ALL: INK}
    with figure_style():
        figure = new_figure(8.0, 3.6)
        axes = figure.add_subplot()
        axes.set(xscale="log", yscale="log", xlabel=x_label, ylabel=y_label)
        for name, own in sizes.items():
            if not len(own):
                continue
            ordered = np.sort(own)
            # Few are large: every one of those is a step, of the others one in so many.
            left = np.unique(np.geomspace(len(ordered), 1, MAX_STEPS).round().astype(int))[::-1]
            kept, at_least = len(ordered) - left, left * factor
            style = DASHES if name == UNCERTAIN else "-"
            axes.step(
                ordered[kept], at_least, where="pre", color=colours[name], linestyle=style,
                linewidth=1.3, label=display_name(name),
            )  # fmt: skip
        for place, name in enumerate([*class_names, ALL]):
            rows = corrected[(corrected["class"] == name) & (corrected["value"] > 0)]
            # Side by side, so that intervals of classes do not cover one another.
            x = rows["min_size_um"] * 1.025 ** (place - len(class_names) / 2)
            ends = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
            axes.errorbar(
                x, rows["value"], ends, color=colours[name], fmt="o", markersize=3.5, linewidth=1.2
            )
        for least, limit in limits.items():
            axes.plot([least / 1.15, least * 1.15], [limit, limit], color="#9c2f10", linewidth=2.5)
            axes.annotate(
                "reference", (least, limit), (0, 3), textcoords="offset points", color="#9c2f10",
                ha="center", fontsize=8,
            )  # fmt: skip
        axes.set_ylim(bottom=factor / 2)  # half a particle; intervals that begin at 0 reach it
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        for text in legend.get_texts():
            text.set_parse_math(False)
        axes.xaxis.set_major_locator(FixedLocator(TICKS_UM))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    return figure
