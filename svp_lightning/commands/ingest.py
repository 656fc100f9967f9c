"""``task=ingest``: images from the simulator, a folder or an instrument into the real store."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table

from svp_lightning.data.importers.summary import MAX_GROUPS_SHOWN, IngestSummary
from svp_lightning.data.store import Store, spread
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.counts import copy_skipped, size_definition
from svp_lightning.report.figures.sheets import contact_sheet
from svp_lightning.report.style import save_figure
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import write_csv
from svp_lightning.runtime.terminal import print_table, say

SHEET_IMAGES = 96
UNLABELLED = -1


def run(pipeline: Pipeline) -> None:
    """Build the store, print what it holds, list its particles, draw a sheet of each class."""
    store, folder = pipeline.store, pipeline.run_dir
    if is_main_process():
        write_sheets(store, folder)
        _write_lists(store, folder)
        show(IngestSummary(store))
        say(f"Store:  {store.path}")
        say(f"Sheets, and all particles with their ids (particles.csv): {folder}")


def show(summary: IngestSummary) -> None:
    """Print the counts."""
    say("\n".join(summary.lines()))
    for title, rows in summary.tables().items():
        _print(title, rows)
    if (more := len(summary.groups) - MAX_GROUPS_SHOWN) > 0:
        say(f"and {more:,} more groups")


def _print(title: str, rows: pd.DataFrame) -> None:
    table = Table()
    table.add_column(str(rows.index.name), overflow="fold")
    for column in rows.columns:
        table.add_column(str(column), justify="left" if column == "split" else "right")
    for name, *cells in rows.astype(object).itertuples(name=None):
        table.add_row(str(name), *map(_cell, cells))
    say(f"\n{title}")
    print_table(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        if np.isnan(value):
            return "?"
        return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_sheets(store: Store, folder: Path) -> None:
    """One contact sheet of each class, images spread over its sizes, smallest first."""
    labels = [*range(len(store.class_names)), UNLABELLED]
    for label in labels:
        rows = store.indices(label=label)
        if len(rows):
            rows, order = _by_size(store, rows)
            name = "unlabelled" if label == UNLABELLED else store.class_names[label]
            images = np.asarray(store.images[spread(rows, SHEET_IMAGES)])
            panels, pixel_um = {f"Out of {len(rows):,}{order}": images}, store.image_pixel_um
            sheet = contact_sheet(panels, columns=16, title=name, pixel_size_um=pixel_um)
            save_figure(sheet, folder / f"contact_sheet_{name}.png")


def _by_size(store: Store, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    if "ecd_um" not in store.particles or store.particles["ecd_um"].isna().all():
        return rows, ""
    order = np.argsort(store.particles["ecd_um"].to_numpy()[rows])
    return rows[order], f", by {size_definition(store)}"


def _write_lists(store: Store, folder: Path) -> None:
    """Particles with ids, for labelling elsewhere, and what was left out."""
    write_csv(folder / "particles.csv", store.particles)
    copy_skipped(store, folder)
