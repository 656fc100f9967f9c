"""What decides the results of a run, the contents of its input files included; free of torch."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from svp_lightning.config import Config, SimulatedData
from svp_lightning.runtime.files import remembered

MEMORY = "fingerprints"
"""Folder of remembered hashes, below ``paths.artifacts``."""
TABLES = ("table", "labels")
"""Settings of ``data`` that name a file, which may lie outside of the root."""
WITH_RESULTS = ("evaluate", "assess", "predict")
"""Tasks whose run folders hold results of the data."""


def run_identity(config: Config) -> dict[str, Any]:
    """As :meth:`Config.identity`, where the images and tables count and not their place.

    Raises:
        DataError: ``data.root`` is not there.
    """
    identity = config.identity()
    data = config.data
    if config.task not in WITH_RESULTS or isinstance(data, SimulatedData):
        return identity
    memory = config.paths.artifacts / MEMORY
    # Results written into the folder of the images make no other run of it.
    own = (config.paths.artifacts, config.paths.outputs)
    hashes = {"root": remembered(data.root, partial(_read, left_out=own), memory, own)}
    folder = data.root if data.root.is_dir() else data.root.parent
    for name in TABLES:
        table = getattr(data, name, None)
        if table is not None and (folder / table).is_file():  # else the importer says so
            hashes[name] = remembered(folder / table, _read, memory)
    return identity | {"data": identity["data"] | hashes}


def _read(place: Path, left_out: Collection[Path] = ()) -> str:
    # Imported late: it takes seconds, which a finished run need not wait for.
    from svp_lightning.tasks.ingest import fingerprint

    return fingerprint(place, left_out)
