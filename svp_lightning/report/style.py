"""One look for every figure: colours for colour-blind readers, few lines, no boxes.

A class has the same colour (Okabe and Ito 2008) in every figure of a report, and so has an arm of
a study (:mod:`~.arms`); every figure also uses position, markers or text, so none depends on colour
alone.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from svp_lightning.data.classes import AIR_BUBBLE, PROTEIN, SILICONE_OIL
from svp_lightning.runtime.files import replacing

KNOWN_CLASS_COLOURS = {PROTEIN: "#0072B2", SILICONE_OIL: "#D55E00", AIR_BUBBLE: "#009E73"}
OTHER_CLASS_COLOURS = ("#CC79A7", "#8C6D1F", "#56B4E9", "#6E6E6E", "#E69F00", "#5B3A8E")

INK, MUTED, RULE = "#1f2933", "#5b6774", "#d5dbe1"
DPI = 160
DASHES = (0, (4, 3))
LINE_STYLES = ("-", "--", "-.", ":")

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same bytes everywhere
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "svg.hashsalt": "svp_lightning",  # else ids in the file are random
    "svg.fonttype": "path",
}


figure_style = partial(mpl.rc_context, _STYLE)
"""The style while a figure is drawn or saved; the caller's settings come back after."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` × ``height`` inches, outside pyplot's global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(figure: Figure, count: int, columns: int, **options: Any) -> Sequence[Axes]:
    """The first ``count`` panels of a grid, line by line; the others stay blank."""
    rows = -(-count // columns)
    grid = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for axes in grid[count:]:
        axes.set_axis_off()
    return list(grid)


def legend_below(figure: Figure, ncols: int = 4, leave_out: Collection[str] = ()) -> None:
    """One legend for all panels, each name once; ``leave_out`` are names explained elsewhere.

    It has at most ``ncols`` columns, and fewer where the names would not fit the figure's width.
    """
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        named |= {n: h for n, h in zip(names, handles, strict=True) if n not in leave_out}
    for columns in range(min(ncols, len(named)), 0, -1):
        legend = figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=columns
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def class_colours(class_names: Sequence[str]) -> Mapping[str, str]:
    """Class name -> hex colour; the paper's classes keep theirs whatever else is drawn."""
    others = [name for name in class_names if name not in KNOWN_CLASS_COLOURS]
    colours = {
        name: OTHER_CLASS_COLOURS[position % len(OTHER_CLASS_COLOURS)]
        for position, name in enumerate(others)
    }
    return {name: KNOWN_CLASS_COLOURS.get(name) or colours[name] for name in class_names}


def save_figure(figure: Figure, path: Path, *, svg: bool = False) -> None:
    """Write ``figure`` as PNG, whole or not at all; the same figure gives the same bytes.

    With ``svg``, an SVG of the same name, too.
    """
    formats = {".png": {"Software": None}} | ({".svg": {"Date": None}} if svg else {})
    with figure_style():
        for suffix, metadata in formats.items():
            with replacing(path.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, format=suffix[1:], metadata=metadata)
