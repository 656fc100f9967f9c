"""The best weights are kept, whatever interrupts the training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import Check, CheckpointSelection, GeneratorModule
from svp_lightning.generator.settings import GeneratorSettings, SelectionSettings
from tests.generator.test_denoiser_training import ConstantImages

MakeSettings = Callable[..., GeneratorSettings]


def weight_sum(denoiser: Denoiser) -> float:
    return float(sum(p.detach().double().sum() for p in denoiser.parameters()))


def scrambled(denoiser: Denoiser) -> Check:
    """Arbitrary, but a function of the weights alone; leaves traces that must not matter."""
    torch.rand(3)
    assert not denoiser.training
    return Check(distance=weight_sum(denoiser) * 1e4 % 1, copies=0, novel=True)


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
    return SelectionSettings(method="fidelity", every=every, images=4, patience=patience)


def test_best_weights_are_those_of_the_smallest_distance(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    sums: list[float] = []

    def judge(denoiser: Denoiser) -> Check:
        sums.append(weight_sum(denoiser))
        return scrambled(denoiser)

    selection = CheckpointSelection(choose(every=5), judge)
    module, _ = train(make_settings(steps=12), tmp_path, selection)
    assert list(selection.checks) == [5, 10, 12]  # the last step as well
    distances = {step: check.distance for step, check in selection.checks.items()}
    best = min(distances, key=distances.__getitem__)
    assert selection.record()["step"] == best
    selection.restore_best(module)
    assert weight_sum(module.trained_denoiser) == sums[list(distances).index(best)]


def test_judging_does_not_change_the_training(make_settings: MakeSettings, tmp_path: Path) -> None:
    weights = []
    for every in (2, 100):
        selection = CheckpointSelection(choose(every), scrambled)
        module, _ = train(make_settings(steps=12), tmp_path / str(every), selection)
        weights.append(module.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("interrupted_at", [3, 6, 9])
def test_resumed_training_chooses_the_same(
    make_settings: MakeSettings, tmp_path: Path, interrupted_at: int
) -> None:
    settings = make_settings(steps=12)
    whole = CheckpointSelection(choose(), scrambled)
    train(settings, tmp_path, whole)
    resumed = CheckpointSelection(choose(), scrambled)
    train(settings, tmp_path / "again", resumed, 12, tmp_path / f"step={interrupted_at}.ckpt")
    assert resumed.record() == whole.record()
    for name, value in whole.best_weights.items():
        assert torch.equal(value, resumed.best_weights[name])


def test_patience_stops_and_a_resumed_training_stays_stopped(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    falls = iter([0.5, 0.3, 0.4, 0.6, 0.1])

    def judge(denoiser: Denoiser) -> Check:
        return Check(next(falls), 0, True)

    selection = CheckpointSelection(choose(every=3, patience=2), judge)
    _, steps = train(make_settings(steps=30), tmp_path, selection, 30)
    assert steps == 12
    assert selection.best_step == 6
    again = CheckpointSelection(choose(every=3, patience=2), judge)
    _, steps = train(make_settings(steps=30), tmp_path / "b", again, 30, tmp_path / "step=12.ckpt")
    assert steps == 12
    assert again.record() == selection.record()


def test_novelty_comes_before_the_distance() -> None:
    copier, better_copier = Check(0.1, 0.8, False), Check(0.3, 0.2, False)
    novel, nearer = Check(0.9, 0.01, True), Check(0.5, 0.02, True)
    assert novel.better_than(copier)
    assert better_copier.better_than(copier)
    assert nearer.better_than(novel)
    assert not novel.better_than(novel)


def test_settings_without_effect_make_no_other_generator(make_settings: MakeSettings) -> None:
    last = [make_settings(selection={"method": "last", "every": n}).identity() for n in (1, 2)]
    assert last[0] == last[1] == make_settings().identity()
    chosen = [make_settings(selection={"method": "fidelity", "every": n}) for n in (1, 2)]
    assert chosen[0].identity() != chosen[1].identity()
