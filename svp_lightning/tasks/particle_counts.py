"""What ``task=predict`` writes and prints: predictions to read, counts, and what was left out."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from svp_lightning.data.classes import display_name
from svp_lightning.data.importers.summary import (
    particles_lost,
    summarise,
    volumes_imaged,
)
from svp_lightning.data.importers.window import SIZE_EDGES_UM
from svp_lightning.data.store import Store
from svp_lightning.evaluation.counting import UNCERTAIN, count_table, tally_classes
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.size_counts import ALL_CLASSES, ALL_SIZES, size_table
from svp_lightning.runtime.files import replacing
from svp_lightning.tasks.session import say


def report_counts(found: Predictions, store: Store, uncertain_below: float, folder: Path) -> None:
    """Write ``predictions.csv``, ``counts.csv`` and ``counts_by_run.csv``; print the counts.

    ``skipped.csv`` is copied beside them, and said, where particles were left out: no
    concentration is given then.

    Args:
        found: the predictions, in the order of the store.
        store: the images.
        uncertain_below: images whose largest probability is lower count as uncertain only.
        folder: of the run.
    """
    counts = count_table(tally_classes(found.probabilities, uncertain_below), found.class_names)
    readable = _readable(found, store, uncertain_below)
    by_run = _by_run(readable, store, [*found.class_names, UNCERTAIN])
    _write_csv(folder / "predictions.csv", readable)
    _write_csv(folder / "counts.csv", counts)
    _write_csv(folder / "counts_by_run.csv", by_run)
    _print(counts, by_run, uncertain_below)
    _say_left_out(store, folder)


def _readable(found: Predictions, store: Store, uncertain_below: float) -> pd.DataFrame:
    names = np.array(found.class_names, dtype=object)
    table = pd.DataFrame(
        {
            "id": found.ids,
            "predicted": names[found.probabilities.argmax(axis=1)],
            "uncertain": found.probabilities.max(axis=1) < uncertain_below,
        }
    )
    run = store.particles["group"].to_numpy(dtype=object)
    if len(set(run)) < len(run):  # else each image is a group of its own
        table["run"] = run
    if "ecd_um" in store.particles:
        table["ecd_um"] = store.particles["ecd_um"].to_numpy()
    for name, column in zip(found.class_names, found.probabilities.T, strict=True):
        table[f"probability_{name}"] = column.round(5)
    return table


def _by_run(readable: pd.DataFrame, store: Store, names: list[str]) -> pd.DataFrame:
    """Counts of each run; of all together where there are none."""
    counted = pd.DataFrame(
        {
            "run": readable.get("run", ALL_CLASSES),
            "class": readable["predicted"].mask(readable["uncertain"], UNCERTAIN),
            "ecd_um": readable.get("ecd_um", np.nan),
        }
    )
    sized = counted["ecd_um"].notna().any()
    made_by = store.manifest.made_by
    volumes = volumes_imaged(store.particles, made_by)
    if particles_lost(made_by):
        volumes = volumes[:0]
    return size_table(counted, names, SIZE_EDGES_UM if sized else (), volumes)


def _say_left_out(store: Store, folder: Path) -> None:
    lines = [line for line in summarise(store).lines() if line.startswith("Left out")]
    if not lines:
        return
    if (store.path / "skipped.csv").is_file():
        shutil.copyfile(store.path / "skipped.csv", folder / "skipped.csv")
    say("\n".join([*lines, "All that was left out is listed in skipped.csv."]))
    if particles_lost(store.manifest.made_by):
        say("Warning: the counts lack these particles, so no concentration is given.")


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def _print(counts: pd.DataFrame, by_run: pd.DataFrame, uncertain_below: float) -> None:
    """All runs together; the file has each for itself."""
    table = Table(title=f"Particles by class (uncertain: below {uncertain_below})")
    sums = by_run.groupby(["min_ecd_um", "class"])["count"].sum()
    sizes = [least for least in by_run["min_ecd_um"].unique() if least != ALL_SIZES]
    volume = _total_volume(by_run)
    headings = ["class", "count", "95 % interval", "share", *(f"≥ {um:g} µm" for um in sizes)]
    headings += ["per mL", "95 % interval"] if volume else []
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for row in counts.to_dict("records"):
        name, low, high = str(row["class"]), row["count_low"], row["count_high"]
        cells = [display_name(name), f"{row['count']:,}", f"{low:,.1f} to {high:,.1f}"]
        cells += [f"{row['share']:.1%}", *(f"{sums[um, name]:,}" for um in sizes)]
        if volume:
            here, least, most = (_per_ml(n / volume) for n in (row["count"], low, high))
            cells += [here, f"{least} to {most}"]
        table.add_row(*cells)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    runs = by_run["run"].nunique()
    if runs > 1:
        say(f"All {runs} runs together; each for itself is in counts_by_run.csv.")


def _per_ml(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _total_volume(by_run: pd.DataFrame) -> float | None:
    """ML of all runs together, if it is known of each."""
    if "ml_imaged" not in by_run:
        return None
    each = by_run[by_run["class"] == ALL_CLASSES].groupby("run")["ml_imaged"].first()
    total = float(each.sum(skipna=False))
    return total if total > 0 else None
