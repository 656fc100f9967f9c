"""Train a generator on simulated images of many microscopes, for others to start from.

    python experiments/generator_recipe/physics.py

Draws microscopes at random, of every optics, pixel, contrast, noise, size and depth but those near
the default instrument, on which everything else of this project is measured; renders droplets and
bubbles of each; trains on all of them; and links ``<work>/physics`` to the generator. Resumable.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recipes import EDM
from train import WORK, configuration

from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import say
from svp_lightning.simulation.microscopes import microscope
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.simulated_store import simulate_store
from svp_lightning.stages.generator_training import build_generator, generator_rows

SIZE = 64
TRAINING, HELDOUT = 18, 2
"""Microscopes to train on, and to measure the denoising error on."""
IMAGES, SESSIONS = 800, 8
"""Of each class and microscope."""
CLASSES = ("silicone_oil", "air_bubble")
RECIPE = [
    "trainer=cpu",
    "scale=demo",
    "generator.classes=all",
    "generator.initial=null",
    *EDM,
    "generator.steps=1350",
    "generator.batch_size=64",
    "generator.decay=constant",
    "generator.checkpoint_every=50",
]
"""86,400 training images."""


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = joined_store(arguments.work)
    pipeline = Pipeline(configuration(arguments.work, RECIPE), arguments.work)
    settings = pipeline.config.generator
    rows = generator_rows(settings, store)
    path = build_generator(settings, rows, pipeline.cache, pipeline.trainers)
    link = arguments.work / "physics"
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve())


def settings_of(number: int, work: Path) -> SimulationSettings:
    """The simulator's settings of one microscope."""
    split = "train" if number < TRAINING else "val"
    counts = "{" + split + ":{" + ",".join(f"{n}:{IMAGES}" for n in CLASSES) + "}}"
    config = configuration(
        work,
        [
            f"data.simulation.counts={counts}",
            f"data.simulation.sessions_per_split={{train:{SESSIONS},val:{SESSIONS},test:1}}",
            "data.simulation.workers=0",
        ],
    )
    return microscope(config.data.simulation, number)


def joined_store(work: Path) -> Store:
    """The images of all microscopes in one store."""
    path = work / "physics_store"
    if (path / "manifest.json").is_file():
        return Store.open(path)
    parts = []
    for number in range(TRAINING + HELDOUT):
        part = work / "physics_parts" / f"{number:02d}"
        if not (part / "manifest.json").is_file():
            say(f"Microscope {number}")
            simulate_store(part, settings_of(number, work), SIZE, number, lambda _: None)
        parts.append(Store.open(part))
    writer = StoreWriter(path, sum(len(part) for part in parts), SIZE)
    start = 0
    for number, part in enumerate(parts):
        table = part.particles.assign(id=lambda t, n=number: f"{n:02d}-" + t["id"])
        writer.write(start, np.asarray(part.images), pd.DataFrame(table))
        start += len(part)
    writer.finish(
        class_names=parts[0].class_names, pixel_size_um=None, made_by={"task": "simulate"}
    )
    return Store.open(path)


if __name__ == "__main__":
    main()
