"""The best weights are kept, whatever interrupts the training."""

import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from svp_lightning.generator import checkpoint_selection
from svp_lightning.generator.checkpoint_selection import (
    CheckpointSelection,
    DenoisingError,
    denoising_error,
)
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import GeneratorModule
from svp_lightning.generator.settings import GeneratorSettings, SelectionSettings
from tests.generator.small import small_settings
from tests.generator.test_denoiser_training import ConstantImages


def weight_sum(denoiser: Denoiser) -> float:
    return float(sum(p.detach().double().sum() for p in denoiser.parameters()))


def error(value: float) -> DenoisingError:
    return DenoisingError(train=(value,), heldout=(value,), gap=0.0, gap_error=0.1)


def scrambled(denoiser: Denoiser, images: object = None) -> DenoisingError:
    """Arbitrary, but a function of the weights alone; leaves traces that must not matter."""
    torch.rand(3)
    assert not denoiser.training
    return error(weight_sum(denoiser) * 1e4 % 1)


@pytest.fixture(autouse=True)
def _arbitrary_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_selection, "denoising_error", scrambled)


def train(
    settings: GeneratorSettings,
    folder: Path,
    selection: CheckpointSelection,
    steps: int = 12,
    ckpt_path: Path | None = None,
) -> tuple[GeneratorModule, int]:
    module = GeneratorModule(settings, image_size=16, num_classes=2)
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[selection, ModelCheckpoint(folder, filename="{step}", every_n_train_steps=3,
                                              save_top_k=-1)],
    )  # fmt: skip
    loader = DataLoader(ConstantImages(3, settings.batch_size), batch_size=None)
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return module, trainer.global_step


def choose(every: int = 2, patience: int | None = None) -> SelectionSettings:
    return SelectionSettings(method="denoising", every=every, patience=patience)


def test_best_weights_are_those_of_the_smallest_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[float] = []  # of the weights at the start, too

    def noted(denoiser: Denoiser, images: object) -> DenoisingError:
        sums.append(weight_sum(denoiser))
        return scrambled(denoiser)

    monkeypatch.setattr(checkpoint_selection, "denoising_error", noted)
    selection = CheckpointSelection(choose(every=5), {})
    module, _ = train(small_settings(steps=12), tmp_path, selection)
    assert list(selection.checks) == [0, 5, 10, 12]  # the last step as well
    errors = {step: check.heldout for step, check in selection.checks.items()}
    best = min(list(errors)[1:], key=errors.__getitem__)
    assert selection.record()["step"] == best
    selection.restore_best(module)
    assert weight_sum(module.trained_denoiser) == sums[list(errors).index(best)]


def test_measuring_does_not_change_the_training(tmp_path: Path) -> None:
    weights = []
    for every in (2, 100):
        selection = CheckpointSelection(choose(every), {})
        module, _ = train(small_settings(steps=12), tmp_path / str(every), selection)
        weights.append(module.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("interrupted_at", [3, 6, 9])
def test_resumed_training_chooses_the_same(tmp_path: Path, interrupted_at: int) -> None:
    settings = small_settings(steps=12)
    whole = CheckpointSelection(choose(), {})
    train(settings, tmp_path, whole)
    resumed = CheckpointSelection(choose(), {})
    train(settings, tmp_path / "again", resumed, 12, tmp_path / f"step={interrupted_at}.ckpt")
    assert resumed.record() == whole.record()
    for name, value in whole.best_weights.items():
        assert torch.equal(value, resumed.best_weights[name])


def test_patience_stops_and_a_resumed_training_stays_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falls = iter([0.2, 0.5, 0.3, 0.4, 0.6, 0.1])
    monkeypatch.setattr(checkpoint_selection, "denoising_error", lambda *_: error(next(falls)))
    selection = CheckpointSelection(choose(every=3, patience=2), {})
    _, steps = train(small_settings(steps=30), tmp_path, selection, 30)
    assert steps == 12
    assert selection.best_step == 6
    again = CheckpointSelection(choose(every=3, patience=2), {})
    _, steps = train(small_settings(steps=30), tmp_path / "b", again, 30, tmp_path / "step=12.ckpt")
    assert steps == 12
    assert again.record() == selection.record()


def test_last_weights_are_measured_once(tmp_path: Path) -> None:
    settings = SelectionSettings(method="last", every=2, patience=None)
    selection = CheckpointSelection(settings, {})
    module, _ = train(small_settings(steps=6), tmp_path, selection, steps=6)
    assert list(selection.checks) == [0, 6]
    before = weight_sum(module.trained_denoiser)
    selection.restore_best(module)
    assert weight_sum(module.trained_denoiser) == before


def test_error_is_that_of_the_guessed_clean_image(denoiser: Denoiser) -> None:
    """A network that answers nothing guesses c_skip x_t, whose error is known."""
    for weight in denoiser.network.unet.conv_out.parameters():
        torch.nn.init.zeros_(weight)
    flat, half = torch.full((64, 1, 16, 16), 0.5), torch.full((64, 1, 16, 16), 0.25)
    found = denoising_error(denoiser.eval(), {0: (flat, half), 1: (flat, half)})
    table = denoiser.schedule
    for k, ratio in enumerate(checkpoint_selection.NOISE_RATIOS):
        step = min(range(100), key=lambda t: abs(math.log(table.noise_ratio[t] / ratio)))
        skip, alpha, sigma = (float(v[step]) for v in (table.skip, table.alpha, table.sigma))
        for value, measured in ((0.5, found.train[k]), (0.25, found.heldout[k])):
            expected = ((skip * alpha - 1) * value) ** 2 + (skip * sigma) ** 2
            assert measured == pytest.approx(expected, rel=0.02)
    assert found.gap < 0


@pytest.mark.parametrize(
    ("before", "after", "memorises"), [(0.0, 0.5, True), (0.4, 0.5, False), (-0.3, 0.0, False)]
)
def test_a_gap_that_was_there_before_the_first_step_is_no_sign_of_memorising(
    before: float, after: float, memorises: bool
) -> None:
    start, end = (DenoisingError((1.0,), (1.0,), gap, 0.1) for gap in (before, after))
    assert end.memorises_since(start) == memorises


def test_settings_without_effect_make_no_other_generator() -> None:
    last = [small_settings(selection={"method": "last", "every": n}).identity() for n in (1, 2)]
    assert last[0] == last[1] == small_settings().identity()
    chosen = [small_settings(selection={"method": "denoising", "every": n}) for n in (1, 2)]
    assert chosen[0].identity() != chosen[1].identity()
