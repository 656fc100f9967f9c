"""The study on a GPU, rehearsed on the CPU in this process."""

import importlib
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from svp_lightning.generator.checkpoint import load_generator
from tests.conftest import _save_blank
from tests.narrow import leave_out_pictures_of_generators, use_narrow_backbones

FOLDER = Path(__file__).parents[1] / "experiments" / "gpu"
QUICK = ("--tiny", "--jobs", "0", "trainer=cpu", "data.simulation.workers=0")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("gpu_study")
    monkeypatch.setenv("SVP_SWEEP_MEMORY", "")  # which the script sets
    monkeypatch.setattr(module, "ARMS", (module.ARMS[0], module.ARMS[-1]))
    monkeypatch.setattr(Figure, "savefig", _save_blank(Figure.savefig))
    use_narrow_backbones(monkeypatch)
    leave_out_pictures_of_generators(monkeypatch)
    return module


def test_a_rehearsal_leaves_table_and_weights_and_a_second_call_repeats_nothing(
    study: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "work"
    arguments = (*QUICK, "--minutes", "60", "--call", "60", "--seeds", "1", "--folder", str(folder))
    assert study.main(arguments) == 0
    assert capsys.readouterr().out.count("Building") == 3  # store, generator, pool
    with zipfile.ZipFile(folder / "out/study.zip") as archive:
        archive.extractall(tmp_path / "kept")
    table = pd.read_csv(tmp_path / "kept/table.csv")
    assert set(table["method"]) == {"none", "diffusion"}
    assert json.loads((tmp_path / "kept/study.json").read_text())["seeds"] == 1

    parts = sorted((folder / "out").glob("model.safetensors.*"))
    (tmp_path / "kept/generator/model.safetensors").write_bytes(
        b"".join(part.read_bytes() for part in parts)
    )
    assert load_generator(tmp_path / "kept/generator").info.settings.steps == 6

    assert study.main(arguments) == 0
    assert "Building" not in capsys.readouterr().out


def test_a_training_that_does_not_fit_ends_with_the_steps_that_do(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(study.time, "monotonic", lambda: now[0])
    trainer = SimpleNamespace(max_steps=1000, global_step=0, should_stop=False)

    def train(seconds: float) -> None:
        callback = study.pace(lambda: seconds - now[0], lambda: 1.0)
        now[0], trainer.global_step = 0.0, 0
        callback.on_train_start(trainer)
        for step in range(1, 1001):
            now[0], trainer.global_step = 0.1 * step, step
            callback.on_train_batch_end(trainer)

    train(seconds=101)
    with pytest.raises(study.DoesNotFitError) as found:
        train(seconds=50)
    assert 430 < found.value.steps < 500  # 10 steps a second


def test_a_call_knows_what_earlier_ones_have_spent(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(study.time, "monotonic", lambda: now[0])
    first = study.Clock(tmp_path / "study.json", total=700, call=500)
    now[0] = 400.0
    first.note(seeds=2)
    assert first.left == 100
    second = study.Clock(tmp_path / "study.json", total=700, call=500)
    assert second.left == 300
    assert second.facts["seeds"] == 2
    assert second.until("report") < 300  # some is kept for the report
