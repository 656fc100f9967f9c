from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.trainer.connectors.logger_connector import result
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import DataLoader, Dataset

from svp_lightning.errors import TrainingError
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import (
    AveragedDenoiser,
    GeneratorModule,
    build_optimizer,
)
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.muon import Muon
from svp_lightning.generator.settings import GeneratorSettings
from tests import configured
from tests.generator.small import small_settings

PAPERS = {"kind": "paper", "block_channels": (8, 16), "patch": 1, "layers_per_block": 2}

LEVELS = torch.tensor([-0.6, 0.5])
"""Brightness of the two classes of constant images, in [-1, 1]."""


class ConstantImages(Dataset[dict[str, Tensor]]):
    """Batch ``number`` of images as bright as their class."""

    def __init__(self, batches: int, batch_size: int) -> None:
        self.batches = batches
        self.batch_size = batch_size

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(number)
        labels = torch.randint(2, (self.batch_size,), generator=random)
        noise = 0.02 * torch.randn(self.batch_size, 1, 16, 16, generator=random)
        return {"image": LEVELS[labels].view(-1, 1, 1, 1) + noise, "label": labels}


def fit(
    settings: GeneratorSettings,
    steps: int,
    folder: Path,
    ckpt_path: Path | None = None,
    precision: Any = "32-true",
    plugins: Any = None,
    parts: int = 1,
    **options: Any,
) -> GeneratorModule:
    """Train in epochs of three batches up to global step ``steps``."""
    torch.manual_seed(7)
    module = GeneratorModule(settings, image_size=16, num_classes=2, parts=parts)
    torch.manual_seed(steps)  # nothing of the run may hang on the state found at its start
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        precision=precision,
        plugins=plugins,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, filename="{step}", every_n_train_steps=3)],
        **options,
    )
    loader = DataLoader(ConstantImages(3, settings.batch_size), batch_size=None)
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return module


@torch.no_grad()
def predictions(module: GeneratorModule) -> Tensor:
    """Of the trained denoiser, for noise at times from the first to the last."""
    noisy = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    times, labels = torch.linspace(0, 99, 8).long(), torch.arange(8) % 2
    found: Tensor = module.trained_denoiser.eval()(noisy, times, labels)
    return found


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = small_settings(network=small_settings().network.model_copy(update={"dropout": 0.2}))
    whole = fit(settings, 6, tmp_path / "whole")
    fit(settings, 3, tmp_path / "first")
    resumed = fit(settings, 6, tmp_path / "second", tmp_path / "first" / "step=3.ckpt")
    expected, found = whole.state_dict(), resumed.state_dict()
    assert any(name.startswith("average.") for name in expected)
    assert expected.keys() == found.keys()
    different = [name for name, value in expected.items() if not torch.equal(value, found[name])]
    assert different == []


def test_resuming_a_finished_run_keeps_its_weights(tmp_path: Path) -> None:
    whole = fit(small_settings(), 3, tmp_path)
    again = fit(small_settings(), 3, tmp_path, tmp_path / "step=3.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_no_step_reads_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning reads what its own bar shows after every step, and waits for the GPU to do so."""
    read: list[Tensor] = []
    monkeypatch.setattr(result, "convert_tensors_to_scalars", read.append)
    module = fit(small_settings(), 3, tmp_path, log_every_n_steps=2)
    assert "generator/loss" in module.trainer.callback_metrics
    assert read == []


@pytest.mark.parametrize("scaled", [False, True])
def test_a_batch_in_parts_trains_as_the_whole_does(tmp_path: Path, scaled: bool) -> None:
    """The same images, times, noise and hidden labels; gradients are clipped together."""
    settings = small_settings(batch_size=8, augmentation=1.0, gradient_clip=0.1, warmup_steps=0)
    found = []
    for parts in (1, 4):
        plugins = None
        if scaled:  # whose loss is multiplied before the gradients are computed
            scaler = torch.amp.GradScaler("cpu", init_scale=64.0)  # type: ignore[attr-defined]
            plugins = [MixedPrecision("16-mixed", "cpu", scaler)]
        precision = None if scaled else "32-true"
        folder = tmp_path / str(parts)
        found.append(fit(settings, 3, folder, precision=precision, plugins=plugins, parts=parts))
    # Not the weights: biases before a normalisation move by the rounding of their gradients alone.
    whole, divided, start = (
        predictions(module) for module in (*found, GeneratorModule(settings, 16, 2))
    )
    assert (whole - divided).abs().max() < 0.01 * (whole - start).abs().max()


def test_seed_and_rank_change_the_training_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(seed: int, rank: int, step: int) -> float:
        monkeypatch.setattr(GeneratorModule, "global_rank", property(lambda _: rank))
        monkeypatch.setattr(GeneratorModule, "global_step", property(lambda _: step))
        module = GeneratorModule(small_settings(seed=seed), 16, 2)
        module.on_train_batch_start({}, 0)
        return torch.randn(()).item()

    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
    assert len({noise(*key) for key in keys}) == len(keys)
    assert noise(0, 1, 2) == noise(0, 1, 2)


def test_loss_that_is_not_a_number_stops_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, number: int) -> dict[str, Tensor]:
        return {"image": torch.full((4, 1, 16, 16), torch.nan), "label": torch.zeros(4).long()}

    monkeypatch.setattr(ConstantImages, "__getitem__", broken)
    with pytest.raises(TrainingError, match=r"generator's loss .* step 1 .*learning_rate"):
        fit(small_settings(), 3, tmp_path)
    assert list(tmp_path.glob("*.ckpt")) == []


@pytest.mark.parametrize("kind", ["unet", "paper"])
def test_mixed_precision_trains_as_float32_does(tmp_path: Path, kind: str) -> None:
    settings = small_settings(**({"network": PAPERS} if kind == "paper" else {}))
    modules = [
        fit(settings, 12, tmp_path / precision, precision=precision)
        for precision in ("bf16-mixed", "32-true")
    ]
    found, expected, untrained = map(predictions, (*modules, GeneratorModule(settings, 16, 2)))
    moved = (expected - untrained).square().mean()
    assert (found - expected).square().mean() < 0.05 * moved


def test_average_follows_with_a_rising_decay() -> None:
    denoiser = GeneratorModule(small_settings(), 16, 2).denoiser
    average = AveragedDenoiser(denoiser, decay=0.5)
    start = next(denoiser.parameters()).detach().clone()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(1)
    average.update(denoiser, step=1)  # decay 2/11
    torch.testing.assert_close(next(average.parameters()), start + 9 / 11)
    average.update(denoiser, step=1000)  # decay 0.5
    torch.testing.assert_close(next(average.parameters()), start + 10 / 11)


def test_gradients_that_overflow_in_float16_are_left_out_and_are_no_divergence(
    tmp_path: Path,
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)  # type: ignore[attr-defined]
    float16 = MixedPrecision("16-mixed", "cpu", scaler)
    module = fit(small_settings(), 3, tmp_path, precision=None, plugins=[float16])
    assert scaler.get_scale() < 2.0**40  # a step has overflowed
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_average_is_trained_by_no_optimiser() -> None:
    module = GeneratorModule(small_settings(), 16, 2)
    optimiser: Any = module.configure_optimizers()
    trained = {id(p) for group in optimiser["optimizer"].param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in module.denoiser.parameters()}
    assert module.trained_denoiser is not module.denoiser
    bare = GeneratorModule(small_settings(ema_decay=None), 16, 2)
    assert bare.trained_denoiser is bare.denoiser


@pytest.mark.parametrize(("decay", "end"), [("constant", 1.0), ("cosine", 0.0)])
def test_learning_rate_warms_up_and_ends(decay: str, end: float) -> None:
    module = GeneratorModule(small_settings(warmup_steps=10, steps=100, decay=decay), 16, 2)
    factors = [module._learning_rate_factor(step) for step in range(101)]
    assert factors[:11] == sorted(factors[:11])
    assert 0 < factors[0] < 0.1
    assert factors[10] == 1.0
    assert factors[100] == pytest.approx(end)


def test_trained_generator_knows_the_brightness_of_its_classes(tmp_path: Path) -> None:
    settings = small_settings(steps=90, batch_size=16, learning_rate=1e-2, warmup_steps=10)
    denoiser = fit(settings, 90, tmp_path).trained_denoiser
    labels = np.repeat([0, 1], 8)
    images = sample(denoiser, labels, np.arange(16), configured.sampler(steps=10))
    wanted = ((LEVELS + 1) * 127.5).tolist()
    assert images[:8].mean() == pytest.approx(wanted[0], abs=12)
    assert images[8:].mean() == pytest.approx(wanted[1], abs=12)
    assert images.astype(float).std(axis=(1, 2)).mean() < 12


@pytest.mark.parametrize("network", [{}, {"network": PAPERS}, {"augmentation": 0.5}])
def test_muon_has_every_parameter_once_and_only_maps_as_matrices(
    network: dict[str, object],
) -> None:
    settings = small_settings(**network)
    denoiser = Denoiser(settings, 16, 2)
    optimizer = build_optimizer(denoiser, settings)
    assert isinstance(optimizer, Muon)
    matrices, others = (group["params"] for group in optimizer.param_groups)
    taken = [id(p) for p in [*matrices, *others]]
    assert sorted(taken) == sorted(id(p) for p in denoiser.parameters())
    assert all(p.ndim >= 2 for p in matrices)
    embeddings = [m.weight for m in denoiser.modules() if isinstance(m, nn.Embedding)]
    assert {id(p) for p in embeddings} <= {id(p) for p in others}
    assert sum(p.numel() for p in matrices) > 0.9 * sum(p.numel() for p in denoiser.parameters())


def test_the_papers_recipe_may_keep_its_own() -> None:
    settings = small_settings(optimizer="adamw", weight_decay=0.2)
    optimizer = build_optimizer(Denoiser(settings, 16, 2), settings)
    assert type(optimizer) is AdamW
    assert optimizer.param_groups[0]["weight_decay"] == 0.2
