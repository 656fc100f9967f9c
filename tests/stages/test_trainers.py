"""What the trainings share."""

import errno
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger

from svp_lightning.classifier.validation import BEST
from svp_lightning.commands import export
from svp_lightning.errors import ArtifactError, SettingsError, TrainingError
from svp_lightning.generator.checkpoint import GeneratorInfo, save_generator
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.drawing import sample
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import RECORD
from svp_lightning.stages import trainers
from svp_lightning.stages.resuming import (
    WholeCheckpoints,
    newest_checkpoint,
    write_curves,
)
from svp_lightning.stages.trainers import Trainers, announce_training
from tests import configured

Build = Callable[..., Pipeline]


class StopAtOnce(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: object, **__: object) -> None:
        trainer.should_stop = True


class Terminated(pl.Callback):
    def on_train_batch_end(self, *_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("seconds", "processes", "advised"), [(30, 1, False), (120, 1, True), (120, 2, False)]
)
def test_a_long_training_says_when_one_thread_is_faster(
    svp_pipeline: Build,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seconds: int,
    processes: int,
    advised: bool,
) -> None:
    images = 8 * seconds * processes
    monkeypatch.setattr(trainers, "timed", lambda step, device: trainers.PROBE_IMAGES / 8)
    monkeypatch.setattr(trainers, "gain_of_one_thread", lambda *_: 3.0)
    fake: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        precision_plugin=SimpleNamespace(forward_context=nullcontext),
        world_size=processes,
    )
    rows = svp_pipeline("augmentation=none").rows
    announce_training(fake, torch.nn.Identity(), lambda network, x, y: x, rows, images)
    said = capsys.readouterr().out
    assert f"about {'30 s' if seconds == 30 else '2 min'}" in said
    assert ("3.0 times as fast" in said) == ("OMP_NUM_THREADS=1" in said) == advised


def test_training_ended_by_a_signal_is_no_success(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline("generator.seed=32")
    pipeline.trainers = Trainers(
        pipeline.config.trainer, lambda group: [Terminated()] if group == "callbacks" else []
    )
    with pytest.raises(SystemExit) as ended:
        _ = pipeline.generator
    assert ended.value.code == 128 + signal.SIGTERM


def test_training_stopped_early_is_not_a_finished_generator(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline("generator.seed=31")
    pipeline.trainers = Trainers(
        pipeline.config.trainer, lambda group: [StopAtOnce()] if group == "callbacks" else []
    )
    with pytest.raises(TrainingError, match=r"after 1 of \d+ steps \(generator.steps\)"):
        _ = pipeline.generator
    assert not [
        r
        for r in pipeline.cache.root.glob(f"generator/*/{RECORD}")
        if '"seed": 31' in r.read_text()
    ]


@pytest.mark.parametrize(
    "made",
    [
        pl.callbacks.EMAWeightAveraging,
        lambda: pl.callbacks.StochasticWeightAveraging(swa_lrs=0.01),
        lambda: pl.callbacks.GradientAccumulationScheduler({0: 2}),
        pl.callbacks.ModelCheckpoint,
    ],
)
def test_callbacks_that_change_what_is_made_are_refused(made: Callable[[], pl.Callback]) -> None:
    own = Trainers(configured.tiny().trainer, lambda group: [made()] * (group == "callbacks"))
    with pytest.raises(SettingsError, match=f"The callback {type(made()).__name__} "):
        own.make("Classifier")


def test_a_run_that_nothing_was_logged_to_is_not_begun_to_be_ended(tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    own = Trainers(configured.tiny().trainer, lambda group: [logger] * (group == "logger"))
    own.make("Classifier")
    own.close(failed=True)
    assert not list(tmp_path.iterdir())


def test_operations_in_a_changing_order_are_refused_in_stages_without_a_trainer(
    svp_pipeline: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configured.generator(network={"block_channels": (8,), "attention": (False,)})
    info = GeneratorInfo(settings=settings, class_names=("a", "b"), image_size=16)
    save_generator(tmp_path / "made", Denoiser(settings, 16, 2), info)

    def exported(to: str, deterministic: bool = True) -> bytes:
        given = (f"export.generator={tmp_path / 'made'}", "export.samples_per_class=2")
        how = f"trainer.deterministic={deterministic}"
        pipeline = svp_pipeline("task=export", *given, f"export.to={tmp_path / to}", how)
        with pipeline:
            export.run(pipeline)
            assert "trainers" not in vars(pipeline)
        return (tmp_path / to / "samples" / "store" / "images.npy").read_bytes()

    assert exported("one") == exported("two")

    def last_of_two(*given: Any) -> Any:
        torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
        return sample(*given)

    monkeypatch.setattr("svp_lightning.stages.generator_export.sample", last_of_two)
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        exported("three")
    assert exported("four", deterministic=False) == exported("five", deterministic=False)


def test_batches_are_divided_and_such_a_classifier_is_another(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, loss = set(), Denoiser._loss

    def note(self: Denoiser, images: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        sizes.add(len(images))
        return loss(self, images, *rest)

    monkeypatch.setattr(Denoiser, "_loss", note)
    whole, divided = (
        svp_pipeline("augmentation=none", "generator.seed=33", f"trainer.accumulate={parts}")
        for parts in (1, 2)
    )
    assert divided.generator == whole.generator  # to rounding
    assert divided.config.generator.batch_size // 2 in sizes
    assert divided.classifier != whole.classifier
    assert divided.config.identity() != whole.config.identity()
    for pipeline, parts in ((whole, 1), (divided, 2)):
        weights = torch.load(pipeline.classifier / BEST, weights_only=True)["state_dict"]
        normalised = {int(v) for name, v in weights.items() if name.endswith("batches_tracked")}
        assert normalised == {parts * pipeline.config.classifier.steps}


def saved(step: int) -> dict[str, Any]:
    return {"global_step": step, "state_dict": {"weight": torch.full((4096,), float(step))}}


def test_a_cut_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer, last = WholeCheckpoints(), tmp_path / "last.ckpt"
    assert newest_checkpoint(tmp_path) is None
    for step in (1, 2, 3):
        writer.save_checkpoint(saved(step), last)
    assert newest_checkpoint(tmp_path) == last
    assert torch.load(last, weights_only=True)["global_step"] == 3
    last.write_bytes(last.read_bytes()[:-1000])
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert torch.load(found, weights_only=True)["global_step"] == 2
    assert f"{last} cannot be read" in capsys.readouterr().out
    found.write_bytes(b"")
    assert newest_checkpoint(tmp_path) is None


def test_the_latest_step_is_resumed_whatever_the_clock_says(tmp_path: Path) -> None:
    writer, last = WholeCheckpoints(), tmp_path / "last.ckpt"
    for step in (1, 2):
        writer.save_checkpoint(saved(step), last)
    os.utime(last, (0, 0))
    assert newest_checkpoint(tmp_path) == last
    flip(last)
    assert newest_checkpoint(tmp_path) == tmp_path / "last-before.ckpt"


def flip(file: Path) -> None:
    """One bit in the middle: of a weight, so that torch would read it."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_training_whose_best_weights_have_changed_starts_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer, best = WholeCheckpoints(), tmp_path / "best.ckpt"
    for name in ("best.ckpt", "last.ckpt", "last.ckpt"):
        writer.save_checkpoint(saved(1), tmp_path / name)
    assert newest_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    flip(best)
    assert newest_checkpoint(tmp_path) is None
    assert f"{best} cannot be read" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_curves_are_those_of_all_attempts(tmp_path: Path) -> None:
    for number, text in enumerate(["step,a\n1,0.1\n3,0.2\n5,0.3\n", "", "step,a,b\n4,9,7\n5,8,\n"]):
        (tmp_path / f"logs/attempt_{number}").mkdir(parents=True)
        (tmp_path / f"logs/attempt_{number}/metrics.csv").write_text(text)
    write_curves(tmp_path, tmp_path / "metrics.csv")
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["step,a,b", "1,0.1,", "3,0.2,", "4,9,7", "5,8,"]


@pytest.mark.parametrize("end", ["0,", "0,29", "\n", "0,,0.1\n"])
def test_a_log_that_a_full_disk_cut_gives_the_steps_before(tmp_path: Path, end: str) -> None:
    for number, text in enumerate(["epoch,step,a\n0,9,0.5\n0,19,0.4\n" + end, "epoch,step,a\n0"]):
        (tmp_path / f"logs/attempt_{number}").mkdir(parents=True)
        (tmp_path / f"logs/attempt_{number}/metrics.csv").write_text(text)
    write_curves(tmp_path, tmp_path / "metrics.csv")
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["step,epoch,a", "9,0,0.5", "19,0,0.4"]


def test_a_full_disk_leaves_the_checkpoint_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, last = WholeCheckpoints(), tmp_path / "last.ckpt"
    writer.save_checkpoint(saved(1), last)

    class FullDisk:
        """A file that takes a few bytes."""

        def __init__(self, file: Any) -> None:
            self.file, self.written = file, 0

        def write(self, data: Any) -> int:
            self.written += len(data)
            if self.written > 8192:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(data))

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda values, file: save(values, FullDisk(file)))
    with pytest.raises(ArtifactError, match="No space left"):
        writer.save_checkpoint(saved(2), last)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.load(last, weights_only=True)["global_step"] == 1
