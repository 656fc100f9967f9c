"""What an import brought in: counts per class, split, group and size, and what was left out."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from svp_lightning.data.classes import display_name
from svp_lightning.data.importers.runs import RunFacts
from svp_lightning.data.importers.window import LARGE_BINS, UNKNOWN_SIZE, size_bins, window_counts
from svp_lightning.data.settings import MAX_IMAGE_SIZE
from svp_lightning.data.store import SPLITS, Store

UNLABELLED = "unlabelled"
MAX_GROUPS_SHOWN = 20


class IngestSummary:
    """Counts of a store, for people.

    Attributes:
        classes: a row per class (and :data:`UNLABELLED`): ``images``, those of each split and
            size bin.
        groups: a row per group (run, vial), empty where every image is a group of its own:
            ``images``, ``split``, one column for each class, and ``mL imaged`` and ``per mL``
            where the instrument says.
        window: what :func:`window_table` gives.
        sizes: size bin -> images; empty where no size is known.
        skipped: reason -> particles, rows or files left out.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._made_by = store, store.manifest.made_by
        self._facts = _facts(self._made_by)
        particles = store.particles
        label = particles["label"].astype(object)
        label = label.where(label.notna(), UNLABELLED)
        order = [name for name in (*store.class_names, UNLABELLED) if (label == name).any()]
        ecd = particles.get("ecd_um", pd.Series(dtype=float)).astype(float)
        bins = size_bins(ecd) if ecd.notna().any() else None
        self.sizes: dict[str, int] = {}
        if bins is not None:
            self.sizes = {str(k): int(n) for k, n in bins.value_counts(sort=False).items()}
        self.skipped: dict[str, int] = dict(self._made_by.get("skipped", {}))
        self.classes = (
            _classes(label, particles["split"], bins).reindex(order).fillna(0).astype(int)
        )
        self.groups = self._groups(label, order)
        self.window = window_table(particles)
        self._definition = self._made_by.get("size_definition") if self.sizes else None

    def _groups(self, label: pd.Series, order: list[str]) -> pd.DataFrame:
        particles, group = self._store.particles, self._store.particles["group"]
        blank = [run for run, facts in self._facts.items() if not facts.particles]
        if group.nunique() == len(particles) and not blank:
            return pd.DataFrame()
        images = group.value_counts()
        rows = sorted({*images.index, *blank})
        table = pd.DataFrame({"images": images.reindex(rows, fill_value=0)})
        if (particles["split"] != "").any():
            named = particles[particles["split"] != ""].groupby("group")["split"].first()
            table["split"] = named.reindex(rows, fill_value="")
        by_class = pd.crosstab(group, label).reindex(index=rows, columns=order, fill_value=0)
        table = table.join(by_class.astype(int))
        volumes = volumes_imaged(particles, self._made_by).reindex(rows)
        if volumes.notna().any():
            table["mL imaged"] = volumes
            table["per mL"] = table["images"] / volumes.where(volumes > 0)
        return table

    def lines(self) -> list[str]:
        """For the terminal, tables left out."""
        range_um, side = pixel_range(self._store), self._store.image_size
        pixel = "" if range_um is None else f", {as_range(range_um)} µm/px"
        held = ", ".join(f"{n:,} {name}" for name, n in self.classes["images"].items())
        held = f": {held}" if held else ""
        lines = [f"{len(self._store):,} images of {side} × {side} px{pixel}{held}"]
        if self._definition:
            lines.append(f"Sizes (ecd_um): {self._definition}.")
        lines += too_large(self.window, side)
        if edge := cut_by_frame(self._store.particles):
            lines.append(f"On the edge of a camera frame: {edge:,} (edge_of_frame)")
        lines += [f"Left out: {count:,} ({reason})" for reason, count in self.skipped.items()]
        if self.skipped:
            lines.append("All that was left out is listed in skipped.csv.")
        remarks = [text for run, facts in self._facts.items() for text in _remarks(run, facts)]
        lines += remarks[:MAX_GROUPS_SHOWN]
        if (more := len(remarks) - MAX_GROUPS_SHOWN) > 0:
            lines.append(f"and {more:,} more remarks on runs (manifest.json)")
        if self.groups.empty and set(SPLITS) & set(self.classes.columns):
            lines.append(
                "No runs or vials are known (group): images of one run may both train and test."
            )
        if depth := self._made_by.get("bit_depth_of_16_bit_files"):
            lines.append(f"16-bit files are read as {depth} bit (data.bit_depth).")
        if why := self._made_by.get("not_split"):
            lines.append(f"Imported without splits: {why}")
        return lines

    def tables(self) -> dict[str, pd.DataFrame]:
        """Title -> rows to print, under the name of their index; only tables that hold any."""
        sizes = f" (sizes: {self._definition})" if self._definition else ""
        classes = self.classes
        if len(classes) > 1:
            total = "all classes" if "all" in classes.index else "all"
            classes = pd.concat([classes, classes.sum().to_frame(total).T])
        larger = f"Larger than the window of {self._store.image_size} px{sizes}"
        groups = self.groups[:MAX_GROUPS_SHOWN]
        tables = {
            f"Classes{sizes}": classes.rename(index=display_name).rename_axis("class"),
            larger: self.window.rename_axis("size"),
            "Groups (a split never divides one)": groups.rename_axis("group"),
        }
        return {title: rows for title, rows in tables.items() if len(rows)}


def _classes(label: pd.Series, split: pd.Series, bins: pd.Series | None) -> pd.DataFrame:
    table = pd.DataFrame({"images": label.value_counts()})
    for name in SPLITS:
        if (split == name).any():
            table[name] = label[split == name].value_counts()
    return table if bins is None else table.join(pd.crosstab(label, bins, dropna=False))


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


def cut_by_frame(particles: pd.DataFrame) -> int:
    """How many particles the frame of the camera cuts, as far as that is known."""
    edge = particles.get("edge_of_frame", pd.Series(dtype=object))
    return int(edge.dropna().astype(bool).sum())


def window_table(particles: pd.DataFrame) -> pd.DataFrame:
    """A row per size bin, as in :func:`window_counts`; empty where all particles fit."""
    if "cut" not in particles:
        return pd.DataFrame()
    table = pd.DataFrame.from_dict(window_counts(particles), orient="index")
    return table if len(table) and table[["cut", "shrunk"]].to_numpy().any() else table[:0]


def too_large(window: pd.DataFrame, image_size: int, remedy: str = "") -> list[str]:
    """Sentences on the particles of 10 µm and more (or of any size) that are cut or shrunk.

    ``window`` is that of :func:`window_table`; ``remedy`` says what to do with the settings that
    keep particles whole (``"train with "``).
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


def _facts(made_by: Mapping[str, Any]) -> dict[str, RunFacts]:
    return {run: RunFacts.model_validate(facts) for run, facts in made_by.get("runs", {}).items()}


def _remarks(run: str, facts: RunFacts) -> list[str]:
    remarks = [f"{run}: {note}" for note in facts.notes]
    if facts.withheld:
        remarks.append(f"{run}: no concentration is given: {facts.withheld}.")
    elif facts.dilution not in (None, 1):
        remarks.append(f"{run}: concentrations include a dilution of {facts.dilution:g}.")
    return remarks


def volumes_imaged(particles: pd.DataFrame, made_by: Mapping[str, Any]) -> pd.Series:
    """Group -> mL of sample imaged in its runs, so that images / mL is its concentration.

    NaN where the volume of one of its runs is unknown or withheld, or a run is in several
    groups. Runs without particles are groups of their own.
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
