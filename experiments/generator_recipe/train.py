"""Train recipes and draw the images they are judged by.

    python experiments/generator_recipe/train.py --recipes base v flow --seeds 0 1

Each recipe becomes a folder ``<work>/runs/<recipe>_seed<seed>`` with ``images.npz`` (class name ->
uint8 images) and ``facts.json``. Finished work is skipped; a stopped training
resumes.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from recipes import RECIPES, RECIPES_64, overrides

from svp_lightning.__main__ import configured
from svp_lightning.config import Config, parse_config
from svp_lightning.data.store import Store
from svp_lightning.generator.checkpoint import Generator, load_generator
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import cost_of
from svp_lightning.runtime.files import replacing, write_json
from svp_lightning.runtime.settings import config_folder
from svp_lightning.runtime.terminal import say

JUDGED = ("silicone_oil", "air_bubble")
"""The classes that synthetic images are drawn of."""
OURS = configured("sampler=dpm_solver", "sampler.steps=20").sampler
PAPERS = configured("sampler=ddpm", "sampler.steps=500").sampler


def main() -> None:
    """Read the command line and go through the recipes."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            run_one(recipe, seed, arguments)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, choices=(32, 64), default=32, help="px")
    parser.add_argument("--recipes", nargs="+", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=300, help="drawn of each class")
    parser.add_argument("--paper-images", type=int, default=50, help="the same with 500 steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("outputs/generator_recipe"))
    arguments = parser.parse_args()
    known = RECIPES if arguments.size == 32 else RECIPES_64
    arguments.recipes = arguments.recipes or list(known)
    if unknown := set(arguments.recipes) - set(known):
        parser.error(f"unknown recipes {sorted(unknown)}; there are {', '.join(known)}")
    arguments.work = arguments.work / f"{arguments.size}px"
    return arguments


def run_one(recipe: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train one recipe with one seed, draw its images, note the times."""
    folder = arguments.work / "runs" / f"{recipe}_seed{seed}"
    if (folder / "facts.json").is_file():
        return
    say(f"{recipe}, seed {seed}")
    config = configuration(arguments.work, overrides(recipe, seed, arguments.size))
    pipeline = Pipeline(config, config.paths.outputs)
    path = pipeline.generator
    generator = load_generator(path)
    paper = config.generator.network.kind == "paper"
    settings, count = (PAPERS, arguments.paper_images) if paper else (OURS, arguments.images)
    folder.mkdir(parents=True, exist_ok=True)
    images, seconds = draw(generator, settings, count)
    with replacing(folder / "images.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **images)
    write_json(
        folder / "facts.json", facts(config, pipeline.store, path, settings, count / seconds)
    )


def draw(
    generator: Generator, settings: SamplerSettings, count: int, seed: int = 0
) -> tuple[dict[str, np.ndarray], float]:
    """``count`` images of each judged class, and the seconds they took on average per class."""
    start = time.perf_counter()
    images = {}
    for name in JUDGED:
        labels = np.full(count, generator.label_of(name))
        seeds = image_seeds(seed, name, 0, count)
        images[name] = sample(generator.denoiser, labels, seeds, settings)
    return images, (time.perf_counter() - start) / len(JUDGED)


def facts(
    config: Config, store: Store, path: Path, settings: SamplerSettings, speed: float
) -> dict[str, Any]:
    """What a run is and what it cost."""
    generator, cost = load_generator(path), cost_of(path)
    assert cost is not None
    weights = sum(parameter.numel() for parameter in generator.denoiser.parameters())
    return {
        "generator": config.generator.identity(),
        "sampler": settings.identity(),
        "data": store.sha256,
        "weights": weights,
        "training_images": config.generator.steps * config.generator.batch_size,
        "training_seconds": cost["wall_seconds"],
        "images_per_second": round(speed, 3),
    }


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


def load_facts(work: Path) -> dict[str, dict[str, Any]]:
    """Run name -> facts of every finished run."""
    files = sorted((work / "runs").glob("*/facts.json"))
    return {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


if __name__ == "__main__":
    main()
