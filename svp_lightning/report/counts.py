"""What ``task=predict`` leaves: a table of all particles, and their counts, also to read."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from svp_lightning.data.classes import display_name
from svp_lightning.data.importers.window import SIZE_EDGES_UM
from svp_lightning.data.store import Store
from svp_lightning.evaluation.particle_counts import (
    ALL,
    ALL_SIZES,
    Sample,
    all_samples,
    count_particles,
    kind_of,
    particles_of,
    together,
)
from svp_lightning.evaluation.reference import Judged
from svp_lightning.runtime.files import write_csv

UNKNOWN_DEFINITION = "size"
MAX_RUNS_SHOWN = 20


def size_definition(store: Store) -> str:
    """The diameter that a store's sizes are; ``size`` where the source does not say."""
    return str(store.manifest.made_by.get("size_definition", UNKNOWN_DEFINITION))


def particle_table(judged: Judged, store: Store) -> pd.DataFrame:
    """One row per particle, as in ``predictions.csv``; what is not known is left out.

    Columns: ``id``, ``run`` or ``group``, ``predicted``, ``set`` (the classes it may be of),
    ``uncertain``, ``unfamiliar``, ``familiarity``, ``size_um`` and its ``size_definition``,
    ``edge_of_frame`` (cut by the camera's frame), and a column ``probability_<class>`` for each
    class.
    """
    particles, kind, found = store.particles, kind_of(store), judged.found
    table = pd.DataFrame({"id": found.ids})
    if kind != "image":
        table[kind] = particles["group"].to_numpy(dtype=object)
    names = np.array(found.class_names, dtype=object)
    table["predicted"] = names[judged.likeliest]
    kinds, of = np.unique(judged.sets @ (1 << np.arange(len(names))), return_inverse=True)
    sets = ["|".join(names[(kind >> np.arange(len(names)) & 1) > 0]) for kind in kinds]
    table["set"] = np.array(sets, dtype=object)[of]
    table["uncertain"] = judged.uncertain
    table["unfamiliar"] = judged.unfamiliar
    if judged.familiarity is not None:
        table["familiarity"] = judged.familiarity.round(5)
    if sized(particles):
        table["size_um"] = particles["ecd_um"].to_numpy()
        table["size_definition"] = size_definition(store)
    if "edge_of_frame" in particles and particles["edge_of_frame"].notna().any():
        table["edge_of_frame"] = particles["edge_of_frame"].to_numpy()
    for name, column in zip(found.class_names, found.probabilities.T, strict=True):
        table[f"probability_{name}"] = column.astype(np.float64).round(5)
    return table


def count_table(judged: Judged, store: Store, samples: Sequence[Sample]) -> pd.DataFrame:
    """The counts of ``counts.csv``; see :mod:`svp_lightning.evaluation.particle_counts`.

    The column ``sample`` has the name of its kind: ``run``, ``group`` or ``image``.
    """
    thresholds = SIZE_EDGES_UM if sized(store.particles) else ()
    table = count_particles(
        particles_of(store, judged),
        judged.found.class_names,
        samples,
        all_samples(store),
        thresholds,
    )
    table.insert(2, "size_definition", size_definition(store) if thresholds else "")
    return table.rename(columns={"sample": kind_of(store)})


def write_counts(folder: Path, store: Store, judged: Judged, counts: pd.DataFrame) -> None:
    """Write ``predictions.csv`` and ``counts.csv``, and copy what the import left out."""
    for name, table in (("predictions", particle_table(judged, store)), ("counts", counts)):
        write_csv(folder / f"{name}.csv", table, float_format="%.8g")
    copy_skipped(store, folder)


def copy_skipped(store: Store, folder: Path) -> None:
    """Copy the list of what an import left out, if it left out anything."""
    if (store.path / "skipped.csv").is_file():
        shutil.copyfile(store.path / "skipped.csv", folder / "skipped.csv")


def readable(store: Store, counts: pd.DataFrame, samples: Sequence[Sample]) -> Table:
    """The counts of all samples together, a block for each size; narrow enough for 80 columns."""
    name = all_samples(store)
    whole = together(samples, name)
    per_ml = not math.isnan(whole.per_particle)
    rows = counts[counts[kind_of(store)] == name]
    title = f"{_heading(store, samples)}: {rows['count'].max():,} particles"
    title += f" in the {whole.volume_ml:.4g} mL imaged" if per_ml else ""
    headings = ("count", "95 %", "share", *(("per mL", "95 %") if per_ml else ()))
    table = _table(title, ("size", "class"), headings)
    for least, of in rows.groupby("min_size_um"):
        size = "all" if least == ALL_SIZES else f"≥ {least:g} µm"
        for row in of.to_dict("records"):
            share = "" if math.isnan(row["share"]) else f"{row['share']:.1%}"
            cells = [*_count(row), share.replace("100.0%", "100%")]
            table.add_row(size, display_name(row["class"]), *cells, *_per_ml(row)[: 2 * per_ml])
            size = ""
        table.add_section()
    return table


def each_sample(store: Store, counts: pd.DataFrame, samples: Sequence[Sample]) -> Table:
    """All particles of each run (or group): count and concentration, at most 20 rows."""
    kind = kind_of(store)
    of_all = counts[(counts["min_size_um"] == ALL_SIZES) & (counts["class"] == ALL)]
    rows = of_all.set_index(kind).to_dict("index")
    table = _table(f"Each {kind}", (kind,), ("particles", "95 %", "per mL", "95 %"))
    for name in [one.name for one in samples[:MAX_RUNS_SHOWN]]:
        row = rows[name]
        table.add_row(name, *_count(row), *(("withheld", "") if row["withheld"] else _per_ml(row)))
    return table


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """Columns of words, which are folded, then of numbers, which are not; 80 columns wide."""
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.show_edge = table.pad_edge = False
    for heading in words:
        table.add_column(heading, overflow="fold", no_wrap=heading == "size")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _count(row: Mapping[Any, Any]) -> tuple[str, str]:
    """A count, and its interval rounded outwards."""
    low, high = math.floor(row["count_low"]), math.ceil(row["count_high"])
    return f"{row['count']:,}", f"{low:,}–{high:,}"


def _per_ml(row: Mapping[Any, Any]) -> tuple[str, str]:
    value, *ends = (_short(row[f"per_ml{end}"]) for end in ("", "_low", "_high"))
    return value, "–".join(ends)


def _heading(store: Store, samples: Sequence[Sample]) -> str:
    if len(samples) == 1:
        return samples[0].name.capitalize() if kind_of(store) == "image" else samples[0].name
    blanks = [one.name for one in samples if one.blank]
    heading = f"{len(samples) - len(blanks)} {kind_of(store)}s together"
    return f"{heading}, without the blank {blanks[0]}" if blanks else heading


def sized(particles: pd.DataFrame) -> bool:
    """Whether the size of any particle is known; of a blank, whether it would be."""
    return "ecd_um" in particles and (particles.empty or bool(particles["ecd_um"].notna().any()))


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
