"""``task=ingest``: images from the simulator, a folder or an instrument into the real store."""

import hashlib
import importlib
import shutil
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from svp_lightning.config import Config, SimulatedData
from svp_lightning.data.classes import display_name
from svp_lightning.data.importers.summary import MAX_GROUPS_SHOWN, IngestSummary, summarise
from svp_lightning.data.importers.writer import write_plan
from svp_lightning.data.mix import limit_rare
from svp_lightning.data.settings import FolderSettings, RunSettings
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError
from svp_lightning.report.figures.sheets import contact_sheet
from svp_lightning.report.style import save_figure
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import files_below, replacing, sha256_of_file
from svp_lightning.simulation.simulated_store import simulate_store
from svp_lightning.tasks.progress import counting
from svp_lightning.tasks.session import Session, say
from svp_lightning.tasks.training import duration

SHEET_IMAGES = 96
UNLABELLED = -1
WORTH_SAYING_SECONDS = 60
IMPORT_VERSION = 3
"""Raised when the same files and settings come to give another store of real images; the
version of the stage would simulate anew, too."""


def run(config: Config, session: Session) -> None:
    """Build the store, print what it holds, list its particles, draw a sheet of each class."""
    store = ensure_store(config, session)
    if is_main_process():
        write_sheets(store, session.run_dir)
        _write_lists(store, session.run_dir)
        show(summarise(store))
        say(f"Store:  {store.path}")
        say(f"Sheets, and all particles with their ids (particles.csv): {session.run_dir}")


def show(summary: IngestSummary) -> None:
    """Print the counts."""
    console = Console()
    # A file or pipe has no width of its own; a table cut to 80 columns helps nobody there.
    console = console if console.is_terminal else Console(width=160)
    say("\n".join(summary.lines()))
    classes = summary.classes
    if len(classes) > 1:
        classes = pd.concat([classes, classes.sum().to_frame("all").T])
    console.print(_table("Classes", "class", classes, display_name))
    if len(summary.groups):
        shown = summary.groups.head(MAX_GROUPS_SHOWN)
        console.print(_table("Groups (a split never divides one)", "group", shown, str))
        if len(shown) < len(summary.groups):
            say(f"and {len(summary.groups) - len(shown):,} more groups")


def _table(title: str, index: str, rows: pd.DataFrame, named: Callable[[str], str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(index, overflow="fold")
    for column in rows.columns:
        table.add_column(str(column), justify="left" if column == "split" else "right")
    for name, *cells in rows.astype(object).itertuples(name=None):
        table.add_row(named(str(name)), *map(_cell, cells))
    return table


def _cell(value: object) -> str:
    if isinstance(value, float):
        if np.isnan(value):
            return "?"
        return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def ensure_store(config: Config, session: Session) -> Store:
    """The store of real (or simulated) images of this configuration, built if missing.

    Where ``data.rare_images`` limits the rare classes, it is a view of the same store.
    """
    data = config.data
    if isinstance(data, SimulatedData):
        identity = {
            "source": data.source,
            "image_size": data.image_size,
            "seed": data.seed,
            "simulation": data.simulation.identity(),
        }
        make = partial(_simulate, data)
    else:
        # The files decide, not the folder's place: a moved folder is the same data.
        own = (config.paths.artifacts, config.paths.outputs)
        identity = data.identity() | {"root": fingerprint(data.root, own)}
        for name in ("prevalence", "rare_images", "rare_seed", "volume_ml"):
            identity.pop(name, None)  # how the images are used, not which there are
        identity |= _hashes_of_tables(data) | {"import": IMPORT_VERSION}
        make = partial(_import, data, own)
    store = Store.open(session.artifacts.build("store", identity, make))
    return (
        store if data.rare_images is None else limit_rare(store, data.rare_images, data.rare_seed)
    )


def fingerprint(root: Path, left_out: Collection[Path] = ()) -> str:
    """SHA-256 over the relative names and contents of all files below ``root``, links followed.

    Args:
        root: a folder, or one file.
        left_out: folders below it that are none of the user's data.

    Raises:
        DataError: neither a folder nor a file is there, or the folder holds no file.
    """
    if root.is_file():
        return sha256_of_file(root)
    if not root.is_dir():
        raise DataError(
            f"data.root={root} is not a folder.", "Give the folder that holds the images."
        )
    names = []
    for file in files_below(root, left_out, hidden=True):  # a table may name them
        content = sha256_of_file(file) if file.is_file() else "no file"  # a link to nothing
        names.append(f"{file.relative_to(root).as_posix()}\0{content}\n")
    if not names:
        raise DataError(
            f"data.root={root} holds no files.", "Give the folder that holds the images."
        )
    return hashlib.sha256("".join(names).encode()).hexdigest()


def _hashes_of_tables(data: FolderSettings | RunSettings) -> dict[str, str]:
    """A table may lie outside of the root, where the fingerprint does not see it change."""
    folder = data.root if data.root.is_dir() else data.root.parent
    tables = {"labels": data.labels, "table": getattr(data, "table", None)}
    given = {name: folder / table for name, table in tables.items() if table is not None}
    return {name: sha256_of_file(file) for name, file in given.items() if file.is_file()}


def write_sheets(store: Store, folder: Path) -> None:
    """One contact sheet of each class, images spread over its sizes, smallest first."""
    labels = [*range(len(store.class_names)), UNLABELLED]
    for label in labels:
        rows = store.indices(label=label)
        if len(rows):
            rows, order = _by_size(store, rows)
            shown = rows[np.linspace(0, len(rows) - 1, min(len(rows), SHEET_IMAGES)).astype(int)]
            name = "unlabelled" if label == UNLABELLED else store.class_names[label]
            panels = {
                f"Out of {len(rows):,}{order}": np.stack([store.images[row] for row in shown])
            }
            sheet = contact_sheet(panels, columns=16, title=name, pixel_size_um=store.pixel_size_um)
            save_figure(sheet, folder / f"contact_sheet_{name}.png")


def _by_size(store: Store, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    if "ecd_um" not in store.particles or store.particles["ecd_um"].isna().all():
        return rows, ""
    return rows[np.argsort(store.particles["ecd_um"].to_numpy()[rows])], ", by size"


def _write_lists(store: Store, folder: Path) -> None:
    """Particles with ids, for labelling elsewhere, and what was left out."""
    with replacing(folder / "particles.csv") as temporary:
        store.particles.to_csv(temporary, index=False)
    if (store.path / "skipped.csv").is_file():
        shutil.copyfile(store.path / "skipped.csv", folder / "skipped.csv")


def _simulate(data: SimulatedData, folder: Path) -> None:
    total = sum(sum(counts.values()) for counts in data.simulation.counts.values())
    with counting("Simulating", total) as progress:
        simulate_store(
            folder, data.simulation, data.image_size, data.seed, progress, announce_simulation
        )


def announce_simulation(seconds: float) -> None:
    """Say how long a simulation will take, where that is worth saying."""
    if seconds > WORTH_SAYING_SECONDS:
        say(f"  Simulating takes about {duration(seconds)}; it can be stopped and goes on later.")


def _import(data: FolderSettings | RunSettings, own: Collection[Path], folder: Path) -> None:
    with counting("Importing", 0) as progress:
        module = importlib.import_module(f"svp_lightning.data.importers.{data.source}")
        plan = getattr(module, f"plan_{data.source}")(data, own)
        write_plan(folder, plan, data.num_threads, progress)
