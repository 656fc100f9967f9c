"""A store of a few predicted particles, and what is written and said of its counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.evaluation.particle_counts import samples_of
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.reference import Judged
from svp_lightning.report.count_notes import notes
from svp_lightning.report.counts import count_table, each_sample, readable, write_counts

NAMES = ("protein", "silicone_oil")
SHARES = dict.fromkeys(NAMES, 0.5)
ECD = "equivalent circular diameter"
Volume = float | dict[str, float] | None


def store_of(
    folder: Path, groups: list[str], runs: dict[str, dict[str, Any]] | None = None, **made_by: Any
) -> Store:
    """One image per group name; sizes 1, 3, 5, … µm, the first cut by the frame."""
    n = len(groups)
    table = pd.DataFrame(
        {
            "id": [f"{group}/{k:06d}" for k, group in enumerate(groups)],
            "label": pd.Series([None] * n, dtype=object),
            "split": "",
            "group": pd.Series(groups, dtype=object),
            "origin": "real",
            "ecd_um": 1.0 + 2 * np.arange(n),
            "edge_of_frame": np.arange(n) == 0,
        }
    )
    writer = StoreWriter(folder, n, 16)
    writer.write(0, np.full((n, 16, 16), 170, np.uint8), table)
    facts = {"runs": runs} if runs else {}
    writer.finish((), 0.5, {"source": "flowcam", "size_definition": ECD, **facts, **made_by})
    return Store.open(folder)


def predicted(store: Store) -> Predictions:
    """Protein and oil in turn, the last one uncertain."""
    first = np.where(np.arange(len(store)) % 2 == 0, 0.9, 0.1).astype(np.float32)
    first[-1:] = 0.5
    ids = store.particles["id"].to_numpy(dtype=object)
    unknown = np.full(len(store), -1)
    return Predictions(ids, unknown, np.stack([first, 1 - first], axis=1), NAMES, SHARES)


def judged(found: Predictions) -> Judged:
    """Sets of what has 0.4 or more; nothing is unfamiliar."""
    held = found.probabilities >= 0.4
    return Judged(found, held, np.zeros(len(held), bool), np.ones(len(held)))


def reported(store: Store, folder: Path, volume_ml: Volume = None, blank: str = "") -> str:
    """Write the tables and give what is printed, spaces joined."""
    found, samples = judged(predicted(store)), samples_of(store, volume_ml)
    samples = [replace(one, blank=one.name == blank) for one in samples]
    counts = count_table(found, store, samples)
    write_counts(folder, store, found, counts)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(readable(store, counts, samples))
        console.print(each_sample(store, counts, samples))
    return " ".join([*capture.get().split(), *notes(store, counts, samples)])


def written(folder: Path, index: str = "run") -> pd.DataFrame:
    return pd.read_csv(folder / "counts.csv").set_index([index, "min_size_um", "class"])
