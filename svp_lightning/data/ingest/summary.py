"""What an import brought in: counts per class, split, group and size, and what was left out."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from svp_lightning.data.store import Store

SIZE_EDGES_UM = (2.0, 5.0, 10.0, 25.0)
"""Thresholds of USP <1788> counting, equivalent circular diameter."""


@dataclass(frozen=True)
class IngestSummary:
    """Counts of a store.

    Attributes:
        images: all images.
        image_size: side, px.
        pixel_size_um: calibration, if known.
        classes: split -> class name ("" where unlabelled) -> images.
        groups: split -> number of groups (runs, vials, or single images).
        sizes: size bin -> images; empty where no size is known.
        skipped: reason -> files left out.
    """

    images: int
    image_size: int
    pixel_size_um: float | None
    classes: dict[str, dict[str, int]]
    groups: dict[str, int]
    sizes: dict[str, int]
    skipped: dict[str, int]

    def lines(self) -> list[str]:
        """For the terminal."""
        pixel = "" if self.pixel_size_um is None else f", {self.pixel_size_um:.3g} µm/px"
        side = self.image_size
        lines = [f"{self.images:,} images of {side} × {side} px{pixel}"]
        for split, counts in self.classes.items():
            held = ", ".join(f"{n:,} {name or 'unlabelled'}" for name, n in counts.items())
            lines.append(f"  {split or 'no split':<9}{held} ({self.groups[split]:,} groups)")
        if self.sizes:
            lines.append("  sizes    " + ", ".join(f"{k}: {n:,}" for k, n in self.sizes.items()))
        if self.skipped:
            left_out = ", ".join(f"{n:,} {reason}" for reason, n in self.skipped.items())
            lines.append(f"  left out {left_out} (see skipped.csv in the store)")
        return lines


def summarise(store: Store) -> IngestSummary:
    """Count what ``store`` holds."""
    groups = store.particles.groupby("split")["group"].nunique()
    return IngestSummary(
        images=len(store),
        image_size=store.image_size,
        pixel_size_um=store.pixel_size_um,
        classes=store.manifest.counts,
        groups={str(split): int(n) for split, n in groups.items()},
        sizes=_size_bins(store.particles),
        skipped=store.manifest.made_by.get("skipped", {}),
    )


def _size_bins(particles: pd.DataFrame) -> dict[str, int]:
    if "ecd_um" not in particles or particles["ecd_um"].isna().all():
        return {}
    sizes = particles["ecd_um"].dropna()
    edges = [0.0, *SIZE_EDGES_UM, np.inf]
    names = [f"< {edges[1]:g} µm"]
    names += [f"{a:g}-{b:g} µm" for a, b in pairwise(SIZE_EDGES_UM)]
    names.append(f"≥ {edges[-2]:g} µm")
    counts = pd.cut(sizes, edges, right=False, labels=names).value_counts(sort=False)
    return {str(name): int(n) for name, n in counts.items()}
