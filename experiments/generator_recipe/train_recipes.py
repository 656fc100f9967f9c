"""Train recipes and draw the images they are judged by.

    python experiments/generator_recipe/train_recipes.py --recipes scratch physics --seeds 0 1

Each recipe becomes a folder ``<work>/<recipe>_seed<seed>`` with ``images.npz`` (class name -> uint8
images) and ``facts.json``. Finished work is skipped; a stopped training resumes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from recipes import RECIPES, overrides

from svp_lightning.config import Config, parse_config
from svp_lightning.generator.checkpoint import Generator, load_generator
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler_settings import SamplerSettings
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import cost_of
from svp_lightning.runtime.files import replacing, write_json
from svp_lightning.runtime.settings import config_folder
from svp_lightning.runtime.terminal import say

JUDGED = ("silicone_oil", "air_bubble")
"""The classes that synthetic images are drawn of."""
WORK = Path("outputs/generator_recipe")


def main() -> None:
    """Read the command line and go through the recipes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=600, help="drawn of each class")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=WORK)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            run_one(recipe, seed, arguments.images, arguments.work)


def run_one(recipe: str, seed: int, count: int, work: Path) -> None:
    """Train one recipe with one seed, draw its images, note what it cost."""
    folder = work / f"{recipe}_seed{seed}"
    if (folder / "facts.json").is_file():
        return
    say(f"{recipe}, seed {seed}")
    config = configuration(work, overrides(recipe, seed))
    path = Pipeline(config, work).generator
    generator, cost = load_generator(path), cost_of(path)
    assert cost is not None
    images, seconds = draw(generator, config.sampler, count)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "images.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **images)
    facts = {
        "steps": config.generator.steps,
        "training_images": config.generator.steps * config.generator.batch_size,
        "training_seconds": cost["wall_seconds"],
        "images_per_second": round(count / seconds, 2),
        "selection": generator.info.training["selection"],
    }
    write_json(folder / "facts.json", facts)


def draw(
    generator: Generator, settings: SamplerSettings, count: int
) -> tuple[dict[str, np.ndarray], float]:
    """``count`` images of each judged class, and the seconds they took on average per class."""
    start = time.perf_counter()
    images = {}
    for name in JUDGED:
        labels = np.full(count, generator.label_of(name))
        seeds = image_seeds(settings.seed, name, 0, count)
        images[name] = sample(generator.denoiser, labels, seeds, settings)
    return images, (time.perf_counter() - start) / len(JUDGED)


def configuration(work: Path, changes: list[str]) -> Config:
    """The typed settings of a command line."""
    from omegaconf import OmegaConf

    places = [f"paths.artifacts={work / 'artifacts'}", f"paths.outputs={work / 'outputs'}"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        composed = compose("config", overrides=[*changes, *places, "~logger", "~callbacks"])
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    values["paths"].pop("run", None)
    return parse_config({str(key): value for key, value in values.items()})


if __name__ == "__main__":
    main()
