"""The networks fit the images, and keep an image's own brightness and contrast."""

import pytest
import torch
from diffusers.models.attention_processor import Attention as AttentionBlock
from pydantic import ValidationError

from svp_lightning.errors import SettingsError
from svp_lightning.generator.denoiser import Denoiser, build_network
from svp_lightning.generator.networks import CENTRE, LinearFilter
from svp_lightning.generator.paper_network import Attention, PaperUNet, StandardisedConv2d
from svp_lightning.generator.settings import NetworkSettings
from tests import configured
from tests.generator.small import small_settings

PAPER = {"kind": "paper", "block_channels": (8, 8, 8), "layers_per_block": 2, "patch": 1}
DARK, GREY = -0.9, 0.3


@pytest.mark.parametrize("kind", ["unet", "paper"])
@pytest.mark.parametrize(("size", "num_classes"), [(16, 2), (48, 5), (96, 3)])
def test_output_has_the_shape_of_the_input(kind: str, size: int, num_classes: int) -> None:
    small = {"block_channels": (8, 8), "attention": (False, False)}
    network = PAPER if kind == "paper" else small
    denoiser = Denoiser(configured.generator(network=network), size, num_classes)
    x_t = torch.randn(2, 1, size, size)
    prediction = denoiser(x_t, torch.tensor([0, 999]), torch.tensor([0, num_classes]))
    assert prediction.shape == x_t.shape
    assert prediction.isfinite().all()


@pytest.mark.parametrize(("size", "patch"), [(16, 1), (32, 2), (48, 2), (64, 4), (128, 4)])
def test_patch_leaves_four_positions_at_the_bottom(size: int, patch: int) -> None:
    settings = configured.network(block_channels=(8, 8, 8), attention=(False,) * 3, patch=4)
    assert settings.for_images(size).patch == patch
    assert size // patch // 4 >= 4


def test_too_many_levels_are_refused_with_the_number_that_fits() -> None:
    def settings(levels: int) -> NetworkSettings:
        return configured.network(block_channels=(8,) * levels, attention=(False,) * levels)

    with pytest.raises(SettingsError, match=r"4 levels do not fit images of 16 px.*at most 3"):
        settings(4).for_images(16)
    assert settings(3).for_images(16).patch == 1


def test_paper_network_has_the_papers_size() -> None:
    with torch.device("meta"):
        network = PaperUNet((64, 128, 256, 512), num_labels=2, dropout=0)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(35.7e6, rel=0.005)


def test_standardised_convolution_ignores_scale_and_offset_of_its_filters() -> None:
    conv = StandardisedConv2d(4, 3, 3)
    x = torch.randn(2, 4, 8, 8)
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(7).add_(2)
    torch.testing.assert_close(conv(x), before, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("linear", [True, False])
def test_attention_follows_a_permutation_of_positions(linear: bool) -> None:
    attention = Attention(8, linear)
    x = torch.randn(2, 8, 4, 4)
    order = torch.randperm(16)

    def permute(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(2)[:, :, order].view_as(images)

    torch.testing.assert_close(attention(permute(x)), permute(attention(x)))


@pytest.mark.parametrize("attention", [(False, True), (True, True)])
def test_every_attention_sees_normalised_input(attention: tuple[bool, ...]) -> None:
    """Else its logits grow without bound in a long training; diffusers' default leaves one out."""
    settings = configured.network(block_channels=(16, 24), attention=attention, patch=2)
    network = build_network(settings, 16, 3)
    found = [module for module in network.modules() if isinstance(module, AttentionBlock)]
    assert len(found) >= 4
    assert all(isinstance(module.group_norm, torch.nn.GroupNorm) for module in found)


def test_dark_areas_of_any_extent_are_learnt() -> None:
    """Large bubbles: diffusers' last normalisation leaves 0.007 to 0.012 here, seeds 0 to 2."""
    torch.manual_seed(0)
    settings = configured.generator(
        network={"block_channels": (8, 16), "attention": (False, True), "patch": 2},
        diffusion={"timesteps": 100, "class_dropout": 0},
    )
    denoiser = Denoiser(settings, image_size=16, num_classes=2)
    optimizer = torch.optim.Adam(denoiser.parameters(), 3e-3)
    t, labels = torch.full((32,), 10), torch.zeros(32, dtype=torch.long)
    column = torch.arange(16.0).expand(32, 1, 16, 16)
    errors = []
    for _ in range(150):
        images = torch.where(column < torch.rand(32, 1, 1, 1) * 16, DARK, GREY)
        x_t = denoiser.schedule.add_noise(images, torch.randn_like(images), t)
        found = denoiser.schedule.x_0(denoiser(x_t, t, labels), x_t, t)
        error = (found - images).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert sum(errors[-10:]) / 10 < 0.004


def filtered_denoiser(**network: object) -> Denoiser:
    diffusion = {"timesteps": 100, "prediction": "filtered", "class_dropout": 0.0}
    return Denoiser(small_settings(diffusion=diffusion, **network), 32, 2)


def typical_images(noise: LinearFilter, count: int) -> torch.Tensor:
    """Images of the spectrum that the filter expects, (count, 1, 32, 32)."""
    waves = torch.randn(count, 1, 32, 32) * noise.power.sqrt()
    return noise.cosines.T @ waves @ noise.cosines + CENTRE


@pytest.mark.parametrize("step", [2, 30, 70, 95])
def test_linear_filter_misses_as_much_as_it_says(step: int) -> None:
    denoiser = filtered_denoiser()
    images, t = typical_images(denoiser.network.filter, 512), torch.full((512,), step)
    noisy = denoiser.schedule.add_noise(images, torch.randn_like(images), t)
    estimate, left = denoiser.network.filter(noisy, t)
    error = (estimate - images).square().mean().sqrt()
    torch.testing.assert_close(error, denoiser.network.filter.errors[step], rtol=0.05, atol=0)
    assert left.std() == pytest.approx(1, rel=0.05)
    scaled = noisy / denoiser.schedule.alpha[step]
    best = min(
        (scaled * share + (1 - share) * CENTRE - images).square().mean().sqrt()
        for share in torch.linspace(0, 1, 21)
    )
    assert error < best


def test_a_filtered_network_starts_at_the_filter() -> None:
    denoiser = filtered_denoiser()
    images = typical_images(denoiser.network.filter, 512)
    labels = torch.zeros(512, dtype=torch.long)
    assert denoiser.loss(images, labels).item() == pytest.approx(1, rel=0.1)
    t = torch.full((512,), 40)
    torch.testing.assert_close(
        denoiser(images, t, labels), denoiser.network.filter(images, t)[0], atol=1e-5, rtol=0
    )


def test_a_filtered_network_learns() -> None:
    denoiser = filtered_denoiser()
    discs = torch.linspace(-1, 1, 32).square() + torch.linspace(-1, 1, 32)[:, None].square() < 0.2
    images = torch.where(discs, DARK, GREY).expand(16, 1, 32, 32)
    labels = torch.zeros(16, dtype=torch.long)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = denoiser.loss(images, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_the_papers_network_has_no_filter() -> None:
    with pytest.raises(ValidationError, match="filtered"):
        small_settings(network=PAPER, diffusion={"timesteps": 100, "prediction": "filtered"})
