"""One seed and one thread, and a small denoiser."""

from collections.abc import Iterator

import pytest
import torch

from svp_lightning.generator.denoiser import Denoiser
from tests.generator.small import small_denoiser


@pytest.fixture(autouse=True)
def _seeded_on_one_thread() -> Iterator[None]:
    """Threads would only wait for each other on tensors this small."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def denoiser() -> Denoiser:
    return small_denoiser()
