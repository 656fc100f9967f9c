from typing import Any

import pytest
import torch

from svp_lightning.generator.denoiser import Denoiser
from tests.generator.small import small_denoiser

SIZE = 16
PAPER = {"kind": "paper", "block_channels": (8, 16), "layers_per_block": 2, "patch": 1}


def a_batch(count: int = 4, size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, 1, size, size) * 2 - 1, torch.arange(count) % 2


@pytest.mark.parametrize("network", [{}, {"network": PAPER}])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "velocity", "residual"])
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_gradient_reaches_every_parameter(
    network: dict[str, Any], prediction: str, loss: str
) -> None:
    diffusion = {"timesteps": 100, "prediction": prediction, "loss": loss, "class_dropout": 0.3}
    denoiser = small_denoiser(**network, diffusion=diffusion)
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
def test_hidden_labels_train_the_null_class(dropout: float, expected: float) -> None:
    denoiser = small_denoiser(diffusion={"timesteps": 100, "class_dropout": dropout})
    seen: list[torch.Tensor] = []

    def record(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[2])

    denoiser.register_forward_pre_hook(record)
    images, labels = a_batch(200)
    denoiser.loss(images, labels)
    share = (seen[0] == denoiser.null_label).float().mean().item()
    assert share == pytest.approx(expected, abs=0.15)


def test_times_cover_the_whole_process() -> None:
    denoiser = small_denoiser(diffusion={"timesteps": 100, "noise_levels": None})
    seen: list[torch.Tensor] = []
    denoiser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    denoiser.loss(*a_batch(50))
    assert (seen[0] // 2).tolist() == list(range(50))  # 100 time steps in 50 strata
    for rank in (0, 1):
        denoiser.loss(*a_batch(25), process=(rank, 2))
    assert sorted((torch.cat(seen[1:]) // 2).tolist()) == list(range(50))


def test_loss_is_a_function_of_its_generator(denoiser: Denoiser) -> None:
    images, labels = a_batch()

    def value(seed: int) -> float:
        return denoiser.loss(images, labels, torch.Generator().manual_seed(seed)).item()

    assert value(1) == value(1) != value(2)
