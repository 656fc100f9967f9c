"""The networks fit the images, and keep an image's own brightness and contrast."""

import pytest
import torch
from diffusers.models.attention_processor import Attention as AttentionBlock

from svp_lightning.errors import SettingsError
from svp_lightning.generator.denoiser import Denoiser, build_network, fitting_patch
from svp_lightning.generator.paper_network import Attention, PaperUNet, StandardisedConv2d
from svp_lightning.generator.settings import NetworkSettings
from tests import configured

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
    assert fitting_patch(settings, size) == patch
    assert size // patch // 4 >= 4


def test_too_many_levels_are_refused_with_the_number_that_fits() -> None:
    def settings(levels: int) -> NetworkSettings:
        return configured.network(block_channels=(8,) * levels, attention=(False,) * levels)

    with pytest.raises(SettingsError, match=r"4 levels do not fit images of 16 px.*at most 3"):
        fitting_patch(settings(4), 16)
    assert fitting_patch(settings(3), 16) == 1


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
