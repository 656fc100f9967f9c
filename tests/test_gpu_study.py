"""The study on a GPU, rehearsed on the CPU."""

import importlib
import json
import os
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from svp_lightning.errors import SvpError, TrainingError
from svp_lightning.generator.checkpoint import load_generator
from tests.narrow import leave_out_pictures_of_generators, use_narrow_backbones
from tests.quick import save_blank

FOLDER = Path(__file__).parents[1] / "experiments" / "gpu"
QUICK = ("--tiny", "--seeds", "1", "trainer=cpu", "data.simulation.workers=0")
ORACLE = "augmentation=oracle augmentation.ratio=1"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("gpu_study")
    monkeypatch.setenv("SVP_SWEEP_MEMORY", "")  # which the script sets
    monkeypatch.setattr(module, "ARMS", (module.ARMS[0], module.ARMS[-1]))
    monkeypatch.setattr(module, "_start_worker", _start_quick_worker)
    _make_quick(monkeypatch)
    return module


def _make_quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Figure, "savefig", save_blank)
    use_narrow_backbones(patch)
    leave_out_pictures_of_generators(patch)


def _start_quick_worker(jobs: int) -> None:
    importlib.import_module("gpu_study")._start_worker(jobs)
    _make_quick(pytest.MonkeyPatch())


def test_a_rehearsal_leaves_table_and_weights_and_later_calls_repeat_nothing(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "work"
    arguments = (*QUICK, "--minutes", "60", "--call", "60", "--folder", str(folder))
    nice = os.nice(0)
    assert study.main((*arguments, "--jobs", "0")) == 0
    assert os.nice(0) == nice
    assert capsys.readouterr().out.count("Building") == 3  # store, generator, pool
    assert _methods(folder, tmp_path / "kept") == {"none", "diffusion"}
    assert json.loads((tmp_path / "kept/study.json").read_text())["seeds"] == 1
    weights = (folder / "out/model.safetensors").read_bytes()
    (tmp_path / "kept/generator/model.safetensors").write_bytes(weights)
    assert load_generator(tmp_path / "kept/generator").info.settings.steps == 6

    assert study.main((*arguments, "--jobs", "0")) == 0
    assert "Building" not in capsys.readouterr().out

    # In processes of their own: the oracle, and an arm that is finished.
    monkeypatch.setattr(study, "ARMS", (ORACLE, study.ARMS[-1]))
    assert study.main((*arguments, "--jobs", "2")) == 0
    said = capsys.readouterr().out
    assert said.count("Building") == 1  # the oracle's pool
    assert "Seeds 1 to 1 of 2 arms" in said
    assert _methods(folder, tmp_path / "more") == {"none", "diffusion", "oracle"}
    assert len(list((tmp_path / "more/logs").glob("*_seed1.log"))) == 3


def _methods(folder: Path, kept: Path) -> set[str]:
    """The arms in the table of the archive, which is unpacked."""
    with zipfile.ZipFile(folder / "out/study.zip") as archive:
        archive.extractall(kept)
    return set(pd.read_csv(kept / "table.csv")["method"])


def test_processes_that_are_late_are_ended(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_start_worker", abs)  # they import nothing
    with study.cell_runner(2) as submit:
        cells = [submit(time.sleep, 600) for _ in range(2)]
        while not all(cell.running() for cell in cells):
            time.sleep(0.01)
        workers = active_children()
        assert len(workers) == 2
    # The executor's thread waits for them, too: a join that comes second returns early.
    deadline = time.monotonic() + 60
    while any(worker.exitcode is None for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {worker.exitcode for worker in workers} == {-signal.SIGTERM}


def test_classifiers_that_are_late_do_not_count(
    study: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release, notes = threading.Event(), {}

    @contextmanager
    def in_threads(jobs: int) -> Iterator[Any]:
        with ThreadPoolExecutor(jobs) as pool:
            yield pool.submit
            release.set()

    monkeypatch.setattr(study, "cell_runner", in_threads)
    cells = SimpleNamespace(cell=lambda _, seed: seed == 1 or release.wait())
    clock = SimpleNamespace(until=lambda _: 0.5, note=lambda **facts: notes.update(facts))
    assert study.run_cells(cells, clock, ("a", "b"), seeds=3, jobs=2) == 1
    assert notes == {"seeds": 1}
    assert "2 of 2 classifiers are not finished" in capsys.readouterr().out


def test_no_more_comes_out_than_may(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = importlib.import_module("keeping")
    monkeypatch.setattr(keeping, "PART_BYTES", 4)
    monkeypatch.setattr(keeping, "MAX_BYTES", 4)
    out, file = tmp_path / "out", tmp_path / "weights"
    out.mkdir()
    for content in (b"0123456789", b"abcd"):
        file.write_bytes(content)
        study.hand_out(file, out)
        parts = sorted(out.iterdir())
        assert b"".join(part.read_bytes() for part in parts) == content
        assert max(part.stat().st_size for part in parts) <= 4
        study.refuse_excess(out)
    (out / "large").write_bytes(b"01234")
    with pytest.raises(SvpError, match="2 files"):
        study.refuse_excess(out)


def test_collecting_refuses_what_is_too_much(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/other").touch()
    nothing = study.Study(tmp_path, (), ())
    study.collect(nothing, False, tmp_path / "out")
    monkeypatch.setattr(importlib.import_module("keeping"), "MAX_FILES", 1)
    with pytest.raises(SvpError, match="2 files"):
        study.collect(nothing, False, tmp_path / "out")


def test_figures_are_kept_of_one_run_of_each_arm(study: Any) -> None:
    names = ["figures", "classifier.ckpt", "reference.safetensors", "results.json"]
    large = {"classifier.ckpt", "reference.safetensors"}
    assert study.not_kept("outputs/gpu", ["figures", "report.html"]) == set()
    assert study.not_kept("outputs/gpu/resnet18_none_seed1_0a", names) == large
    assert study.not_kept("outputs/gpu/resnet18_none_seed10_0a", names) == {*large, "figures"}


class Training:
    """Study, clock and pipeline in one: 10 steps a second; to start takes 20 s more."""

    fused = ()

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds, self.steps = 0.0, seconds, [1000]
        self.facts: dict[str, Any] = {}

    def until(self, _phase: str) -> float:
        return self.seconds - self.now

    def note(self, **facts: Any) -> None:
        self.facts |= facts

    def changed(self, override: str) -> Any:
        self.steps.append(int(override.removeprefix("generator.steps=")))
        return self

    def pipeline(self, *_: str, callbacks: list[Any]) -> Any:
        (self.callback,) = callbacks
        self.config = SimpleNamespace(generator=SimpleNamespace(steps=self.steps[-1]))
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def generator(self) -> str:
        trainer = SimpleNamespace(max_steps=self.steps[-1], global_step=0, should_stop=False)
        self.now += 20
        self.callback.on_train_start(trainer)
        for step in range(1, trainer.max_steps + 1):
            self.now, trainer.global_step = self.now + 0.1, step
            self.callback.on_train_batch_end(trainer)
        return "trained"


@pytest.mark.parametrize(("seconds", "tries"), [(150, 1), (100, 2)])
def test_a_generator_that_does_not_fit_is_followed_by_one_that_does(
    study: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, tries: int
) -> None:
    training = Training(seconds)
    monkeypatch.setattr(study.time, "monotonic", lambda: training.now)
    assert study.train_generator(training, training) is training
    assert len(training.steps) == tries
    assert training.now < seconds
    assert training.facts == {"generator_steps": training.steps[-1]}
    assert training.steps[-1] > 400  # of the 600 that 100 s less two starts hold


def test_where_no_step_fits_there_is_no_generator(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(seconds=26)
    monkeypatch.setattr(study.time, "monotonic", lambda: training.now)
    with pytest.raises(TrainingError, match="No time is left"):
        study.train_generator(training, training)
    assert training.now < 26


def test_a_training_that_resumes_is_not_started_anew(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = study.pace(lambda: -1.0, lambda: 1.0)
    trainer = SimpleNamespace(max_steps=100, global_step=40, should_stop=False)
    callback.on_train_start(trainer)
    for step in range(41, 101):
        trainer.global_step = step
        callback.on_train_batch_end(trainer)
    assert not trainer.should_stop


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
