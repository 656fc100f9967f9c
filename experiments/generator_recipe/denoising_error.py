"""How well trained recipes denoise held-out real images, by noise level and kind of particle.

    python experiments/generator_recipe/denoising_error.py --recipes default default_long

Prints a table: mean squared error of the guessed clean image × 10,000 (grey levels from -1 to 1),
at noise ratios sigma / alpha. Two seeds of a recipe differ by a few percent, so this ranks
recipes that KID, with its wide intervals, cannot; it says nothing of the sampler.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from recipes import RECIPES, RECIPES_64, overrides
from score import Judge, is_large
from train import configuration

from svp_lightning.generator.checkpoint import Generator, load_generator
from svp_lightning.pipeline import Pipeline

RATIOS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
IMAGES = 150
"""Of each kind."""


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, choices=(32, 64), default=32, help="px")
    parser.add_argument("--recipes", nargs="+", default=["default"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--work", type=Path, default=Path("outputs/generator_recipe"))
    arguments = parser.parse_args()
    known = RECIPES if arguments.size == 32 else RECIPES_64
    if unknown := set(arguments.recipes) - set(known):
        parser.error(f"unknown recipes {sorted(unknown)}; there are {', '.join(known)}")
    torch.set_num_threads(1)
    place = arguments.work / f"{arguments.size}px"
    judge = Judge(place, arguments.size)
    print("| recipe | images | " + " | ".join(f"{ratio:g}" for ratio in RATIOS) + " |")
    print("|---|---|" + "---|" * len(RATIOS))
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            config = configuration(place, overrides(recipe, seed, arguments.size))
            found = Pipeline(config, place).generator
            for kind, (name, images) in kinds(judge).items():
                errors = denoising_errors(load_generator(found), name, images)
                cells = " | ".join(f"{10_000 * error:.0f}" for error in errors)
                print(f"| {recipe}, seed {seed} | {kind} | {cells} |", flush=True)


def kinds(judge: Judge) -> dict[str, tuple[str, NDArray[np.uint8]]]:
    """Kind of particle -> its class and held-out images of it."""
    air = judge.real("val", "air_bubble")
    large = is_large(air)
    return {
        "large bubbles": ("air_bubble", air[large][:IMAGES]),
        "small bubbles": ("air_bubble", air[~large][:IMAGES]),
        "droplets": ("silicone_oil", judge.real("val", "silicone_oil")[:IMAGES]),
    }


@torch.no_grad()
def denoising_errors(
    generator: Generator, class_name: str, images: NDArray[np.uint8]
) -> list[float]:
    """Mean squared error of the guessed clean images (n, H, W) at each of :data:`RATIOS`."""
    denoiser, schedule = generator.denoiser, generator.denoiser.schedule
    clean = torch.from_numpy(images.astype(np.float32) / 127.5 - 1)[:, None]
    labels = torch.full((len(clean),), generator.label_of(class_name))
    ratios = np.log(schedule.noise_ratio)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    errors = []
    for ratio in RATIOS:
        t = torch.full((len(clean),), int(np.abs(ratios - np.log(ratio)).argmin()))
        noisy = schedule.add_noise(clean, noise, t)
        guess = schedule.x_0(denoiser(noisy, t, labels), noisy, t)
        errors.append((guess - clean).square().mean().item())
    return errors


if __name__ == "__main__":
    main()
