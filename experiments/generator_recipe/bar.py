"""The bar, in one run: images per second of ours over the paper's recipe, and the KID of both.

    python experiments/generator_recipe/bar.py

Trains both on the same data with as many images (18 min on one core; found again if trained),
draws from both in this process one after the other, and prints one line of JSON. 32 px, and the
paper's network at a quarter of its width: with the full one an image takes over a minute on a core,
so 64 px is for ``experiments/speed/bench_sampler.py``, which needs no training.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipes import overrides
from score import Judge, by_kind
from train_recipes import JUDGED, WORK, configuration, draw

from svp_lightning.generator.checkpoint import load_generator
from svp_lightning.pipeline import Pipeline

SIZE = 32
RATES = ("images_per_second", "images_per_processor_second")
"""Of each class; the second does not depend on what else the machine does."""
BOTH = ("small bubbles", "droplets")
"""Kinds whose KID is averaged: one of each class."""
WARM_UP = 8
"""Images that are drawn first and not counted."""


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300, help="of each class, ours")
    parser.add_argument("--paper-images", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=WORK / f"{SIZE}px")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    judge = Judge(arguments.work, SIZE)
    ours = measured(judge, "default", arguments.images, arguments.work)
    paper = measured(judge, "paper", arguments.paper_images, arguments.work)
    found = {
        **{f"ours_{name}": value for name, value in ours.items()},
        **{f"paper_{name}": value for name, value in paper.items()},
        **{f"ours_over_paper_{name}": ours[name] / paper[name] for name in RATES},
    }
    print(json.dumps({name: float(f"{value:.4g}") for name, value in found.items()}))


def measured(judge: Judge, recipe: str, count: int, work: Path) -> dict[str, Any]:
    """Speed of a recipe's generator, and KID × 1000 of what it drew, the mean over both classes."""
    config = configuration(work, overrides(recipe, 0, SIZE))
    generator, settings = load_generator(Pipeline(config, work).generator), config.sampler
    draw(generator, settings.model_copy(update={"steps": 2}), WARM_UP)
    start = time.process_time()
    images, seconds = draw(generator, settings, count)
    processor = (time.process_time() - start) / len(JUDGED)
    kinds = by_kind(images)
    kid = np.mean([judge.measures(kind, kinds[kind], judge.heldout[kind])["kid"] for kind in BOTH])
    speed = {RATES[0]: count / seconds, RATES[1]: count / processor}
    return {**speed, "kid": kid, "steps": settings.steps, "images": count}


if __name__ == "__main__":
    main()
