"""Small generators that build in milliseconds."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.settings import GeneratorSettings
from tests import configured

SIZE = 16
NUM_CLASSES = 2

MakeSettings = Callable[..., GeneratorSettings]
MakeDenoiser = Callable[..., Denoiser]


@pytest.fixture(autouse=True)
def _seeded_on_one_thread() -> Iterator[None]:
    """Threads would only wait for each other on tensors this small."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_settings() -> MakeSettings:
    """Settings of a network of a few thousand weights, with changes by name."""

    def make(**changes: Any) -> GeneratorSettings:
        values = {
            "network": {"block_channels": (8, 16), "attention": (False, True), "patch": 2},
            "diffusion": {"timesteps": 100},
            "steps": 6,
            "batch_size": 4,
            "warmup_steps": 2,
            "ema_decay": 0.9,
        }
        return configured.generator(**values | changes)

    return make


@pytest.fixture
def make_denoiser(make_settings: MakeSettings) -> MakeDenoiser:
    """A denoiser of two classes on 16 px, with changed settings by name."""

    def make(**changes: Any) -> Denoiser:
        return Denoiser(make_settings(**changes), SIZE, NUM_CLASSES)

    return make


@pytest.fixture
def denoiser(make_denoiser: MakeDenoiser) -> Denoiser:
    return make_denoiser()
