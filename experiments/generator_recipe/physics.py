"""Train the generator that comes with the package, on simulated images of many microscopes.

    cd experiments/generator_recipe
    python physics.py --to ../../svp_lightning/pretrained/physics_32px

Draws microscopes at random, of every optics, pixel, contrast, noise, size and depth but those near
the default instrument, on which everything else of this project is measured; renders droplets and
bubbles of each; trains on all of them; and writes the weights as ``generator.initial=physics``
reads them, in half precision. Resumable.
"""

import argparse
from pathlib import Path

import torch
from train_recipes import WORK, configuration

from svp_lightning.generator.checkpoint import load_generator, save_generator
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import counting, say
from svp_lightning.simulation.microscopes import microscope
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.simulated_store import simulate_instruments
from svp_lightning.stages.generator_training import build_generator, generator_rows
from svp_lightning.stages.settings import SimulatedData

CLASSES = ("silicone_oil", "air_bubble")
SIZE = 32
HELDOUT = (36, 37)
"""Microscopes to measure the denoising error on."""
IMAGES = 500
"""Of each class and microscope."""
TRAINING = [
    "trainer=cpu",
    "+experiment=where_images_pay",
    "generator.classes=all",
    "generator.initial=null",
    "generator.diffusion.prediction=filtered",
    "generator.steps=9600",
    "generator.batch_size=64",
    "generator.ema_decay=0.999",
    "generator.checkpoint_every=100",
]
"""614,400 training images."""


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--microscopes", type=int, default=38, help="those held out included")
    parser.add_argument("--sessions", type=int, default=8, help="instrument runs of each")
    parser.add_argument("changes", nargs="*", help="overrides, such as generator.steps=1600")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    count, sessions = arguments.microscopes, arguments.sessions
    microscopes = {f"{n:02d}": settings_of(n, sessions, arguments.work) for n in range(count)}
    place = arguments.work / f"physics_{SIZE}px_images_{count}_{sessions}"
    total = sum(settings.num_images for settings in microscopes.values())
    with counting("Simulating", total) as progress:
        store = simulate_instruments(place, microscopes, SIZE, progress=progress)
    pipeline = Pipeline(configuration(arguments.work, TRAINING + arguments.changes), arguments.work)
    settings = pipeline.config.generator
    rows = generator_rows(settings, store)
    trained = load_generator(build_generator(settings, rows, pipeline.cache, pipeline.trainers))
    arguments.to.mkdir(parents=True, exist_ok=True)
    save_generator(arguments.to, trained.denoiser, trained.info, torch.float16)
    say(f"Generator: {arguments.to}")


def settings_of(number: int, sessions: int, work: Path) -> SimulationSettings:
    """The simulator's settings of one microscope."""
    split = "val" if number in HELDOUT else "train"
    counts = "{" + split + ":{" + ",".join(f"{n}:{IMAGES}" for n in CLASSES) + "}}"
    data = configuration(
        work,
        [
            f"data.simulation.counts={counts}",
            f"data.simulation.sessions_per_split={{train:{sessions},val:{sessions},test:1}}",
            "data.simulation.workers=0",
        ],
    ).data
    assert isinstance(data, SimulatedData)
    return microscope(data.simulation, number)


if __name__ == "__main__":
    main()
