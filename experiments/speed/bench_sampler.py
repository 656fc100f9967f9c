"""Sampling speed of both generators side by side, as one line of JSON.

    python experiments/speed/bench_sampler.py --device cpu --threads 2

The paper's network takes 500 ancestral steps; ours takes the steps of ``--steps``. Both get the
faster of float32 and bfloat16 that the device has. Weights do not change the time, so nothing needs
to be trained. A step of the paper's sampler costs the same whichever it is: by default a few are
timed and multiplied by 500 (``paper_steps_timed`` says how many); ``--paper-steps 500`` times them
all. The first batch of either warms up and is not counted.
"""

import argparse
import json
import time
from typing import Any, Literal

import numpy as np
import torch

from svp_lightning.__main__ import configured
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.drawing import resolve_precision, sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler_settings import SamplerSettings
from svp_lightning.generator.settings import GeneratorSettings

PAPER = configured("scale=paper", "generator=paper", "sampler=ddpm")
PAPER_STEPS = 500
RATES = ("images_per_second", "images_per_processor_second")
SCALES = ("demo", "lab", "paper")


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="demo", help="size of our network")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--sampler", choices=("dpm_solver", "ddim", "ddpm"), default="dpm_solver")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=PAPER.sampler.guidance)
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--compile", action="store_true", help="fuse our network")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--paper-images", type=int, default=8, help="0: ours alone")
    parser.add_argument("--paper-steps", type=int, default=5, help="of 500 that are timed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(json.dumps(vars(arguments) | both(arguments)))


def both(arguments: argparse.Namespace) -> dict[str, Any]:
    """Images per second of ours, of the paper's, and their ratio."""
    config = configured(
        f"scale={arguments.scale}",
        f"sampler={arguments.sampler}",
        f"sampler.steps={arguments.steps}",
        f"sampler.guidance={arguments.guidance}",
        f"sampler.batch_size={arguments.batch_size}",
        f"sampler.compile={arguments.compile}",
    )
    ours = fastest(config.generator, config.sampler, arguments.images, arguments)
    if not arguments.paper_images:
        return rounded(ours)
    settings = PAPER.sampler.model_copy(update={"steps": arguments.paper_steps})
    paper = fastest(PAPER.generator, settings, arguments.paper_images, arguments)
    for name in RATES:
        paper[name] *= arguments.paper_steps / PAPER_STEPS
    ratios = {f"ours_over_paper_{name}": ours[name] / paper[name] for name in RATES}
    named = {f"paper_{name}": value for name, value in paper.items()}
    return rounded(ours | {"paper_steps_timed": arguments.paper_steps} | named | ratios)


def fastest(
    generator: GeneratorSettings,
    settings: SamplerSettings,
    images: int,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The better of what the device offers, so that neither side is held back."""
    asked: Literal["auto", "float32", "bfloat16"] = arguments.precision
    tried = ("float32", "auto") if asked == "auto" else (asked,)
    denoiser = Denoiser(generator, arguments.image_size, 3)
    measured: dict[str, dict[str, Any]] = {}
    for precision in tried:
        chosen = resolve_precision(
            settings.model_copy(update={"precision": precision}), arguments.device
        )
        if chosen.precision not in measured:
            measured[chosen.precision] = rates(denoiser, chosen, images, arguments.device)
    best = max(measured, key=lambda name: measured[name]["images_per_second"])
    parameters = sum(parameter.numel() for parameter in denoiser.parameters())
    return {"parameters": parameters, "precision": best, **measured[best]}


def rates(
    denoiser: Denoiser, settings: SamplerSettings, images: int, device: str
) -> dict[str, float]:
    """Images per second of wall time and of processor time, after one warm-up batch."""
    labels = np.arange(images) % 3
    seeds = image_seeds(0, "speed", 0, images)
    first = slice(settings.batch_size)
    warm_up = settings.model_copy(update={"steps": 2})
    sample(denoiser, labels[first], seeds[first], warm_up, device)
    wall, processor = time.perf_counter(), time.process_time()
    sample(denoiser, labels, seeds, settings, device)  # ends with a copy to the host
    spent = time.perf_counter() - wall, time.process_time() - processor
    return dict(zip(RATES, (images / seconds for seconds in spent), strict=True))


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Four digits are more than a clock can tell."""
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in values.items()}


if __name__ == "__main__":
    main()
