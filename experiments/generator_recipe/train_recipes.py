"""Train recipes and draw the images they are judged by.

    python experiments/generator_recipe/train_recipes.py --recipes scratch physics --seeds 0 1

Each recipe becomes a folder ``<work>/<recipe>_seed<seed>`` with ``images.npz`` (class name -> uint8
images) and ``facts.json``. Finished work is skipped; a stopped training resumes.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from recipes import AUTOGUIDED, RECIPES, overrides
from torch import Tensor, nn

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


class Guided(nn.Module):
    """A trained network, and away from an earlier state of it; in place of a network."""

    def __init__(
        self, trained: Any, early: nn.Module, ratio: list[float], weight: float, interval: Any
    ) -> None:
        super().__init__()
        self.trained, self.early, self.config = trained, early, trained.config
        self.ratio, self.weight, (self.low, self.high) = ratio, weight, interval

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self.trained.dtype
        return dtype

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """(B, 1, H, W), (B,) of one time step, (B,) -> (B, 1, H, W)."""
        strong: Tensor = self.trained(x_t, t, labels).float()
        if self.weight == 1 or not self.low <= self.ratio[int(t[0])] <= self.high:
            return strong
        weak: Tensor = self.early(x_t, t, labels)
        return weak + self.weight * (strong - weak)


def main() -> None:
    """Read the command line and go through the recipes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=1200, help="drawn of each class")
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
    if recipe in AUTOGUIDED:
        guide(generator, *AUTOGUIDED[recipe], seed, work)
    images, seconds = draw(generator, config.sampler, count)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "images.npz") as temporary, temporary.open("wb") as file:
        save: Callable[..., None] = np.savez_compressed
        save(file, **images)
    facts = {
        "steps": config.generator.steps,
        "training_images": config.generator.steps * config.generator.batch_size,
        "training_seconds": cost["cpu_seconds"],
        "images_per_second": round(count / seconds, 2),
        "selection": generator.info.training["selection"],
    }
    write_json(folder / "facts.json", facts)


def guide(
    generator: Generator,
    early: str,
    weight: float,
    interval: tuple[float, float],
    seed: int,
    work: Path,
) -> None:
    """Draw away from the generator of the recipe ``early``."""
    weaker = load_generator(Pipeline(configuration(work, overrides(early, seed)), work).generator)
    denoiser = generator.denoiser
    networks = denoiser.network, weaker.denoiser.network
    denoiser.network = Guided(*networks, denoiser.schedule.noise_ratio, weight, interval)


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
