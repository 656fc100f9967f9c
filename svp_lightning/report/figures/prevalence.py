"""How precision falls as one class becomes more common than the others."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from svp_lightning.data.classes import display_name
from svp_lightning.report.style import INK, class_colours, figure_style, new_figure

SHOWN: Mapping[str, str] = {
    "precision": "Precision (most probable class)",
    "recall_at_precision_95": "Recall at 95 % precision",
    "auprc": "AUPRC",
}
MARKERS = "osD^v<>P"
TARGET = 0.95


def metrics_by_prevalence(table: pd.DataFrame, class_names: Sequence[str], common: str) -> Figure:
    """Per-class metrics over particles of the common class per particle of each other class.

    Args:
        table: ``prevalence.csv``: ``ratio`` and ``<class>/<metric>``.
        class_names: K names.
        common: the class whose share the table varies.
    """
    colours = class_colours(class_names)
    with figure_style():
        figure = new_figure(8.0, 3.3)
        for axes, (metric, title) in zip(
            figure.subplots(1, len(SHOWN), sharey=True), SHOWN.items(), strict=True
        ):
            for position, name in enumerate(class_names):
                axes.plot(table["ratio"], table[f"{name}/{metric}"], color=colours[name],
                          marker=MARKERS[position % len(MARKERS)], markersize=4.5,
                          label=display_name(name))  # fmt: skip
            if metric == "precision":
                axes.axhline(TARGET, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.set(title=title, xscale="log", ylim=(-0.02, 1.03))
            axes.title.set_fontsize(9)
            axes.set_xticks([r for r in (1, 10, 100, 1000) if r <= table["ratio"].max()])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:,.10g} : 1"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
            axes.set_xlabel(f"{display_name(common)} : each other class")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))
    return figure
