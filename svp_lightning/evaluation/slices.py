"""Recall of each class by a physical property of the particles: size, defocus, morphology."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.evaluation.intervals import wilson_interval
from svp_lightning.evaluation.predictions import Predictions

SIZE_EDGES_UM = (0.0, 2.0, 5.0, 10.0, 25.0, np.inf)
"""The sizes quality control counts at (USP <787>, <1788.3>), in µm."""
DEFOCUS_EDGES_UM = (0.0, 2.0, 5.0, 10.0, np.inf)

EDGES_UM = {
    "ecd_um": SIZE_EDGES_UM,
    "radius_um": tuple(edge / 2 for edge in SIZE_EDGES_UM),
    "defocus_um": DEFOCUS_EDGES_UM,
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
    right = found.probabilities.argmax(axis=1) == found.labels
    for column in (*EDGES_UM, *CATEGORIES):
        if column == "radius_um" and "ecd_um" in particles:
            continue  # the same size twice
        if column in particles and particles[column].notna().any():
            codes, names = _bins(particles[column])
            rows += _by_class(column, codes, names, found, right)
    return rows


def _bins(values: "pd.Series[Any]") -> tuple[NDArray[np.int64], list[str]]:
    """(N,) position of each value's bin, -1 where unknown, and the names of the bins."""
    edges = EDGES_UM.get(str(values.name))
    if edges is None:
        codes, found = pd.factorize(values, sort=True)
        return codes.astype(np.int64), [str(name) for name in found]
    size = np.abs(values.to_numpy(dtype=np.float64))
    codes = np.searchsorted(edges, size, side="right") - 1
    names = [
        f"{low:g} or more" if np.isinf(high) else f"{low:g} to {high:g}"
        for low, high in pairwise(edges)
    ]
    return np.where(np.isfinite(size), codes, -1), names


def _by_class(
    column: str,
    codes: NDArray[np.int64],
    names: Sequence[str],
    found: Predictions,
    right: NDArray[np.bool_],
) -> list[dict[str, Any]]:
    known = codes >= 0
    place = (found.labels * len(names) + codes)[known]
    size = len(found.class_names) * len(names)
    images = np.bincount(place, minlength=size)
    recalled = np.bincount(place[right[known]], minlength=size)
    low, high = wilson_interval(recalled, images)
    return [
        {
            "column": column,
            "slice": names[at % len(names)],
            "class": found.class_names[at // len(names)],
            "images": int(images[at]),
            "recall": float(recalled[at] / images[at]),
            "ci95": [float(low[at]), float(high[at])],
        }
        for at in np.flatnonzero(images).tolist()
    ]
