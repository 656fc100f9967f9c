"""Wrong input: one clear line, status 1, nothing half-written."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from svp_lightning.__main__ import dry_run
from svp_lightning.errors import ArtifactError, mistakes_in_one_line
from svp_lightning.runtime.settings import config_folder
from tests.conftest import Program, fresh_process, only_run, tiny


def draw(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((24, 24), 175, dtype=np.uint8)
    image[8:16, 8:16] = level
    Image.fromarray(image).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for number in range(12):
        draw(root / "oil" / f"{number}.png", 60 + number)
        draw(root / "air" / f"{number}.png", 220 - number)
    return root


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda root: root.rename(root.with_name("moved")), "images"),
        (lambda root: (root / "oil" / "3.png").write_text("not a picture"), "3.png"),
    ],
)
def test_bad_image_folders(
    svp: Program, folder: Path, spoil: Callable[[Path], object], named: str
) -> None:
    """The importers' tests have the many ways in which a folder or table can be wrong."""
    spoil(folder)
    before = set(svp.artifacts.glob("store/*/"))
    assert named in svp.fails("task=ingest", "data=folder", f"data.root={folder}")
    assert set(svp.artifacts.glob("store/*/")) <= before


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("augmentation.ratio=-1", "augmentation.ratio"),
        ("augmentation.ratio=many", "augmentation.ratio"),
        ("augmentation.ratio=1e12", "augmentation.ratio"),
        (f"name={'n' * 250}", "cannot be written"),
        ("paths.outputs=/dev/null/below", "cannot be written"),
        ("paths.artifacts=/dev/null/below", "cannot be written"),
        ("paths.outputs=/proc/below", "cannot be written"),
        ("data.prevalence={protein:1,dust:2}", "dust"),
        ("data.prevalence={protein:-1}", "prevalence"),
        ("data.image_size=50", "image_size"),
        ("scale.counts.train={protein:0}", "counts"),
        ("+scale.counts.train.dust=5", "dust"),
        ("classifier.batch_size=0", "classifier.batch_size"),
        ("classifier.validate_every=3", "classifier"),
        ("sampler.steps=0", "sampler.steps"),
        ("seed=-1", "seed"),
        ("data.seed=-1", "data.seed"),
        ("task=dance", "dance"),
        ("data=flowcam", "data.root must be given"),
    ],
)
def test_bad_settings(svp: Program, tmp_path: Path, override: str, named: str) -> None:
    assert named in svp.fails(override)
    assert not list(tmp_path.rglob("results.json"))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("trainer.accelerator=quantum", "quantum"),
        ("trainer.devices=abc", "devices"),
        ("trainer.strategy=dpp", "dpp"),
        ("+trainer.gradient_clip=1", "gradient_clip"),
        ("+trainer.benchmark=abc", "benchmark"),
        ("+callbacks.x._target_=no.such.Thing", "no.such.Thing"),
        ("+logger.x._target_=pytorch_lightning.loggers.CSVLoger", "CSVLoger"),
    ],
)
def test_a_trainer_that_cannot_be_made_is_refused_before_images_are(
    svp: Program, tmp_path: Path, override: str, named: str
) -> None:
    assert named in svp.fails(override, f"paths.artifacts={tmp_path / 'own'}")
    assert not (tmp_path / "own" / "store").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ("task=report", "study={}"),
        ("task=verify", "paths.outputs={}"),
        ("task=predict", "predict.run={}", "data=folder", "data.root=."),
        ("task=ingest", "data=flowcam", "data.root={}"),
        ("task=ingest", "data=folder", "data.root=.", "data.table={}"),
        ("task=export", "export.generator={}"),
    ],
)
def test_names_that_are_too_long(svp: Program, overrides: tuple[str, ...]) -> None:
    name = "n" * 300
    text = svp.fails(*(override.format(name) for override in overrides))
    assert name in text


def test_a_sweep_over_names_that_are_too_long(svp: Program, tmp_path: Path) -> None:
    cell = ("augmentation=diffusion", "data=folder", f"data.root={'n' * 300}")
    sweep = tiny(svp.artifacts, *cell, "hydra.launcher.cell_gb=0.1", "seed=1,2")
    done = fresh_process(tmp_path, "-m", *sweep, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "2 failed" in done.stderr


def test_a_full_device_is_one_line_that_says_what_needs_less(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end, mistakes_in_one_line():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "(CUDA out of memory)" in said
    assert "trainer.accumulate" in said
    with pytest.raises(RuntimeError), mistakes_in_one_line():
        raise RuntimeError("a mistake of the program")


def test_other_errors_keep_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), mistakes_in_one_line():
        (tmp_path / "missing").read_bytes()


def test_a_dry_run_names_a_wrong_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cell = compose("config", overrides=["scale=tiny", "augmentation.ratio=1e12"])
    with pytest.raises(SystemExit):
        dry_run([("[1/1]", cell)], 1)
    assert capsys.readouterr().err.startswith("\nError: augmentation.ratio: ")


@pytest.mark.parametrize("stage", ["generator", "classifier"])
def test_diverged_training_is_reported(svp: Program, tmp_path: Path, stage: str) -> None:
    text = svp.fails("augmentation=diffusion", f"{stage}.learning_rate=1e30", "seed=9")
    assert f"{stage}.learning_rate" in text
    assert not list(tmp_path.rglob("results.json"))


def test_a_failed_prediction_leaves_no_folder(
    svp: Program, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svp("augmentation=none")
    run = svp.run
    data = ("data=folder", f"data.root={folder}", "study=new")
    predict = ("task=predict", f"predict.run={run}", *data)
    broken = folder / "oil" / "12.png"
    broken.write_bytes(b"no image")
    assert "12.png" in svp.fails(*predict)
    broken.unlink()
    assert "'dust'" in svp.fails(*predict, "data.volume_ml={dust: 1}")

    def full(*_: object) -> None:
        raise ArtifactError("No space left on the disk.")

    with monkeypatch.context() as patch:
        patch.setattr("svp_lightning.commands.predict.write_counts", full)
        assert "No space" in svp.fails(*predict)
        patch.setattr("svp_lightning.commands.ingest.show", full)
        assert "No space" in svp.fails("task=ingest", *data)
    assert not list(tmp_path.glob("outputs/new/*"))
    svp(*predict)
    (config,) = tmp_path.glob("outputs/new/predict_*/config.yaml")
    assert config.with_name("counts.csv").is_file()


def test_a_failed_assessment_leaves_no_settings(svp: Program, tmp_path: Path) -> None:
    svp.fails("task=assess", "generator.learning_rate=1e30", "seed=9")
    assert not list(tmp_path.glob("outputs/**/config.yaml"))


def test_corrupt_artifacts_are_refused(svp: Program, tmp_path: Path) -> None:
    own = f"paths.artifacts={tmp_path / 'own'}"
    svp("augmentation=none", own)
    (images,) = tmp_path.glob("own/store/*/images.npy")
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)
    assert "images.npy" in svp.fails("augmentation=none", "seed=5", own)


def test_classifier_of_another_image_size_is_refused(svp: Program) -> None:
    svp("augmentation=none")
    run = svp.run
    text = svp.fails("task=predict", f"predict.run={run}", "data.image_size=32")
    assert "16 px" in text
    assert "32 px" in text
    assert "64 px" in svp.fails("task=predict")  # the released classifier's
    assert "no_such_run" in svp.fails("task=predict", "predict.run=no_such_run")


def test_full_disk_is_reported(
    svp: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    text = svp.fails("task=ingest", f"paths.artifacts={tmp_path / 'disk'}")
    assert "No space left" in text


def test_mistyped_keys_get_hydras_message(tmp_path: Path) -> None:
    done = fresh_process(tmp_path, "augmentation.ration=1", check=False)
    assert done.returncode == 1
    assert "ration" in done.stderr
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:  # Hydra takes coverage for a debugger
        assert "Traceback" not in done.stderr
    done = fresh_process(tmp_path, "classifier=resnet19", check=False)
    assert done.returncode == 1
    assert "resnet18" in done.stderr  # the options there are


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("task=predict", "predict.run=somewhere"), "data=flowcam"),
        (("data=folder", "data.root=/data/Größe"), "\"data.root='/data/Größe'\""),
        (("data=folder", "data.root=/a,b"), "-m"),
        (("data=folder", "data.root=/a${b}"), "cannot be resolved"),
        (("data=folder", 'data.root="/a\\${b}"'), "data.root=/a${b} is not a folder"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    done = fresh_process(tmp_path, *arguments, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert named in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["evaluate", "train_generator", "predict"])
def test_errors_of_the_images_come_before_torch(
    svp: Program, tmp_path: Path, folder: Path, task: str
) -> None:
    (folder / "oil" / "3.png").write_bytes(b"no image")
    overrides = [f"task={task}", "data=folder", f"data.root={folder}"]
    if task == "predict":
        svp("augmentation=none")
        overrides.append(f"predict.run={only_run(tmp_path / 'outputs')}")
    done = fresh_process(tmp_path, *overrides, check=False, PYTHONPROFILEIMPORTTIME="1")
    lines = done.stderr.strip().splitlines()
    assert "oil/3.png is not a PNG" in lines[-1]
    imported = {line.rsplit("|", 1)[-1].strip() for line in lines if "|" in line}
    assert "pandas" in imported
    assert not imported & {"torch", "pytorch_lightning", "matplotlib.pyplot"}
    assert "Importing" not in done.stdout + done.stderr
