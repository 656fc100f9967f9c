"""Small generators that build in milliseconds."""

from typing import Any

from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.settings import GeneratorSettings
from tests import configured

SIZE = 16
NUM_CLASSES = 2


def small_settings(**changes: Any) -> GeneratorSettings:
    """Settings of a network of a few thousand weights, with changes by name."""
    values = {
        "network": {"block_channels": (8, 16), "attention": (False, True), "patch": 2},
        "diffusion": {"timesteps": 100},
        "steps": 6,
        "batch_size": 4,
        "warmup_steps": 2,
        "ema_decay": 0.9,
    }
    return configured.generator(**values | changes)


def small_denoiser(**changes: Any) -> Denoiser:
    """A denoiser of two classes on 16 px, with changed settings by name."""
    return Denoiser(small_settings(**changes), SIZE, NUM_CLASSES)
