"""``task=ingest``: images from the simulator, a folder or an instrument into the real store."""

import hashlib
import importlib
from functools import partial
from pathlib import Path

import numpy as np

from svp_lightning.config import Config, SimulatedData
from svp_lightning.data.ingest.summary import summarise
from svp_lightning.data.settings import FlowCamSettings, FolderSettings, MfiSettings
from svp_lightning.data.store import Store
from svp_lightning.distributed import is_main_process
from svp_lightning.errors import DataError
from svp_lightning.files import sha256_of_file
from svp_lightning.report.figures.sheets import contact_sheet
from svp_lightning.report.style import save_figure
from svp_lightning.simulation.write import simulate_store
from svp_lightning.tasks.progress import counting
from svp_lightning.tasks.session import Session, say

SHEET_IMAGES = 96
UNLABELLED = -1


def run(config: Config, session: Session) -> None:
    """Build the store, print what it holds, and draw a contact sheet of each class."""
    store = ensure_store(config, session)
    if is_main_process():
        write_sheets(store, session.run_dir)
        say("\n".join([*summarise(store).lines(), f"Store:  {store.path}"]))
        say(f"Sheets: {session.run_dir}")


def ensure_store(config: Config, session: Session) -> Store:
    """The store of real (or simulated) images of this configuration, built if missing."""
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
        identity = data.identity() | {"root": fingerprint(data.root)}
        del identity["prevalence"]  # weighs the results, not the images
        make = partial(_import, data)
    return Store.open(session.artifacts.build("store", identity, make))


def fingerprint(root: Path) -> str:
    """SHA-256 over the relative names and contents of all files below ``root``.

    Raises:
        DataError: the folder does not exist.
    """
    if not root.is_dir():
        raise DataError(
            f"data.root={root} is not a folder.", "Give the folder that holds the images."
        )
    digest = hashlib.sha256()
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()}\0{sha256_of_file(file)}\n".encode())
    return digest.hexdigest()


def write_sheets(store: Store, folder: Path) -> None:
    """One contact sheet of each class, images spread over the store."""
    labels = [*range(len(store.class_names)), UNLABELLED]
    for label in labels:
        rows = store.indices(label=label)
        if len(rows):
            shown = rows[np.linspace(0, len(rows) - 1, min(len(rows), SHEET_IMAGES)).astype(int)]
            name = "unlabelled" if label == UNLABELLED else store.class_names[label]
            panels = {store.path.name: np.asarray(store.images[shown])}
            sheet = contact_sheet(panels, columns=16, title=name, pixel_size_um=store.pixel_size_um)
            save_figure(sheet, folder / f"contact_sheet_{name}.png")


def _simulate(data: SimulatedData, folder: Path) -> None:
    total = sum(sum(counts.values()) for counts in data.simulation.counts.values())
    with counting("Simulating", total) as progress:
        simulate_store(folder, data.simulation, data.image_size, data.seed, progress)


def _import(data: FolderSettings | FlowCamSettings | MfiSettings, folder: Path) -> None:
    with counting("Importing", 0) as progress:
        module = importlib.import_module(f"svp_lightning.data.ingest.{data.source}")
        getattr(module, f"ingest_{data.source}")(folder, data, progress)
