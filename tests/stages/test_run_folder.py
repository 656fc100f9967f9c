"""A finished run's files are those that were written."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from svp_lightning.classifier.foreign_weights import read_state_dict
from svp_lightning.errors import ArtifactError
from svp_lightning.evaluation.predictions import read_predictions, read_resamples
from svp_lightning.evaluation.reference import read_reference
from svp_lightning.evaluation.schema import read_results
from svp_lightning.runtime.files import require_unchanged
from svp_lightning.stages.run_folder import data_of, evaluated_run, finished, writing

READERS: dict[str, Callable[[Path], object]] = {
    "results.json": read_results,
    "classifier.ckpt": read_state_dict,
    "predictions.parquet": read_predictions,
    "bootstrap.parquet": read_resamples,
    "reference.safetensors": read_reference,
    "config.yaml": lambda file: data_of(file.parent),
}
FILES = (*READERS, "metrics.csv")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def write(folder: Path, text: str = "") -> None:
    with writing(folder):
        for name in (*FILES, "report.html"):
            (folder / name).write_text(json.dumps({"file": name, "text": text}))


def test_a_run_is_finished_when_its_record_is_there(run: Path) -> None:
    assert finished(run)
    assert evaluated_run(run) == run
    (run / "checksums.json").unlink()
    assert not finished(run)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "removed"])
def test_a_damaged_run_is_named_and_not_finished(
    run: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / name
    content = file.read_bytes()
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(content[:-3] if damage == "cut" else b"[" + content[1:])
    assert not finished(run)
    assert str(file) in capsys.readouterr().out
    with pytest.raises(ArtifactError, match=name):
        require_unchanged(file)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_not_read(run: Path, name: str) -> None:
    file = run / name
    file.write_bytes(b"[" + file.read_bytes()[1:])
    with pytest.raises(ArtifactError, match=rf"{name} is missing or has changed"):
        READERS[name](file)
    file.unlink()
    with pytest.raises(ArtifactError, match=rf"{name} is missing or has changed"):
        READERS[name](file)


def test_a_record_of_files_elsewhere_is_none(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = run / "checksums.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"../other.json": "0" * 64}))
    assert not finished(run)
    assert "'../other.json' is no file in" in capsys.readouterr().out


def test_a_changed_classifier_is_not_predicted_with(run: Path) -> None:
    (run / "classifier.ckpt").write_text("other")
    with pytest.raises(ArtifactError, match=r"classifier\.ckpt"):
        evaluated_run(run)


def test_of_two_processes_one_writes_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, said = threading.Thread(target=write, args=(tmp_path, "other")), ""
    with writing(tmp_path):
        other.start()
        for _ in range(600):
            other.join(0.05)
            if said := capsys.readouterr().out:
                break
        assert other.is_alive()
        for name in (*FILES, "report.html"):
            (tmp_path / name).write_text("own")
    other.join()
    assert finished(tmp_path)
    assert "other" in (tmp_path / "results.json").read_text()
    assert f"Waiting for another process that writes {tmp_path}" in said


def test_a_run_that_is_stopped_while_it_is_made_again_is_not_finished(run: Path) -> None:
    (run / "figures").mkdir()
    with suppress(KeyboardInterrupt), writing(run):
        assert not (run / "figures").exists()
        raise KeyboardInterrupt
    assert not finished(run)
    write(run)
    assert finished(run)
