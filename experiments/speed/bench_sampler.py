"""Sampling speed of an untrained generator, as one line of JSON.

    python experiments/speed/bench_sampler.py --device cpu --threads 2 --images 128

Weights do not change the time, so nothing needs to be trained. The first batch warms up and
is not counted.
"""

import argparse
import json
import time

import numpy as np
import torch

from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler import sample
from svp_lightning.generator.settings import GeneratorSettings, NetworkSettings, SamplerSettings

PAPER = NetworkSettings(
    kind="paper", block_channels=(64, 128, 256, 512), layers_per_block=2, patch=1
)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=("unet", "paper"), default="unet")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--sampler", choices=("dpm_solver", "ddim", "ddpm"), default="dpm_solver")
    parser.add_argument("--steps", type=int, default=SamplerSettings().steps)
    parser.add_argument("--guidance", type=float, default=SamplerSettings().guidance)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = SamplerSettings(
        name=arguments.sampler,
        steps=arguments.steps,
        guidance=arguments.guidance,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
    )
    network = PAPER if arguments.network == "paper" else GeneratorSettings().network
    denoiser = Denoiser(network, GeneratorSettings().diffusion, arguments.image_size, 3)
    print(json.dumps(vars(arguments) | measure(denoiser, settings, arguments)))


def measure(
    denoiser: Denoiser, settings: SamplerSettings, arguments: argparse.Namespace
) -> dict[str, float]:
    """Images per second of wall time and of processor time, after one warm-up batch."""
    labels = np.arange(arguments.images) % 3
    seeds = image_seeds(0, "speed", 0, arguments.images)
    first = slice(settings.batch_size)
    sample(denoiser, labels[first], seeds[first], settings, arguments.device)
    wall, processor = time.perf_counter(), time.process_time()
    sample(denoiser, labels, seeds, settings, arguments.device)  # ends with a copy to the host
    return {
        "parameters": sum(parameter.numel() for parameter in denoiser.parameters()),
        "images_per_second": round(arguments.images / (time.perf_counter() - wall), 2),
        "images_per_processor_second": round(
            arguments.images / (time.process_time() - processor), 2
        ),
    }


if __name__ == "__main__":
    main()
