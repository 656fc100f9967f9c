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

import torch
from recipes import overrides
from score import Judge
from train import JUDGED, PAPERS, configuration, draw

from svp_lightning.__main__ import configured
from svp_lightning.generator.checkpoint import load_generator
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.pipeline import Pipeline

SIZE = 32
RATES = ("images_per_second", "images_per_processor_second")
"""Of each class; the second does not depend on what else the machine does."""
WARM_UP = 8
"""Images that are drawn first and not counted."""


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", default="default", help="recipe")
    parser.add_argument("--paper", default="paper", help="recipe")
    parser.add_argument("--steps", type=int, default=12, help="of ours")
    parser.add_argument("--images", type=int, default=300, help="of each class, ours")
    parser.add_argument("--paper-images", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("outputs/generator_recipe"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    judge = Judge(arguments.work / f"{SIZE}px", SIZE)
    settings = configured("sampler=dpm_solver", f"sampler.steps={arguments.steps}").sampler
    ours = measured(judge, arguments.ours, settings, arguments.images, arguments.work)
    paper = measured(judge, arguments.paper, PAPERS, arguments.paper_images, arguments.work)
    found = {
        **{f"ours_{name}": value for name, value in ours.items()},
        **{f"paper_{name}": value for name, value in paper.items()},
        **{f"ours_over_paper_{name}": ours[name] / paper[name] for name in RATES},
    }
    print(json.dumps({name: float(f"{value:.4g}") for name, value in found.items()}))


def measured(
    judge: Judge, recipe: str, settings: SamplerSettings, count: int, work: Path
) -> dict[str, Any]:
    """Speed of a recipe's generator, and KID × 1000 of what it drew with the half-width."""
    place = work / f"{SIZE}px"
    config = configuration(place, overrides(recipe, 0, SIZE))
    generator = load_generator(Pipeline(config, place).generator)
    draw(generator, settings.model_copy(update={"steps": 2}), WARM_UP)
    start = time.process_time()
    images, seconds = draw(generator, settings, count)
    processor = (time.process_time() - start) / len(JUDGED)
    distances = judge.distances(images)
    kept = {name: distances[name] for name in ("kid", "kid_half")}
    speed = {RATES[0]: count / seconds, RATES[1]: count / processor}
    return {**speed, **kept, "steps": settings.steps, "images": count}


if __name__ == "__main__":
    main()
