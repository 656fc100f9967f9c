"""Wrong input: one clear line, status 1, nothing half-written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svp_lightning.errors import ArtifactError
from tests.conftest import fresh_process, only_run, tiny

Svp = Callable[..., None]


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


def fails(svp: Svp, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    with pytest.raises(SystemExit) as error:
        svp(*overrides)
    assert error.value.code == 1
    text = capsys.readouterr().err.strip().splitlines()[-1]
    assert text.startswith("Error: ")
    return text


def nothing_written(artifacts: Path, stage: str, before: set[Path]) -> bool:
    return set(artifacts.glob(f"{stage}/*/")) <= before


def spoil_missing(root: Path) -> None:
    root.rename(root.with_name("moved"))


def spoil_empty_class(root: Path) -> None:
    (root / "dust").mkdir()


def spoil_one_class(root: Path) -> None:
    for file in (root / "air").iterdir():
        file.unlink()
    (root / "air").rmdir()


def spoil_truncated(root: Path) -> None:
    file = root / "oil" / "3.png"
    file.write_bytes(file.read_bytes()[:40])


def spoil_not_an_image(root: Path) -> None:
    (root / "oil" / "3.png").write_text("not a picture")


def spoil_csv_nowhere(root: Path) -> None:
    (root / "table.csv").write_text("path,label\noil/0.png,oil\noil/99.png,oil\nair/0.png,air\n")


def spoil_csv_outside(root: Path) -> None:
    draw(root.parent / "secret.png", 10)
    (root / "table.csv").write_text("path,label\n../secret.png,oil\nair/0.png,air\n")


SPOILED = {
    "missing folder": (spoil_missing, "images"),
    "empty class": (spoil_empty_class, "dust"),
    "one class": (spoil_one_class, "class"),
    "truncated image": (spoil_truncated, "3.png"),
    "not an image": (spoil_not_an_image, "3.png"),
    "row pointing nowhere": (spoil_csv_nowhere, "99.png"),
    "row pointing outside": (spoil_csv_outside, "secret.png"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_bad_image_folders(
    svp: Svp,
    folder: Path,
    shared_artifacts: Path,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    spoil, named = SPOILED[case]
    spoil(folder)
    table = ["data.table=table.csv"] if (folder / "table.csv").exists() else []
    before = set(shared_artifacts.glob("store/*/"))
    text = fails(svp, capsys, "task=ingest", "data=folder", f"data.root={folder}", *table)
    assert named in text
    assert nothing_written(shared_artifacts, "store", before)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("augmentation.ratio=-1", "augmentation.ratio"),
        ("augmentation.ratio=many", "augmentation.ratio"),
        ("augmentation.ratio=1e12", "augmentation.ratio"),
        (f"name={'n' * 250}", "cannot be written"),
        ("paths.outputs=/dev/null/below", "cannot be written"),
        ("paths.artifacts=/dev/null/below", "cannot be written"),
        ("data.prevalence={protein:1,dust:2}", "dust"),
        ("data.prevalence={protein:-1}", "prevalence"),
        ("data.image_size=50", "image_size"),
        ("scale.counts.train={protein:0}", "counts"),
        ("+scale.counts.train.dust=5", "dust"),
        ("classifier.batch_size=0", "classifier.batch_size"),
        ("classifier.validate_every=3", "classifier"),
        ("sampler.steps=0", "sampler.steps"),
        ("seed=-1", "seed"),
        ("task=dance", "dance"),
        ("data=flowcam", "data.root must be given"),
        ("trainer.accelerator=quantum", "trainer"),
        ("+trainer.no_such_argument=1", "no_such_argument"),
        ("+callbacks.x._target_=no.such.Thing", "no.such.Thing"),
    ],
)
def test_bad_settings(
    svp: Svp, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, named: str
) -> None:
    assert named in fails(svp, capsys, override)
    assert not list(tmp_path.rglob("results.json"))


@pytest.mark.parametrize("stage", ["generator", "classifier"])
def test_diverged_training_is_reported(
    svp: Svp, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    text = fails(svp, capsys, "augmentation=diffusion", f"{stage}.learning_rate=1e30", "seed=9")
    assert f"{stage}.learning_rate" in text
    assert not list(tmp_path.rglob("results.json"))


def test_a_failed_prediction_leaves_no_folder(
    svp: Svp,
    tmp_path: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    svp("augmentation=none")
    run = only_run(tmp_path / "outputs")
    data = ("data=folder", f"data.root={folder}", "study=new")
    predict = ("task=predict", f"predict.run={run}", *data)
    broken = folder / "oil" / "12.png"
    broken.write_bytes(b"no image")
    assert "12.png" in fails(svp, capsys, *predict)
    broken.unlink()
    assert "'dust'" in fails(svp, capsys, *predict, "data.volume_ml={dust: 1}")

    def full(*_: object) -> None:
        raise ArtifactError("No space left on the disk.")

    with monkeypatch.context() as patch:
        patch.setattr("svp_lightning.commands.predict.write_counts", full)
        assert "No space" in fails(svp, capsys, *predict)
        patch.setattr("svp_lightning.commands.ingest.show", full)
        assert "No space" in fails(svp, capsys, "task=ingest", *data)
    assert not list(tmp_path.glob("outputs/new/*"))
    svp(*predict)
    (config,) = tmp_path.glob("outputs/new/predict_*/config.yaml")
    assert config.with_name("counts.csv").is_file()


def test_a_failed_assessment_leaves_no_settings(
    svp: Svp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(svp, capsys, "task=assess", "generator.learning_rate=1e30", "seed=9")
    assert not list(tmp_path.glob("outputs/**/config.yaml"))


def test_corrupt_artifacts_are_refused(
    svp: Svp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = f"paths.artifacts={tmp_path / 'own'}"
    svp("augmentation=none", own)
    (images,) = tmp_path.glob("own/store/*/images.npy")
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)
    assert "images.npy" in fails(svp, capsys, "augmentation=none", "seed=5", own)


def test_classifier_of_another_image_size_is_refused(
    svp: Svp, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svp("augmentation=none")
    run = only_run(tmp_path / "outputs")
    text = fails(svp, capsys, "task=predict", f"predict.run={run}", "data.image_size=32")
    assert "16 px" in text
    assert "32 px" in text
    assert "predict.run" in fails(svp, capsys, "task=predict")
    assert "no_such_run" in fails(svp, capsys, "task=predict", "predict.run=no_such_run")


def test_full_disk_is_reported(
    svp: Svp,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    text = fails(svp, capsys, "task=ingest", f"paths.artifacts={tmp_path / 'disk'}")
    assert "No space left" in text


def test_report_of_a_missing_study(svp: Svp, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no_such_study" in fails(svp, capsys, "task=report", "study=no_such_study")


def test_mistyped_keys_get_hydras_message(tmp_path: Path) -> None:
    done = fresh_process(tmp_path, "augmentation.ration=1", check=False)
    assert done.returncode == 1
    assert "ration" in done.stderr
    assert "Traceback" not in done.stderr
    done = fresh_process(tmp_path, "classifier=resnet19", check=False)
    assert done.returncode == 1
    assert "resnet18" in done.stderr  # the options there are


def test_error_from_the_command_line_is_one_line(tmp_path: Path) -> None:
    overrides = tiny(tmp_path / "artifacts", "data=folder", f"data.root={tmp_path / 'nowhere'}")
    done = fresh_process(tmp_path, *overrides, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nowhere" in done.stderr
    assert not list(tmp_path.rglob("results.json"))
    assert not list((tmp_path / "artifacts").rglob("*"))


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
    svp: Svp, tmp_path: Path, folder: Path, task: str
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
