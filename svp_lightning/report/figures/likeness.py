"""Figures of an assessment: particles side by side in numbers, and the closest pairs."""

import warnings
from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.report.figures.sheets import Row, sheet
from svp_lightning.report.style import (
    INK,
    MUTED,
    RULE,
    class_colours,
    figure_style,
    new_figure,
    panels,
)

BINS = 24
COLUMNS = 4
LABEL_LETTERS = 16

Columns = Mapping[str, NDArray[np.float64]]
"""Measure -> (n,) values, or (n, rings) for a profile."""


@figure_style()
def morphology_histograms(
    real: Columns, generated: Columns, headings: Mapping[str, str], class_name: str
) -> Figure:
    """One panel per measure in ``headings``: real images filled, generated ones as a line."""
    colour = class_colours([class_name])[class_name]
    figure = new_figure(8, 1.75 * -(-len(headings) // COLUMNS) + 0.7)
    # One panel more than measures, for the legend.
    *grid, last = panels(figure, len(headings) + 1, COLUMNS)
    for axes, (measure, heading) in zip(grid, headings.items(), strict=False):
        a, b = real[measure], generated[measure]
        draw = _profiles if a.ndim == 2 else _histograms
        draw(axes, a, b, colour)
        axes.set_title(heading, fontsize=9)
        axes.tick_params(labelsize=8)
    last.set_axis_off()
    marks = [Patch(color=RULE), Line2D([], [], color=colour)]
    last.legend(marks, ["real, held out", "generated"], loc="center left")
    figure.suptitle(display_name(class_name), x=0.01, ha="left", color=colour, weight="bold")
    return figure


def _histograms(axes: Axes, a: NDArray[np.float64], b: NDArray[np.float64], colour: str) -> None:
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    both = np.concatenate([a, b])
    low, high = np.quantile(both, [0.005, 0.995]) if len(both) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1).tolist()
    axes.hist(a.clip(low, high), edges, density=True, color=RULE)
    axes.hist(b.clip(low, high), edges, density=True, histtype="step", color=colour, linewidth=1.5)
    axes.set_yticks([])
    axes.grid(False)


def _profiles(axes: Axes, a: NDArray[np.float64], b: NDArray[np.float64], colour: str) -> None:
    """Median and the middle 80 % in each ring."""
    rings = (np.arange(a.shape[1]) + 0.5) * 1.5 / a.shape[1]
    with warnings.catch_warnings():  # a ring that no particle has
        warnings.filterwarnings("ignore", message="All-NaN slice")
        low, middle, high = np.nanquantile(a, [0.1, 0.5, 0.9], axis=0)
        lines = np.nanquantile(b, [0.1, 0.5, 0.9], axis=0)
    axes.fill_between(rings, low, high, color=RULE, linewidth=0)
    axes.plot(rings, middle, color=MUTED, linewidth=1)
    for line, width in zip(lines, (0.8, 1.6, 0.8), strict=True):
        axes.plot(rings, line, color=colour, linewidth=width)
    axes.grid(False)


@figure_style()
def distance_histograms(
    distances: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64], float]], class_name: str
) -> Figure:
    """Distances to the nearest training image, of generated and of held-out real images.

    ``distances``: axis label with unit -> of generated images (n,), of held-out images (m,), and
    where the lowest 5 % of the latter end. ``class_name`` decides the colour.
    """
    colour, figure = class_colours([class_name])[class_name], new_figure(8, 2.6)
    grid = panels(figure, len(distances), len(distances))
    for axes, (label, (generated, heldout, limit)) in zip(grid, distances.items(), strict=True):
        _histograms(axes, heldout, generated, colour)
        axes.axvline(limit, color=INK, linestyle="--", linewidth=1)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    marks = {
        "real, held out": Patch(color=RULE),
        "generated": Line2D([], [], color=colour),
        "lowest 5 % of held out": Line2D([], [], color=INK, linestyle="--"),
    }
    figure.legend(list(marks.values()), list(marks), loc="outside upper right", ncols=3)
    figure.suptitle(display_name(class_name), x=0.01, ha="left", color=colour, weight="bold")
    return figure


def closest_pairs(
    rows: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8], Sequence[str]]], title: str
) -> Figure:
    """Images above their nearest training images, closest first.

    ``rows``: what the images are -> images (n, H, W), their nearest training images, turned alike
    (n, H, W), and what to write below each pair. ``title`` is the class's name.
    """
    pairs = []
    for name, (images, nearest, notes) in rows.items():
        pairs.append(Row([images], fill(name, LABEL_LETTERS)))
        pairs.append(Row([nearest], "nearest\ntraining image", MUTED, notes))
    columns = max(len(images) for images, _, _ in rows.values())
    return sheet(pairs, columns, title=display_name(title))
