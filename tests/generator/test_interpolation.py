import numpy as np
import pytest
import torch

from svp_lightning.errors import SettingsError
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.interpolation import interpolate, slerp
from svp_lightning.generator.sampler import sample
from svp_lightning.generator.settings import SamplerSettings

SETTINGS = SamplerSettings(steps=3, precision="float32")


def test_ends_are_the_images_of_the_two_seeds(denoiser: Denoiser) -> None:
    frames = interpolate(denoiser, 1, (5, 6), np.array([0.0, 0.5, 1.0]), SETTINGS)
    own = sample(denoiser, np.array([1, 1]), np.array([5, 6]), SETTINGS)
    assert np.abs(frames[[0, 2]].astype(int) - own).max() <= 1
    assert not np.array_equal(frames[1], frames[0])
    assert not np.array_equal(frames[1], frames[2])


def test_noise_on_the_arc_keeps_its_strength() -> None:
    a, b = torch.randn(2, 1, 64, 64)
    between = slerp(a, b, torch.linspace(0, 1, 5))
    assert torch.allclose(between[0], a, atol=1e-5)
    assert torch.allclose(between[-1], b, atol=1e-5)
    assert between.std(dim=(1, 2, 3)).sub(1).abs().max() < 0.05


def test_noisy_sampler_is_refused(denoiser: Denoiser) -> None:
    settings = SamplerSettings(name="ddpm", steps=3)
    with pytest.raises(SettingsError, match="ddpm"):
        interpolate(denoiser, 0, (1, 2), np.array([0.0, 1.0]), settings)
