import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pydantic import ValidationError

from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import GeneratorModule
from svp_lightning.generator.traits import AMOUNTS
from svp_lightning.generator.warping import augment, warp
from tests.generator.small import small_settings

SIDE = 64


def discs(radius: float, x: float = 0.0, y: float = 0.0) -> torch.Tensor:
    """One image of a soft bright disc, centre at (x, y) px from the image's centre."""
    at = torch.arange(SIDE) - (SIDE - 1) / 2
    distance = torch.hypot(at[None, :] - x, at[:, None] - y)
    return torch.sigmoid(2 * (radius - distance)).view(1, 1, SIDE, SIDE)


def centre(image: torch.Tensor) -> tuple[float, float]:
    at = torch.arange(SIDE) - (SIDE - 1) / 2
    mass = image.sum()
    return float((image.sum(-2) * at).sum() / mass), float((image.sum(-1) * at).sum() / mass)


def moved(image: torch.Tensor, log_scale: float = 0, angle: float = 0, shift: Any = (0, 0)) -> Any:
    column = torch.tensor([[1.0]])
    return warp(image, column * log_scale, column * angle, torch.tensor([shift]).float())


def test_images_without_amounts_are_unchanged() -> None:
    images = torch.rand(400, 1, 16, 16) * 2 - 1
    changed, amounts = augment(images, 0.2, torch.Generator().manual_seed(0))
    assert changed.abs().max() <= 1
    untouched = ~amounts.any(dim=1)
    assert untouched.float().mean() == pytest.approx(0.8**4, abs=0.1)
    assert torch.equal(changed[untouched], images[untouched])
    assert (changed[~untouched] != images[~untouched]).flatten(1).any(dim=1).all()


def test_light_is_what_the_amounts_say() -> None:
    images = torch.full((200, 1, 16, 16), 0.3)
    changed, amounts = augment(images, 0.7, torch.Generator().manual_seed(0))
    wanted = 0.3 * (1 + amounts[:, 5]) + amounts[:, 6]
    torch.testing.assert_close(changed.mean(dim=(1, 2, 3)), wanted.clamp(-1, 1))


def test_mixed_precision_does_not_blur_where_a_pixel_comes_from() -> None:
    images = torch.rand(8, 1, 64, 64) * 2 - 1
    plain, _ = augment(images, 1.0, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = augment(images, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(mixed, plain)


@pytest.mark.parametrize("log_scale", [-0.5, 0.4])
def test_scale_enlarges_the_area(log_scale: float) -> None:
    before = discs(10)
    after = moved(before, log_scale=log_scale)
    assert after.sum() / before.sum() == pytest.approx(4**log_scale, rel=0.02)


def test_shift_moves_by_a_share_of_the_side() -> None:
    x, y = centre(moved(discs(8), shift=(0.1, -0.05)))
    assert x == pytest.approx(6.4, abs=0.05)
    assert y == pytest.approx(-3.2, abs=0.05)


@pytest.mark.parametrize("angle", [0.3, math.pi / 2, 4.0])
def test_turning_keeps_the_distance_from_the_centre(angle: float) -> None:
    x, y = centre(moved(discs(5, x=14), angle=angle))
    assert math.hypot(x, y) == pytest.approx(14, abs=0.1)
    assert math.cos(math.atan2(y, x)) == pytest.approx(math.cos(angle), abs=0.01)


def test_the_papers_network_takes_no_amounts() -> None:
    network = {"kind": "paper", "block_channels": (8,), "layers_per_block": 2, "patch": 1}
    with pytest.raises(ValidationError, match="paper's network"):
        small_settings(network=network, augmentation=0.1)


def test_no_amounts_are_amounts_of_zero() -> None:
    denoiser = Denoiser(small_settings(augmentation=0.5), 16, 2)
    x_t, t, labels = torch.randn(3, 1, 16, 16), torch.tensor([1, 50, 99]), torch.tensor([0, 1, 2])
    plain = denoiser(x_t, t, labels)
    assert torch.equal(denoiser(x_t, t, labels, torch.zeros(3, AMOUNTS)), plain)
    assert not torch.equal(denoiser(x_t, t, labels, torch.ones(3, AMOUNTS)), plain)


def test_training_gives_the_network_the_amounts() -> None:
    module = GeneratorModule(small_settings(augmentation=1.0), 16, 2)
    module.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    batch = {"image": torch.rand(6, 1, 16, 16), "label": torch.arange(6) % 2}
    module.training_step(batch, 0).backward()
    gradients = {n: p.grad for n, p in module.denoiser.named_parameters() if "augmentation" in n}
    assert len(gradients) == 1
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())
