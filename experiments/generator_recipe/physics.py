"""Train a generator on simulated images of many microscopes, for others to start from.

    python experiments/generator_recipe/physics.py --size 64

Draws microscopes at random, of every optics, pixel, contrast, noise, size and depth but those near
the default instrument, on which everything else of this project is measured; renders droplets and
bubbles of each; trains on all of them; and links ``<work>/physics_<size>px`` to the generator.
Resumable.
"""

import argparse
from dataclasses import dataclass
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

CLASSES = ("silicone_oil", "air_bubble")
HELDOUT = 2
"""Microscopes to measure the denoising error on."""
SESSIONS = 8
"""Instrument runs of each microscope."""


@dataclass(frozen=True)
class Recipe:
    """How many microscopes, how many images of each class of each, and how to train on them."""

    microscopes: int
    images: int
    training: list[str]


COMMON = ["trainer=cpu", "generator.classes=all", "generator.initial=null"]
RECIPES = {
    64: Recipe(
        18,
        800,
        [
            *COMMON,
            "scale=demo",
            *EDM,
            "generator.steps=1350",
            "generator.batch_size=64",
            "generator.decay=constant",
            "generator.checkpoint_every=50",
        ],
    ),
    32: Recipe(
        36,
        500,
        [
            *COMMON,
            "+experiment=where_images_pay",
            "generator.steps=9600",
            "generator.batch_size=64",
            "generator.ema_decay=0.999",
            "generator.checkpoint_every=100",
        ],
    ),
}
"""By image size: 86,400 and 614,400 training images."""


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, choices=RECIPES, default=64, help="of the images, px")
    parser.add_argument("--work", type=Path, default=WORK)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe, name = RECIPES[arguments.size], f"physics_{arguments.size}px"
    store = joined_store(recipe, arguments.size, arguments.work / f"{name}_images")
    pipeline = Pipeline(configuration(arguments.work, recipe.training), arguments.work)
    settings = pipeline.config.generator
    rows = generator_rows(settings, store)
    path = build_generator(settings, rows, pipeline.cache, pipeline.trainers)
    link = arguments.work / name
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve())


def settings_of(number: int, recipe: Recipe, work: Path) -> SimulationSettings:
    """The simulator's settings of one microscope."""
    split = "train" if number < recipe.microscopes else "val"
    counts = "{" + split + ":{" + ",".join(f"{n}:{recipe.images}" for n in CLASSES) + "}}"
    config = configuration(
        work,
        [
            f"data.simulation.counts={counts}",
            f"data.simulation.sessions_per_split={{train:{SESSIONS},val:{SESSIONS},test:1}}",
            "data.simulation.workers=0",
        ],
    )
    return microscope(config.data.simulation, number)


def joined_store(recipe: Recipe, size: int, work: Path) -> Store:
    """The images of all microscopes in one store."""
    path = work / "joined"
    if (path / "manifest.json").is_file():
        return Store.open(path)
    parts = []
    for number in range(recipe.microscopes + HELDOUT):
        part = work / f"{number:02d}"
        if not (part / "manifest.json").is_file():
            say(f"Microscope {number}")
            settings = settings_of(number, recipe, work)
            simulate_store(part, settings, size, number, lambda _: None)
        parts.append(Store.open(part))
    writer = StoreWriter(path, sum(len(part) for part in parts), size)
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
