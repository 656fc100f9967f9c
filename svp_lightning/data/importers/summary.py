"""What an import brought in: counts per class, split, group and size, and what was left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from svp_lightning.data.importers.window import size_bins
from svp_lightning.data.store import SPLITS, Store

UNLABELLED = "unlabelled"
MAX_GROUPS_SHOWN = 20


@dataclass(frozen=True)
class IngestSummary:
    """Counts of a store.

    Attributes:
        images: all images.
        image_size: side, px.
        pixel_um: smallest and largest calibration of its runs, if known.
        classes: one row per class (and :data:`UNLABELLED`): ``images``, one column for each
            split there is, and one for each size bin if sizes are known.
        groups: one row per group (run, vial): ``images``, ``split``, one column for each
            class, and ``mL imaged`` and ``per mL`` where the instrument says; empty where
            every image is a group of its own.
        sizes: size bin -> images; empty where no size is known.
        on_frame_edge: particles cut by the camera frame.
        skipped: reason -> particles, rows or files left out.
        not_split: why there is no split, if so.
    """

    images: int
    image_size: int
    pixel_um: tuple[float, float] | None
    classes: pd.DataFrame
    groups: pd.DataFrame
    sizes: dict[str, int]
    on_frame_edge: int
    skipped: dict[str, int]
    not_split: str | None

    def lines(self) -> list[str]:
        """For the terminal, tables left out."""
        pixel = "" if self.pixel_um is None else f", {as_range(self.pixel_um)} µm/px"
        side = self.image_size
        held = ", ".join(f"{n:,} {name}" for name, n in self.classes["images"].items())
        lines = [f"{self.images:,} images of {side} × {side} px{pixel}: {held}"]
        if self.on_frame_edge:
            lines.append(f"On the edge of a camera frame: {self.on_frame_edge:,} (edge_of_frame)")
        for reason, count in self.skipped.items():
            lines.append(f"Left out: {count:,} ({reason})")
        if self.skipped:
            lines.append("All that was left out is listed in skipped.csv.")
        if self.groups.empty and set(SPLITS) & set(self.classes.columns):
            lines.append(
                "No runs or vials are known (group): images of one run may both train and test."
            )
        if self.not_split:
            lines.append(f"Imported without splits: {self.not_split}")
        return lines


def pixel_range(store: Store) -> tuple[float, float] | None:
    """Smallest and largest pixel size of a store's runs, µm; None where one is unknown."""
    if store.pixel_size_um is not None:
        return store.pixel_size_um, store.pixel_size_um
    sizes = store.particles.get("pixel_size_um")
    if sizes is None or sizes.isna().any():
        return None
    return float(sizes.min()), float(sizes.max())


def as_range(ends: tuple[float, float], how: str = ".4g") -> str:
    """``"0.5"``, or ``"0.5 to 1.4"`` where the ends differ."""
    low, high = (format(end, how) for end in ends)
    return low if low == high else f"{low} to {high}"


def summarise(store: Store) -> IngestSummary:
    """Count what ``store`` holds."""
    particles = store.particles
    label = particles["label"].astype(object).where(particles["label"].notna(), UNLABELLED)
    order = [name for name in (*store.class_names, UNLABELLED) if (label == name).any()]
    bins = _size_bins(particles)
    edge = particles.get("edge_of_frame", pd.Series(dtype=object)).dropna().astype(bool)
    made_by = store.manifest.made_by
    return IngestSummary(
        images=len(store),
        image_size=store.image_size,
        pixel_um=pixel_range(store),
        classes=_class_table(label, particles["split"], bins, order),
        groups=_group_table(particles, label, order, made_by),
        sizes={} if bins is None else {str(k): int(n) for k, n in _counts(bins).items()},
        on_frame_edge=int(edge.sum()),
        skipped=made_by.get("skipped", {}),
        not_split=made_by.get("not_split"),
    )


def _class_table(
    label: pd.Series, split: pd.Series, bins: pd.Series | None, order: list[str]
) -> pd.DataFrame:
    table = pd.DataFrame({"images": label.value_counts()})
    for name in SPLITS:
        if (split == name).any():
            table[name] = label[split == name].value_counts()
    if bins is not None:
        table = table.join(pd.crosstab(label, bins, dropna=False))
    return table.reindex(order).fillna(0).astype(int)


def _group_table(
    particles: pd.DataFrame, label: pd.Series, order: list[str], made_by: dict[str, Any]
) -> pd.DataFrame:
    group = particles["group"]
    if group.nunique() == len(particles):
        return pd.DataFrame()
    table = pd.DataFrame({"images": group.value_counts().sort_index()})
    if (particles["split"] != "").any():
        named = particles[particles["split"] != ""]
        table["split"] = named.groupby("group")["split"].first()
        table["split"] = table["split"].fillna("")
    table = table.join(pd.crosstab(group, label).reindex(columns=order))
    volumes = volumes_imaged(particles, made_by).reindex(table.index)
    if volumes.notna().any():
        table["mL imaged"] = volumes
    if "mL imaged" in table and not particles_lost(made_by):  # else counts are too low
        table["per mL"] = table["images"] / table["mL imaged"].where(table["mL imaged"] > 0)
    return table


def particles_lost(made_by: Mapping[str, Any]) -> bool:
    """Whether an import left particles out that its runs hold, so that counts are too low."""
    return not made_by.get("complete", True)


def volumes_imaged(particles: pd.DataFrame, made_by: Mapping[str, Any]) -> pd.Series:
    """Group -> mL imaged by its runs; NaN where one is unknown, or a run is in several groups.

    Args:
        particles: of a store of runs.
        made_by: of its manifest.
    """
    facts = made_by.get("runs", {})
    if not facts:
        return pd.Series(dtype=float)
    runs = particles[["group"]].assign(run=particles.get("run", particles["group"]))
    runs = runs.drop_duplicates()
    volume = runs["run"].map(lambda run: facts.get(str(run), {}).get("volume_imaged_ml", np.nan))
    volume = volume.astype(float).mask(runs["run"].duplicated(keep=False))
    return volume.groupby(runs["group"]).agg(lambda parts: parts.sum(skipna=False))


def _size_bins(particles: pd.DataFrame) -> pd.Series | None:
    """The size bin of each image; None where no size is known."""
    if "ecd_um" not in particles or particles["ecd_um"].isna().all():
        return None
    return size_bins(particles["ecd_um"])


def _counts(bins: pd.Series) -> pd.Series:
    return bins.value_counts(sort=False)
