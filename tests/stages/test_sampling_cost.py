"""The configured sampler and network of every scale against the paper's, counted in operations."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from svp_lightning.config import Config
from svp_lightning.generator.denoiser import build_network
from svp_lightning.pipeline import Pipeline

TIMES_FEWER = 100


def operations_per_image(config: Config) -> float:
    """Floating-point operations that the sampler spends on one image at most."""
    with torch.device("meta"):
        network = build_network(config.generator.network, config.scale.image_size, 4)
        image = torch.empty(1, 1, config.scale.image_size, config.scale.image_size)
        number = torch.empty(1, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image, number, number)
    evaluations = 1 if config.sampler.guidance == 1 else 2
    return counter.get_total_flops() * config.sampler.steps * evaluations


@pytest.mark.parametrize("scale", ["demo", "lab", "paper"])
def test_an_image_costs_a_hundredth_of_the_papers(
    svp_pipeline: Callable[..., Pipeline], scale: str
) -> None:
    ours = svp_pipeline(f"scale={scale}").config
    paper = svp_pipeline(f"scale={scale}", "generator=paper", "sampler=ddpm").config
    assert paper.sampler.steps == 500
    ratio = operations_per_image(paper) / operations_per_image(ours)
    assert ratio >= TIMES_FEWER, f"{ratio:.0f} times"
