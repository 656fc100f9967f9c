from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention as AttentionBlock

from svp_lightning.errors import SettingsError
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.guidance import GuidedDenoiser
from svp_lightning.generator.network import build_network, fitting_patch
from svp_lightning.generator.paper_unet import Attention, PaperUNet, StandardisedConv2d
from svp_lightning.generator.settings import DiffusionSettings, NetworkSettings

MakeDenoiser = Callable[..., Denoiser]

SIZE = 16
PAPER = {"kind": "paper", "block_channels": (8, 16), "layers_per_block": 2, "patch": 1}


def a_batch(count: int = 4, size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, 1, size, size) * 2 - 1, torch.arange(count) % 2


@pytest.mark.parametrize("network", [{}, {"network": PAPER}])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "velocity", "residual"])
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_gradient_reaches_every_parameter(
    make_denoiser: MakeDenoiser, network: dict[str, Any], prediction: str, loss: str
) -> None:
    diffusion = {"timesteps": 100, "prediction": prediction, "loss": loss, "class_dropout": 0.3}
    denoiser = make_denoiser(**network, diffusion=diffusion)
    images, labels = a_batch(12)
    value = denoiser.loss(images, labels)
    value.backward()
    assert value.isfinite()
    untouched = [
        name
        for name, parameter in denoiser.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert untouched == []


@pytest.mark.parametrize("kind", ["unet", "paper"])
@pytest.mark.parametrize(("size", "num_classes"), [(16, 2), (48, 5), (96, 3)])
def test_output_has_the_shape_of_the_input(kind: str, size: int, num_classes: int) -> None:
    small = {"block_channels": (8, 8), "attention": (False, False)}
    network = PAPER | {"block_channels": (8,) * 3} if kind == "paper" else small
    denoiser = Denoiser(
        NetworkSettings.model_validate(network), DiffusionSettings(), size, num_classes
    )
    x_t = torch.randn(2, 1, size, size)
    prediction = denoiser(x_t, torch.tensor([0, 999]), torch.tensor([0, num_classes]))
    assert prediction.shape == x_t.shape
    assert prediction.isfinite().all()


def test_labels_beyond_the_null_class_are_refused(denoiser: Denoiser) -> None:
    images, _ = a_batch()
    with pytest.raises(IndexError):
        denoiser(images, torch.zeros(4, dtype=torch.long), torch.full((4,), 3))


def test_class_and_time_matter(denoiser: Denoiser) -> None:
    images, labels = a_batch()
    t = torch.full((4,), 50)
    assert not torch.equal(denoiser(images, t, labels), denoiser(images, t, 1 - labels))
    assert not torch.equal(denoiser(images, t, labels), denoiser(images, t + 1, labels))


def test_images_of_a_batch_do_not_mix(denoiser: Denoiser) -> None:
    images, labels = a_batch()
    t = torch.arange(4) * 20
    order = torch.tensor([2, 0, 3, 1])
    straight = denoiser(images, t, labels)
    shuffled = denoiser(images[order], t[order], labels[order])
    torch.testing.assert_close(straight[order], shuffled, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dropout", "expected"), [(0.0, 0.0), (0.5, 0.5), (0.999, 1.0)])
def test_hidden_labels_train_the_null_class(
    make_denoiser: MakeDenoiser, dropout: float, expected: float
) -> None:
    denoiser = make_denoiser(diffusion={"timesteps": 100, "class_dropout": dropout})
    seen: list[torch.Tensor] = []

    def record(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[2])

    denoiser.register_forward_pre_hook(record)
    images, labels = a_batch(200)
    denoiser.loss(images, labels)
    share = (seen[0] == denoiser.null_label).float().mean().item()
    assert share == pytest.approx(expected, abs=0.15)


def test_times_cover_the_whole_process(denoiser: Denoiser) -> None:
    t = denoiser._draw_times(50, torch.device("cpu"), None)
    assert (t // 2).tolist() == list(range(50))  # 100 time steps in 50 strata


def test_loss_is_a_function_of_its_generator(denoiser: Denoiser) -> None:
    images, labels = a_batch()

    def value(seed: int) -> float:
        return denoiser.loss(images, labels, torch.Generator().manual_seed(seed)).item()

    assert value(1) == value(1) != value(2)


def test_guidance_one_is_the_conditional_prediction(denoiser: Denoiser) -> None:
    images, labels = a_batch()
    t = torch.full((4,), 30)
    assert torch.equal(GuidedDenoiser(denoiser, 1)(images, t, labels), denoiser(images, t, labels))


def test_guidance_extrapolates_from_the_null_class(denoiser: Denoiser) -> None:
    images, labels = a_batch()
    t = torch.full((4,), 30)
    nulls = torch.full_like(labels, denoiser.null_label)
    conditional, unconditional = denoiser(images, t, labels), denoiser(images, t, nulls)
    guided = {w: GuidedDenoiser(denoiser, w)(images, t, labels) for w in (0.0, 0.999999, 3.0)}
    torch.testing.assert_close(guided[0.0], unconditional, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(guided[0.999999], conditional, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        guided[3.0], 3 * conditional - 2 * unconditional, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("size", "patch"), [(16, 1), (32, 2), (48, 2), (64, 4), (128, 4)])
def test_patch_leaves_four_positions_at_the_bottom(size: int, patch: int) -> None:
    settings = NetworkSettings(block_channels=(8, 8, 8), attention=(False,) * 3, patch=4)
    assert fitting_patch(settings, size) == patch
    assert size // patch // 4 >= 4


def test_too_many_levels_are_refused_with_the_number_that_fits() -> None:
    def settings(levels: int) -> NetworkSettings:
        return NetworkSettings(block_channels=(8,) * levels, attention=(False,) * levels)

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
    settings = NetworkSettings(block_channels=(16, 24), attention=attention, patch=2)
    network = build_network(settings, 16, 3)
    found = [module for module in network.modules() if isinstance(module, AttentionBlock)]
    assert len(found) >= 4
    assert all(isinstance(module.group_norm, torch.nn.GroupNorm) for module in found)
