"""Reliability diagram: predicted probability against observed frequency."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svp_lightning.data.classes import display_name
from svp_lightning.report.schema import Calibrated, Calibration
from svp_lightning.report.style import INK, MUTED, class_colours, figure_style, new_figure

COLUMNS = 4
SMALLEST_SHARE = 1e-6


def reliability_diagram(found: Calibration, class_names: Sequence[str]) -> Figure:
    """One panel per class; a larger dot stands for more of the particles.

    Args:
        found: as the evaluation measured it, before and after temperature scaling.
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
            _draw(axes, found.scaled, name, MUTED, f"after scaling (T = {found.temperature:.2f})")
            _draw(axes, found.as_is, name, colours[name], None)
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


def _draw(axes: Axes, found: Calibrated, name: str, colour: str, label: str | None) -> None:
    bins = np.array(found.reliability[name])
    size = 14 + 46 * (1 + np.log10(np.maximum(bins[:, 2], SMALLEST_SHARE)) / 6)
    hollow = label is not None
    axes.plot(bins[:, 0], bins[:, 1], color=colour, linewidth=1.0, alpha=0.7)
    axes.scatter(bins[:, 0], bins[:, 1], s=size, edgecolors=colour, label=label, zorder=3,
                 facecolors="white" if hollow else colour)  # fmt: skip
