"""Train a classifier on simulated images of many other microscopes, to start others from.

    python experiments/where_images_pay/start.py --to outputs/start

Renders protein, droplets and bubbles of 36 microscopes at random, none of them near the default
instrument, and trains a classifier on all of them. ``<to>/classifier/best.ckpt`` is for
``classifier.pretrained_weights``. Resumable.
"""

import argparse
from pathlib import Path

import torch

from svp_lightning.__main__ import configured
from svp_lightning.config import Config
from svp_lightning.data.mix import mix
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import say
from svp_lightning.simulation.microscopes import microscope
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.simulated_store import simulate_instruments
from svp_lightning.stages.classifier_training import build_classifier

SPLITS = {"train": range(36), "val": range(36, 37), "test": range(37, 38)}
"""Numbers of the microscopes; validation and test are there because a training asks for them."""
IMAGES = {"protein": 1000, "silicone_oil": 500, "air_bubble": 500}
"""Of each microscope."""
SESSIONS = 8
"""Instrument runs of each microscope."""
RECIPE = [
    "trainer=cpu",
    "+experiment=where_images_pay",
    "classifier=resnet18_half",
    "classifier.steps=2000",
    "augmentation.sampling={protein:2,silicone_oil:1,air_bubble:1}",
]


def main() -> None:
    """Render, train, link."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True)
    to = parser.parse_args().to
    torch.set_num_threads(1)
    usual = configuration(to, RECIPE)
    microscopes = {
        f"{n:02d}": settings_of(usual, n, s) for s, numbers in SPLITS.items() for n in numbers
    }
    size = usual.data.image_size
    store = simulate_instruments(to / "store", microscopes, size, lambda n: say(f"Microscope {n}"))
    pipeline = Pipeline(usual, to)
    even = dict.fromkeys(store.class_names, 1.0)
    rows = mix(store, None, usual.augmentation, seed=0)
    path = build_classifier(
        usual.classifier, usual.augmentation, 0, rows, even, pipeline.cache, pipeline.trainers
    )
    link = to / "classifier"
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve())
    say(f"Start: {link}")


def settings_of(usual: Config, number: int, split: str) -> SimulationSettings:
    """The simulator's settings of one microscope, whose images are all of one split."""
    values = microscope(usual.data.simulation, number).model_dump()
    values |= {"counts": {split: IMAGES}, "workers": 0}
    values["sessions_per_split"] = dict.fromkeys(SPLITS, SESSIONS)
    return SimulationSettings.parse(values, "data.simulation")


def configuration(work: Path, changes: list[str]) -> Config:
    """The typed settings of a command line."""
    places = (f"paths.artifacts={work / 'artifacts'}", f"paths.outputs={work / 'outputs'}")
    return configured(*changes, *places)


if __name__ == "__main__":
    main()
