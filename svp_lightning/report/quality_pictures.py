"""What a quality report is made of, and its pictures: sizes, and particles of each class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.data.store import Store
from svp_lightning.evaluation.particle_counts import ALL, ALL_SIZES, UNCERTAIN, UNFAMILIAR, Sample
from svp_lightning.evaluation.quality_table import KEYS, NET, SINGLE, Calls, Reference
from svp_lightning.report.counts import UNKNOWN_DEFINITION, size_definition
from svp_lightning.report.figures.sheets import Row, sheet
from svp_lightning.report.figures.size_distribution import size_distribution
from svp_lightning.report.page import Picture, embedded_figure

STRIP = 5
"""Images of each class and size."""


Key = tuple[str, str, float, str]


@dataclass(frozen=True)
class Contents:
    """What a report is made of.

    Attributes:
        store: N particles.
        particles: N rows, and those of earlier runs: ``sample``, ``size_um``, ``class`` (as the
            classifier calls it, or :data:`~.particle_counts.UNCERTAIN`).
        calls: the same, counted.
        table: of :func:`~.quality_table.quality_table`.
        reference: limits to show; None: the container's volume is not given.
        container_ml: nominal volume, mL.
        warnings: a sentence each, on what makes the numbers doubtful.
        provenance: name -> value.
    """

    store: Store
    particles: pd.DataFrame
    calls: Calls
    table: pd.DataFrame
    reference: Reference | None
    container_ml: float | None
    warnings: Sequence[str]
    provenance: Mapping[str, str]

    @cached_property
    def lines(self) -> dict[Key, dict[str, Any]]:
        """Rows of the table by quantity, run, least size and class."""
        keys = zip(*(self.table[name] for name in KEYS), strict=True)
        rows = self.table.to_dict("records")
        return {
            key: {str(k): v for k, v in row.items()} for key, row in zip(keys, rows, strict=True)
        }

    def of(self, quantity: str) -> pd.DataFrame:
        """Rows of the table of one quantity."""
        return self.table[self.table["quantity"] == quantity]

    @cached_property
    def blanks(self) -> dict[str, str]:
        """Run -> the blank that is subtracted from it."""
        net = self.of(NET)
        return dict(zip(net["sample"], net["other"], strict=True))

    @property
    def sizes(self) -> list[float]:
        """Least sizes, all sizes first."""
        return [ALL_SIZES, *self.calls.thresholds_um]

    @property
    def names(self) -> list[str]:
        """Classes of the table."""
        return [*self.calls.class_names, ALL, UNCERTAIN]


def run_pictures(contents: Contents, sample: Sample) -> list[Picture]:
    """Concentration over size, and images."""
    return [*_distribution(contents, sample), *_strips(contents, sample)]


def shown_definition(store: Store) -> str:
    """Which diameter the sizes are, in words."""
    found = size_definition(store)
    return "diameter as the source gives it" if found == UNKNOWN_DEFINITION else found


def between(first: float, last: float) -> str:
    """The sizes of a bin, µm."""
    if first == 0:
        return "all sizes" if math.isinf(last) else f"< {last:g} µm"
    return f"≥ {first:g} µm" if math.isinf(last) else f"{first:g} to {last:g} µm"


def _distribution(contents: Contents, sample: Sample) -> list[Picture]:
    """Concentration over size of one run; nothing where no size is known."""
    particles, calls = contents.particles, contents.calls
    own = particles[particles["sample"] == sample.name]
    sized = own[own["size_um"] > 0]
    if sized.empty:
        return []
    known = not sample.withheld
    sizes = {
        name: sized.loc[sized["class"] == name, "size_um"].to_numpy()
        for name in (*calls.class_names, UNCERTAIN)
    }
    rows = contents.of(SINGLE)
    rows = rows[(rows["sample"] == sample.name) & (rows["min_size_um"] > ALL_SIZES)]
    column = "per_ml" if known else "corrected"
    ends = {column: "value", f"{column}_low": "low", f"{column}_high": "high"}
    limits = contents.reference.per_ml if contents.reference and known else {}
    figure = size_distribution(
        {ALL: sized["size_um"].to_numpy(), **sizes},
        calls.class_names,
        rows[["class", "min_size_um", *ends]].rename(columns=ends),
        limits,
        sample.per_particle if known else 1.0,
        f"Size, µm ({shown_definition(contents.store)})",
        "Particles per mL of at least this size" if known else "Particles of at least this size",
    )
    words = "Lines: as called. Dots: corrected, with 95 % intervals."
    name = f"sizes-{calls.samples.index(sample)}"
    return [embedded_figure(figure, name, "Size distribution", words)]


def _strips(contents: Contents, sample: Sample) -> list[Picture]:
    """Particles of each size and class, drawn at random; nothing of an earlier prediction."""
    store, calls = contents.store, contents.calls
    particles = contents.particles[: len(store)]
    chosen = particles["sample"].to_numpy() == sample.name
    kinds = [*calls.class_names, UNCERTAIN, UNFAMILIAR]
    edges = [0.0, *calls.thresholds_um, math.inf]
    size = particles["size_um"].to_numpy(float)
    rng, rows = np.random.default_rng(0), []
    for first, last in pairwise(edges):
        here = chosen & ((size >= first) & (size < last) if calls.thresholds_um else True)
        of = [np.flatnonzero(here & (particles["class"] == k).to_numpy()) for k in kinds]
        if any(len(own) for own in of):
            rows.append(Row([_some(store, own, rng) for own in of], between(first, last)))
    if not rows:
        return []
    headings = [display_name(name) for name in kinds]
    figure = sheet(rows, STRIP, headings=headings, pixel_size_um=store.image_pixel_um)
    words = f"Up to {STRIP} of each size and class, chosen at random, in the class they are called."
    name = f"images-{calls.samples.index(sample)}"
    return [embedded_figure(figure, name, "Images of each size", words, images=True)]


def _some(store: Store, rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.uint8]:
    """At most :data:`STRIP` images of these rows."""
    kept = np.sort(rng.permutation(rows)[:STRIP])
    return np.asarray(store.images[kept])
