"""Recall of each class by a physical property of the particles: size, defocus, morphology."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from svp_lightning.data.importers.window import SIZE_EDGES_UM
from svp_lightning.evaluation.intervals import wilson_interval
from svp_lightning.evaluation.predictions import Predictions

_DIAMETERS = (0.0, *SIZE_EDGES_UM, np.inf)
EDGES_UM = {
    "ecd_um": _DIAMETERS,
    "radius_um": tuple(edge / 2 for edge in _DIAMETERS),
    "defocus_um": (0.0, 2.0, 5.0, 10.0, np.inf),
}
"""Numeric column -> edges of its bins; the sign of a defocus does not matter here."""
CATEGORIES = ("morphology",)


def recall_slices(found: Predictions, particles: pd.DataFrame) -> list[dict[str, Any]]:
    """The ``slices`` part of ``results.json``, for the columns that ``particles`` has.

    Args:
        found: N labelled images; each counts as its most probable class.
        particles: N rows of the store's table, in the same order.

    Returns:
        One entry per column, class and bin that holds images: ``column``, ``slice`` (such as
        ``"5 to 10"``, in the unit of the column's name), ``class``, ``images``, ``recall``
        and ``ci95`` (Wilson).
    """
    rows: list[dict[str, Any]] = []
    right = pd.Series(found.probabilities.argmax(axis=1) == found.labels)
    for column in (*EDGES_UM, *CATEGORIES):
        if column not in particles or (column == "radius_um" and "ecd_um" in particles):
            continue  # not known, or the same size twice
        groups = right.groupby([found.labels, _bins(particles[column])], observed=True)
        counts = groups.agg(["size", "sum"])
        low, high = wilson_interval(counts["sum"].to_numpy(), counts["size"].to_numpy())
        for (label, name), images, recalled, *ends in zip(
            counts.index, counts["size"], counts["sum"], low.tolist(), high.tolist(), strict=True
        ):
            rows.append(
                {
                    "column": column,
                    "slice": str(name),
                    "class": found.class_names[label],
                    "images": images,
                    "recall": recalled / images,
                    "ci95": ends,
                }
            )
    return rows


def _bins(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """The bin of each value, without the particles' index; null where it is unknown."""
    values, edges = values.reset_index(drop=True), EDGES_UM.get(str(values.name))
    if edges is None:
        return values
    names = [
        f"{low:g} or more" if np.isinf(high) else f"{low:g} to {high:g}"
        for low, high in pairwise(edges)
    ]
    return pd.cut(values.astype(float).abs(), edges, right=False, labels=names)
