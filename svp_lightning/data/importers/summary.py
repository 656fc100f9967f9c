"""What an import brought in: counts per class, split, group and size, and what was left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from svp_lightning.data.classes import display_name
from svp_lightning.data.importers.runs import RunFacts
from svp_lightning.data.importers.window import (
    LARGE_BINS,
    UNKNOWN_SIZE,
    size_bins,
    window_counts,
)
from svp_lightning.data.settings import MAX_IMAGE_SIZE
from svp_lightning.data.store import SPLITS, Store

UNLABELLED = "unlabelled"
MAX_GROUPS_SHOWN = 20


@dataclass(frozen=True)
class IngestSummary:
    """Counts of a store.

    Attributes:
        images: all images.
        image_size: side, px.
        window: what :func:`window_table` gives.
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
        size_definition: what ``ecd_um`` is, if sizes are known.
        remarks: on runs: notes of the importer, dilutions, and why a concentration is withheld.
        bit_depth: bits that 16-bit files use, where there are such files.
    """

    images: int
    image_size: int
    window: pd.DataFrame
    pixel_um: tuple[float, float] | None
    classes: pd.DataFrame
    groups: pd.DataFrame
    sizes: dict[str, int]
    on_frame_edge: int
    skipped: dict[str, int]
    not_split: str | None
    size_definition: str | None
    remarks: list[str]
    bit_depth: int | None

    def lines(self) -> list[str]:
        """For the terminal, tables left out."""
        pixel = "" if self.pixel_um is None else f", {as_range(self.pixel_um)} µm/px"
        side = self.image_size
        held = ", ".join(f"{n:,} {name}" for name, n in self.classes["images"].items())
        lines = [
            f"{self.images:,} images of {side} × {side} px{pixel}" + (f": {held}" if held else "")
        ]
        if self.sizes and self.size_definition:
            lines.append(f"Sizes (ecd_um): {self.size_definition}.")
        lines += too_large(self.window, side)
        if self.on_frame_edge:
            lines.append(f"On the edge of a camera frame: {self.on_frame_edge:,} (edge_of_frame)")
        for reason, count in self.skipped.items():
            lines.append(f"Left out: {count:,} ({reason})")
        if self.skipped:
            lines.append("All that was left out is listed in skipped.csv.")
        lines += self.remarks[:MAX_GROUPS_SHOWN]
        if more := len(self.remarks) - MAX_GROUPS_SHOWN:
            lines += [f"and {more:,} more remarks on runs (manifest.json)"] if more > 0 else []
        if self.groups.empty and set(SPLITS) & set(self.classes.columns):
            lines.append(
                "No runs or vials are known (group): images of one run may both train and test."
            )
        if self.bit_depth:
            lines.append(f"16-bit files are read as {self.bit_depth} bit (data.bit_depth).")
        if self.not_split:
            lines.append(f"Imported without splits: {self.not_split}")
        return lines

    def tables(self) -> dict[str, pd.DataFrame]:
        """Title -> rows to print, under the name of their index; only tables that tell anything."""
        sizes = f" (sizes: {self.size_definition})" if self.sizes and self.size_definition else ""
        classes = self.classes
        if len(classes) > 1:
            total = "all classes" if "all" in classes.index else "all"
            classes = pd.concat([classes, classes.sum().to_frame(total).T])
        tables = {
            f"Classes{sizes}": classes.rename(index=display_name).rename_axis("class"),
            f"Larger than the window of {self.image_size} px{sizes}": self.window.rename_axis(
                "size"
            ),
            "Groups (a split never divides one)": self.groups[:MAX_GROUPS_SHOWN].rename_axis(
                "group"
            ),
        }
        return {title: rows for title, rows in tables.items() if len(rows)}


def pixel_range(store: Store) -> tuple[float, float] | None:
    """Smallest and largest pixel size of a store's runs, µm; None where one is unknown."""
    if store.pixel_size_um is not None:
        return store.pixel_size_um, store.pixel_size_um
    sizes = store.particles.get("pixel_size_um")
    if sizes is None or sizes.empty or sizes.isna().any():
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
        window=window_table(particles),
        pixel_um=pixel_range(store),
        classes=_class_table(label, particles["split"], bins, order),
        groups=_group_table(particles, label, order, made_by),
        sizes={} if bins is None else {str(k): int(n) for k, n in _counts(bins).items()},
        on_frame_edge=int(edge.sum()),
        skipped=made_by.get("skipped", {}),
        not_split=made_by.get("not_split"),
        size_definition=made_by.get("size_definition"),
        remarks=[text for run, facts in _facts(made_by).items() for text in _remarks(run, facts)],
        bit_depth=made_by.get("bit_depth_of_16_bit_files"),
    )


def window_table(particles: pd.DataFrame) -> pd.DataFrame:
    """A row per size bin, as in :func:`window_counts`; empty where all particles fit."""
    if "cut" not in particles:
        return pd.DataFrame()
    table = pd.DataFrame.from_dict(window_counts(particles), orient="index")
    return table if len(table) and table[["cut", "shrunk"]].to_numpy().any() else table[:0]


def too_large(window: pd.DataFrame, image_size: int, remedy: str = "") -> list[str]:
    """Sentences on the particles of 10 µm and more (or of any size) that are cut or shrunk.

    Args:
        window: from :func:`window_table`.
        image_size: side of the images, px.
        remedy: what to do with the settings that keep particles whole (``"train with "``).
    """
    large = window[window.index.isin(LARGE_BINS)] if len(window) else window
    kind = "particles ≥ 10 µm"
    if len(window) and set(window.index) == {UNKNOWN_SIZE}:
        large, kind = window, "particles"
    if large.empty:
        return []
    total, cut, shrunk = (int(large[name].sum()) for name in ("particles", "cut", "shrunk"))
    of = f"of the {total:,} {kind}"
    lines = []
    if cut:
        larger = "a larger data.image_size, or " * (image_size < MAX_IMAGE_SIZE)
        lines.append(
            f"Warning: the window of {image_size} px cuts {cut:,} {of} ({cut / total:.0%}). "
            f"To keep them whole: {remedy}{larger}data.fit=shrink."
        )
    if shrunk:
        lines.append(f"Scaled down to fit the window: {shrunk:,} {of} (column scale).")
    return lines


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
    blank = [run for run, facts in _facts(made_by).items() if not facts.particles]
    if group.nunique() == len(particles) and not blank:
        return pd.DataFrame()
    images = group.value_counts()
    table = pd.DataFrame({"images": images.reindex(sorted({*images.index, *blank}), fill_value=0)})
    if (particles["split"] != "").any():
        named = particles[particles["split"] != ""]
        table["split"] = named.groupby("group")["split"].first()
        table["split"] = table["split"].fillna("")
    by_class = pd.crosstab(group, label).reindex(index=table.index, columns=order, fill_value=0)
    table = table.join(by_class.astype(int))
    volumes = volumes_imaged(particles, made_by).reindex(table.index)
    if volumes.notna().any():
        table["mL imaged"] = volumes
        table["per mL"] = table["images"] / volumes.where(volumes > 0)
    return table


def _facts(made_by: Mapping[str, Any]) -> dict[str, RunFacts]:
    return {run: RunFacts.model_validate(facts) for run, facts in made_by.get("runs", {}).items()}


def _remarks(run: str, facts: RunFacts) -> list[str]:
    remarks = [f"{run}: {note}" for note in facts.notes]
    if facts.withheld:
        remarks.append(f"{run}: no concentration is given: {facts.withheld}.")
    elif facts.dilution not in (None, 1):
        remarks.append(f"{run}: concentrations include a dilution of {facts.dilution:g}.")
    return remarks


def particles_lost(made_by: Mapping[str, Any]) -> bool:
    """Whether an import left particles out that its runs hold, so that counts are too low."""
    return not made_by.get("complete", True)


def volumes_imaged(particles: pd.DataFrame, made_by: Mapping[str, Any]) -> pd.Series:
    """Group -> mL of sample imaged in its runs, so that images / mL is its concentration.

    NaN where the volume of one of its runs is unknown or withheld, or a run is in several
    groups. Runs without particles are groups of their own.

    Args:
        particles: of a store of runs.
        made_by: of its manifest.
    """
    facts = _facts(made_by)
    if not facts:
        return pd.Series(dtype=float)
    runs = particles[["group"]].assign(run=particles.get("run", particles["group"]))
    blank = [run for run, found in facts.items() if not found.particles]
    runs = pd.concat([runs.drop_duplicates(), pd.DataFrame({"group": blank, "run": blank})])
    volumes = {run: found.volume_ml for run, found in facts.items()}
    volume = runs["run"].map(volumes).astype(float).mask(runs["run"].duplicated(keep=False))
    return volume.groupby(runs["group"]).agg(lambda parts: parts.sum(skipna=False))


def _size_bins(particles: pd.DataFrame) -> pd.Series | None:
    """The size bin of each image; None where no size is known."""
    if "ecd_um" not in particles or particles["ecd_um"].isna().all():
        return None
    return size_bins(particles["ecd_um"])


def _counts(bins: pd.Series) -> pd.Series:
    return bins.value_counts(sort=False)
