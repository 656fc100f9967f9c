"""Training curves from the ``metrics.csv`` that Lightning's CSVLogger writes."""

import math
import re

import pandas as pd
from matplotlib.figure import Figure

from svp_lightning.errors import DataError
from svp_lightning.report.style import KNOWN_CLASS_COLOURS, figure_style, new_figure
from svp_lightning.report.wording import metric_name

STAGES = {"train": "Training", "val": "Validation"}
COLOURS = dict(zip(STAGES, KNOWN_CLASS_COLOURS.values(), strict=False))
MARKED_POINTS = 40
NOT_METRICS = ("lr", "learning_rate")
_NAME = re.compile(r"^(train|val)[/_](.+?)(_epoch)?$")


def training_curves(metrics: pd.DataFrame) -> Figure:
    """Loss and every other logged metric, training and validation in one panel each.

    Args:
        metrics: the log, one row per logging call; columns ``train/loss`` or ``val_macro_f1``,
            and ``epoch`` or ``step``. Columns ending in ``_step`` are passed over.

    Raises:
        DataError: no column holds a training or validation metric.
    """
    panels = _panels(metrics)
    if not panels:
        raise DataError(
            f"The training log has no train or val metric among {list(metrics.columns)}.",
            "Give the metrics.csv that Lightning wrote in the run folder.",
        )
    x = "epoch" if "epoch" in metrics else "step"
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    with figure_style():
        figure = new_figure(2.7 * columns + 0.3, 2.4 * rows + 0.3)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, stages) in zip(grid, panels.items(), strict=False):
            for stage, column in stages.items():
                series = metrics[[x, column]].dropna().groupby(x)[column].mean()
                marker = "o" if len(series) <= MARKED_POINTS else ""
                axes.plot(series.index, series.to_numpy(), marker=marker, markersize=3,
                          color=COLOURS[stage], label=STAGES[stage])  # fmt: skip
            axes.set(title=metric_name(name), xlabel=x.capitalize())
            if len(stages) > 1:
                axes.legend()
            elif "val" in stages:
                axes.set_title(f"{metric_name(name)} (validation)")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
    return figure


def _panels(metrics: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Metric -> stage -> column, the loss first."""
    panels: dict[str, dict[str, str]] = {}
    for column in metrics.columns:
        match = _NAME.match(column)
        skipped = column.endswith("_step") or (match and match[2] in NOT_METRICS)
        if match and not skipped and metrics[column].notna().any():
            panels.setdefault(match[2], {})[match[1]] = column
    return dict(sorted(panels.items(), key=lambda item: ("loss" not in item[0], item[0])))
