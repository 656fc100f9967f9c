"""Sweeps: one generator for all cells, finished cells skipped, failures reported and survived."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from svp_lightning.__main__ import configured
from svp_lightning.config import Config
from svp_lightning.data.store import Store
from svp_lightning.preflight import Part, forecast, missing_parts, needs, show
from svp_lightning.runtime.artifacts import ArtifactCache, cost_of
from svp_lightning.runtime.clock import CPU
from svp_lightning.stages.past_outputs import OTHER_GPU
from tests.conftest import clean_environment, fresh_process, in_process, results, tiny

NOTES_WHO_HASHES = """
import os, sys

def note(action, given):
    if action == "open" and str(given[0]).endswith("images.npy"):
        frame = sys._getframe()
        while frame and frame.f_code.co_name != "sha256_of_file":
            frame = frame.f_back
        if frame:
            with open(os.environ["HASHED"], "a") as file:
                file.write(f"{os.getpid()} {given[0]}\\n")

sys.addaudithook(note)

from tests.quick import install
install()
"""
"""Python runs it at the start of each process, as ``sitecustomize``."""
GRID = ("+experiment=paper_grid", "classifier=resnet18", "seed=1,2", "augmentation.ratio=1")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    overrides = tiny(folder / "artifacts", *GRID, "hydra.launcher.cell_gb=0.1")
    (folder / "sitecustomize.py").write_text(NOTES_WHO_HASHES)
    path = os.pathsep.join([str(folder), clean_environment()["PYTHONPATH"]])
    hashed = {"PYTHONPATH": path, "HASHED": str(folder / "hashed.txt")}
    said = fresh_process(folder, "-m", *overrides, **hashed).stdout
    cores = len(os.sched_getaffinity(0))
    assert said.count("task=train_generator finished in") == (cores > 1)  # once, before the cells
    return folder


def test_cells_at_once_share_one_generator_and_one_pool(grid: Path) -> None:
    found = [results(file.parent) for file in grid.rglob("results.json")]
    assert sorted((r["seed"], r["augmentation"]["ratio"]) for r in found) == [(1, 1), (2, 1)]
    for stage, count in {"store": 1, "generator": 1, "synthetic": 1, "classifier": 2}.items():
        assert len(list((grid / "artifacts" / stage).glob("*/artifact.json"))) == count


def test_a_store_is_hashed_by_the_process_that_makes_it_and_by_no_other(grid: Path) -> None:
    hashed = [line.split() for line in (grid / "hashed.txt").read_text().splitlines()]
    by = {process for process, file in hashed if "/store/" in file}
    assert len(by) == 1


def test_second_call_does_only_what_is_missing(grid: Path) -> None:
    found = sorted(grid.rglob("results.json"))
    written = [file.stat().st_mtime_ns for file in found]
    overrides = tiny(grid / "artifacts", *GRID, "hydra.launcher.parallel=1")
    done = fresh_process(grid, "-m", *overrides)
    assert done.stdout.count("Already finished") == 2
    assert [file.stat().st_mtime_ns for file in found] == written


def test_dry_run_foresees_what_the_second_call_does(grid: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in grid.glob("artifacts/**/*")}
    dry = ("hydra.launcher.dry_run=true", "seed=1,2,3")
    done = fresh_process(grid, "-m", *tiny(grid / "artifacts", *GRID, *dry))
    assert done.stdout.count("nothing: finished") == 2
    assert "3 cells, 2 finished" in done.stdout
    assert "To do on CPU: " in done.stdout
    assert "GB free." in done.stdout
    assert "Warning" not in done.stdout
    assert before == {file: file.stat().st_mtime_ns for file in grid.glob("artifacts/**/*")}


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ((), []),
        (("seed=3",), ["classifier", "test"]),
        (("sampler.seed=5",), ["pool", "classifier", "test"]),
        (("generator.seed=5",), ["generator", "pool", "classifier", "test"]),
        (("augmentation=none",), ["classifier", "test"]),
        (("data.seed=5", "augmentation=none"), ["store", "classifier", "test"]),
        (("augmentation=simulated_matched",), ["microscopes", "pool", "classifier", "test"]),
        (("task=train_generator",), []),
        (("task=train_generator", "pretraining=simulated"), []),
        (
            ("pretraining=simulated",),
            ["pretraining_store", "pretrained", "classifier", "test"],
        ),
    ],
)
def test_only_what_a_change_touches_is_foreseen(
    grid: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...], missing: list[str]
) -> None:
    monkeypatch.chdir(grid)
    one = [word.replace("seed=1,2", "seed=1") for word in GRID]
    config = configured(*tiny(grid / "artifacts", *one, *changes))
    assert [part.name for part in missing_parts(config)] == missing


def test_before_there_is_a_store_a_forecast_needs_no_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("generator_training", "classifier_training", "simulated_pools"):
        monkeypatch.setitem(sys.modules, f"svp_lightning.stages.{name}", None)
    config = configured(*tiny(tmp_path / "artifacts", *GRID[:2], GRID[3]))
    found = [part.name for part in missing_parts(config)]
    assert found == ["store", "generator", "pool", "classifier", "test"]
    assert needs({"cell": config}).first == {"cell": ["task=train_generator"]}


def test_repetitions_with_few_real_images_share_the_store_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seeds = [("+experiment=paper_grid", "data.rare_images=5", f"seed={seed}") for seed in (1, 2)]
    parts = [missing_parts(configured(*tiny(tmp_path / "artifacts", *one))) for one in seeds]
    same = [one.name for one, other in zip(*parts, strict=True) if one.key == other.key]
    assert same == ["store"]
    assert "generator" in [part.name for part in parts[0]]


def test_a_foreseen_pool_holds_the_images_that_are_drawn(
    grid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(grid)
    one = [word.replace("seed=1,2", "seed=1") for word in GRID]
    config = configured(*tiny(grid / "artifacts", *one, "sampler.seed=5"))
    (pool,) = grid.glob("artifacts/synthetic/*/manifest.json")
    drawn = Store.open(pool.parent)
    # What another process draws at the moment is not waited for.
    monkeypatch.setattr(ArtifactCache, "lock", lambda *_: pytest.fail("waits for a lock"))
    assert missing_parts(config)[0].images == len(drawn)


def test_a_task_that_is_not_foreseen_is_not_called_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show([("[1/1]", configured(*tiny(tmp_path / "artifacts", "task=ingest")))], parallel=1)
    said = capsys.readouterr().out
    assert "not foreseen for task=ingest" in said
    assert "1 cell, 0 finished" in said


def test_a_damaged_run_costs_no_forecast(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(grid)
    cut = grid / "outputs" / "paper_grid" / "cut"
    cut.mkdir()
    (cut / "results.json").write_text("{")
    config = configured(*tiny(grid / "artifacts", "augmentation=none"))
    seconds, _ = forecast(Part("test", "", 100, "resnet18"), config, CPU)
    (cut / "results.json").unlink()
    cut.rmdir()
    assert seconds is not None
    assert seconds > 0


def test_forecast_is_the_time_per_image_of_finished_outputs(
    grid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(grid)
    config = configured(*tiny(grid / "artifacts", "augmentation=none"))
    short, long = (
        forecast(Part("classifier", "", images, "resnet18"), config, CPU) for images in (100, 300)
    )
    assert short[0] is not None
    assert long[0] == pytest.approx(3 * short[0])
    assert long[1] == short[1]  # weights do not grow
    assert forecast(Part("classifier", "", 100, "resnet50"), config, CPU) == (None, None)


@pytest.fixture
def first_cell(grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The grid as it was when the cell of seed 1 had run; the rest of it is in ``later``."""
    folder = tmp_path / "grid"
    shutil.copytree(grid, folder, copy_function=os.link)
    (tmp_path / "later").mkdir()
    classifiers = folder.glob("artifacts/classifier/*/artifact.json")
    for file in [*classifiers, *folder.rglob("results.json")]:
        found = json.loads(file.read_text())
        if found.get("identity", found)["seed"] == 2:
            name = "test" if file.name == "results.json" else "classifier"
            shutil.move(file.parent, tmp_path / "later" / name)
    monkeypatch.chdir(folder)
    return folder


def second_cell(first_cell: Path) -> Config:
    one = [word.replace("seed=1,2", "seed=2") for word in GRID]
    return configured(*tiny(first_cell / "artifacts", *one))


def test_one_finished_cell_foretells_what_another_took(first_cell: Path) -> None:
    config, later = second_cell(first_cell), first_cell.parent / "later"
    parts = {part.name: part for part in missing_parts(config)}
    cost = cost_of(later / "classifier")
    assert cost is not None
    took = {"classifier": cost} | {"test": results(later / "test")["costs"]["test"]}
    assert parts.keys() == took.keys()
    for name, part in parts.items():
        seconds, size = forecast(part, config, CPU)
        assert seconds is not None
        assert 0.1 < seconds / took[name]["wall_seconds"] < 10
        held = sum(file.stat().st_size for file in (later / name).rglob("*") if file.is_file())
        assert size == pytest.approx(held, rel=0.1)


@pytest.mark.parametrize(("parallel", "total"), [(1, "7 min"), (2, "6 min"), (8, "6 min")])
def test_cells_share_the_time_but_of_generators_and_the_longest_cell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    parallel: int,
    total: str,
) -> None:
    seconds = [{"store": 100, "classifier": 50}, {"generator": 200, "test": 50}]
    todo = [[Part(name, name, took, None) for name, took in cell.items()] for cell in seconds]
    monkeypatch.setattr("svp_lightning.preflight.missing_parts", lambda _: todo.pop(0))
    monkeypatch.setattr("svp_lightning.preflight.forecast", lambda part, *_: (part.images, 0))
    config = configured(*tiny(tmp_path / "artifacts"))
    show([("[1/2]", config), ("[2/2]", config)], parallel)
    assert f"To do on CPU: {total} with {parallel} at a time." in capsys.readouterr().out


@pytest.mark.parametrize(("first", "total"), [(False, "60 min"), (True, "5.0 h")])
def test_generators_take_their_time_side_by_side_unless_they_are_trained_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    first: bool,
    total: str,
) -> None:
    todo = [[Part("generator", key, 3600, None)] for key in "12345"]
    monkeypatch.setattr("svp_lightning.preflight.missing_parts", lambda _: todo.pop())
    monkeypatch.setattr("svp_lightning.preflight.forecast", lambda part, *_: (part.images, 0))
    config = configured(*tiny(tmp_path / "artifacts"))
    show([(f"[{k}/5]", config) for k in range(1, 6)], 5, first)
    assert f"To do on CPU: {total} with 5 at a time." in capsys.readouterr().out


def test_times_of_a_gpu_foretell_no_cpu(
    first_cell: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (record,) = first_cell.glob("artifacts/classifier/*/artifact.json")
    made = json.loads(record.read_text())
    assert made["device"] == CPU
    record.unlink()  # a link to that of the grid
    record.write_text(json.dumps(made | {"device": "NVIDIA H100"}))
    config = second_cell(first_cell)
    training = missing_parts(config)[0]
    on_cpu, on_gpu, on_others = (
        forecast(training, config, device) for device in (CPU, "NVIDIA H100", OTHER_GPU)
    )
    assert on_cpu[0] is None
    assert on_gpu[0] is not None
    assert on_gpu == on_others == (on_gpu[0], on_cpu[1])
    show([("[1/1]", config)], parallel=1)
    assert "nothing like it was made on CPU: classifier." in capsys.readouterr().out


@pytest.mark.parametrize(("gigabytes", "warned"), [(1e-6, True), (1, False)])
def test_a_disk_that_is_too_small_is_named(
    first_cell: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gigabytes: float,
    warned: bool,
) -> None:
    usage = SimpleNamespace(free=round(gigabytes * 1e9))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    show([("[1/1]", second_cell(first_cell))], parallel=1)
    said = capsys.readouterr().out
    assert ("Warning: that does not suffice." in said) == warned
    assert said.count("GB needed") == 1  # both folders are on one disk


def test_what_was_never_made_has_a_size_where_the_images_say_so(tmp_path: Path) -> None:
    config = configured(*tiny(tmp_path / "artifacts", "augmentation=none"))
    assert config.data.image_size is not None
    seconds, size = forecast(Part("store", "", 100, None), config, CPU)
    assert (seconds, size) == (None, 100 * config.data.image_size**2)


def test_report_covers_the_study(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_process(grid, grid / "artifacts", "task=report", "study=paper_grid", draws=True)
    folder = grid / "outputs" / "paper_grid"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "ResNet-18" in page
    assert (folder / "table.csv").read_text().count("\n") == 2
    assert str(Path("outputs") / "paper_grid" / "report.html") in capsys.readouterr().out


def test_failed_cell_is_reported_and_others_run(tmp_path: Path) -> None:
    overrides = tiny(tmp_path / "artifacts", "task=ingest", "data.image_size=50,16")
    done = fresh_process(tmp_path, "-m", *overrides, check=False)
    assert done.returncode == 1
    assert "image_size" in done.stderr + done.stdout
    assert len(list(tmp_path.glob("artifacts/store/*/manifest.json"))) == 1
