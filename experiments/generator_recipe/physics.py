"""Train a generator on simulated images of many microscopes, for others to start from.

    python experiments/generator_recipe/physics.py

Draws microscopes at random, of every optics, pixel, contrast, noise, size and depth but those near
the default instrument, on which everything else of this project is measured; renders droplets and
bubbles of each; trains on all of them; and links ``<work>/physics`` to the generator. Resumable.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recipes import EDM
from train import WORK, configuration

from svp_lightning.data.store import Store, StoreWriter
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import say
from svp_lightning.simulation.session import log_uniform
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.simulated_store import simulate_store
from svp_lightning.stages.generator_training import build_generator, generator_rows

SIZE = 64
TRAINING, HELDOUT = 18, 2
"""Microscopes to train on, and to measure the denoising error on."""
ALIKE = 3
"""Microscopes of one optics, but of different pixels, cameras, sizes and depths: large bubbles take
half a minute for each optics."""
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
BLUR_UM, DEPTH_UM, SCALED_PX = 1.27, 3.43, 4.9
"""Of the default instrument: wavelength / NA, that squared over the wavelength, and the first in
pixels. Sizes and depths in these units decide how a sphere looks."""
APART = 0.15
"""Least distance from the default instrument, in the logarithm of size or of depth."""


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


def microscope(number: int) -> list[str]:
    """Overrides that make one microscope; a function of its number alone."""
    optics_rng = np.random.default_rng([21, number // ALIKE])
    na, wavelength = log_uniform(optics_rng, 0.12, 0.5), optics_rng.uniform(0.45, 0.65)
    condenser = float(np.clip(na * optics_rng.uniform(0.3, 0.55), 0.056, 0.18))
    rng = np.random.default_rng([20, number])
    while True:
        size, depth = (log_uniform(rng, 0.55, 1.7) for _ in range(2))
        blur = wavelength / na
        pixel = blur / log_uniform(rng, 3, 9)
        radius_px = 3.65 / BLUR_UM * size * blur / pixel
        apart = max(abs(math.log(size)), abs(math.log(depth))) > APART
        scales = size * blur / BLUR_UM < 3 and depth * blur**2 / wavelength / DEPTH_UM < 10
        if apart and scales and 5 < radius_px < 19 and 10 < SIZE * pixel < 110:
            break
    sensor = pixel * rng.uniform(1.0, 5.0)
    noise = rng.uniform(0.7, 2.2)
    instrument = {
        "name": f"microscope {number}",
        "field_of_view_um": SIZE * pixel,
        "camera_pixel_um": sensor,
        "background": [rng.uniform(130, 220), rng.uniform(1.3, 4)],
        "noise": [noise, noise * 1.5],
        "size_scale": size * blur / BLUR_UM,
        "depth_scale": depth * blur**2 / wavelength / DEPTH_UM,
        "min_area_um2": 50 * pixel**2,
        "min_contrast": 0.08,
    }
    optics = {
        "wavelength_um": wavelength,
        "objective_na": [0.9 * na, 1.08 * na],
        "condenser_na": [0.9 * condenser, 1.1 * condenser],
        "sensor_pixel_um": [sensor, 1.3 * sensor],
        "aberration_waves": rng.uniform(0.03, 0.1),
        "pixel_scale": [0.93, 1.07],
    }
    values = [f"data.simulation.instrument.{k}={v}" for k, v in instrument.items()]
    values += [f"data.simulation.optics.{k}={v}" for k, v in optics.items()]
    return [
        *values,
        "data.simulation.large_bubble_share=0.45",
        f"data.simulation.difficulty={rng.uniform(0, 0.5)}",
        "data.simulation.air_indices=[1.0]",
        "data.simulation.air_halo_gain=[1.0,1.2]",
    ]


def settings_of(number: int, work: Path) -> SimulationSettings:
    """The simulator's settings of one microscope."""
    split = "train" if number < TRAINING else "val"
    counts = "{" + split + ":{" + ",".join(f"{n}:{IMAGES}" for n in CLASSES) + "}}"
    config = configuration(
        work,
        [
            *microscope(number),
            f"data.simulation.counts={counts}",
            f"data.simulation.sessions_per_split={{train:{SESSIONS},val:{SESSIONS},test:1}}",
            "data.simulation.workers=0",
        ],
    )
    return config.data.simulation


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
