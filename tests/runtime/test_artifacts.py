"""Stage outputs: built once, whole, resumed, checked, and what they cost."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from svp_lightning.errors import ArtifactError, SettingsError
from svp_lightning.runtime.artifacts import (
    RECORD,
    STAGE_VERSIONS,
    ArtifactCache,
    cost_of,
    partial_path,
)
from svp_lightning.runtime.clock import Clock, device, keep_cost

IDENTITY = {"a": 1, "b": [1.5, "x"]}


def make(folder: Path) -> None:
    (folder / "out.txt").write_text("made")


def test_builds_once(tmp_path: Path) -> None:
    cache, calls = ArtifactCache(tmp_path), []
    for _ in range(2):
        path = cache.build("store", IDENTITY, lambda f: (calls.append(f), make(f)))
    assert len(calls) == 1
    assert (path / "out.txt").read_text() == "made"
    assert not partial_path(path).exists()


def test_what_matters_is_in_the_key_and_order_is_not(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    assert cache.path("store", {"a": 1, "b": 2}) == cache.path("store", {"b": 2, "a": 1})
    assert cache.path("store", {"a": 1}) != cache.path("store", {"a": 2})
    assert cache.path("store", {"a": 1}).name != cache.path("generator", {"a": 1}).name


def test_what_an_earlier_version_of_a_stage_made_is_not_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ArtifactCache(tmp_path)
    path = cache.build("store", IDENTITY, make)
    assert list(cache.finished("store")) == [(path, IDENTITY)]
    monkeypatch.setitem(STAGE_VERSIONS, "store", STAGE_VERSIONS["store"] + 1)
    assert list(cache.finished("store")) == []


def crash(folder: Path) -> None:
    (folder / "half").write_text("1")
    raise RuntimeError("power cut")


def refuse(folder: Path) -> None:
    (folder / "other").write_text("1")
    raise SettingsError("no such device.")


def test_wrong_input_leaves_nothing_and_costs_nothing_that_was_done(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    partial = partial_path(cache.path("store", IDENTITY))
    with pytest.raises(SettingsError):
        cache.build("store", IDENTITY, refuse)
    assert not partial.exists()
    with pytest.raises(RuntimeError):
        cache.build("store", IDENTITY, crash)
    with pytest.raises(SettingsError):
        cache.build("store", IDENTITY, refuse)
    assert (partial / "half").read_text() == "1"
    assert (cache.build("store", IDENTITY, make) / "half").exists()

    def trained_then_refused(folder: Path) -> None:
        (folder / "last.ckpt").write_text("weights")
        refuse(folder)

    with pytest.raises(SettingsError):
        cache.build("store", {"late": 1}, trained_then_refused)
    assert (partial_path(cache.path("store", {"late": 1})) / "last.ckpt").read_text() == "weights"


def test_cost_of_what_was_deleted_is_forgotten(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    with pytest.raises(RuntimeError):
        cache.build("store", IDENTITY, lambda folder: (time.sleep(0.5), crash(folder))[1])
    shutil.rmtree(partial_path(cache.path("store", IDENTITY)))
    cost = cost_of(cache.build("store", IDENTITY, make))
    assert cost is not None
    assert cost["wall_seconds"] < 0.5


@pytest.mark.parametrize("damage", ["delete", "truncate", "change", "record", "foreign"])
def test_damaged_or_foreign_artifact_is_refused_or_rebuilt(tmp_path: Path, damage: str) -> None:
    cache = ArtifactCache(tmp_path)
    path = cache.build("store", IDENTITY, make)
    if damage == "delete":
        (path / "out.txt").unlink()
    elif damage == "truncate":
        (path / "out.txt").write_text("m")
    elif damage == "change":
        (path / "out.txt").write_text("fade")
    elif damage == "record":
        (path / RECORD).write_text("{")
    else:
        record = json.loads((path / RECORD).read_text())
        (path / RECORD).write_text(json.dumps(record | {"identity": {"a": 2}}))
    file = RECORD if damage in ("record", "foreign") else "out.txt"
    with pytest.raises(ArtifactError, match=rf"{file} .*artifacts=rebuild"):
        cache.build("store", IDENTITY, make)
    rebuilding = ArtifactCache(tmp_path, rebuild=True)
    assert rebuilding.build("store", IDENTITY, make) == path
    assert cache.build("store", IDENTITY, crash) == path  # whole, so it is not made a third time
    assert len(list(path.parent.glob("*.damaged-*"))) == 1
    assert [found for found, _ in cache.finished("store")] == [path]


@pytest.mark.parametrize("name", ["../../elsewhere.txt", "/dev/null"])
def test_a_record_of_files_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    path = cache.build("store", IDENTITY, make)
    (path / "../../elsewhere.txt").write_text("made")
    record = json.loads((path / RECORD).read_text())
    record["files"] = {name: record["files"]["out.txt"]}
    (path / RECORD).write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match=f"'{name}' is no file in"):
        cache.build("store", IDENTITY, make)


def test_rebuilding_keeps_what_is_whole(tmp_path: Path) -> None:
    path = ArtifactCache(tmp_path).build("store", IDENTITY, make)
    assert ArtifactCache(tmp_path, rebuild=True).build("store", IDENTITY, crash) == path


def test_a_read_only_disk_can_be_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArtifactCache(tmp_path)
    path = cache.build("store", IDENTITY, make)
    path.with_suffix(".lock").unlink()

    def read_only(lock: FileLock, **_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), lock.lock_file)

    monkeypatch.setattr(FileLock, "acquire", read_only)
    for reading in (cache, ArtifactCache(tmp_path, rebuild=True)):
        assert reading.build("store", IDENTITY, crash) == path
    with pytest.raises(ArtifactError, match=r"\.lock cannot be written \(Read-only file system\)"):
        cache.build("store", {"missing": 1}, make)
    assert list(path.parent.iterdir()) == [path]


def test_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ArtifactError, match="No space left"):
        ArtifactCache(tmp_path).build("store", IDENTITY, fill)


def _slow(folder: Path) -> None:
    with (folder / "count").open("a") as file:
        file.write("x")
    time.sleep(0.5)


def _build_slowly(root: Path) -> None:
    ArtifactCache(root).build("store", IDENTITY, _slow)


def test_two_processes_build_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_build_slowly, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0]
    path = ArtifactCache(tmp_path).path("store", IDENTITY)
    assert (path / "count").read_text() == "x"


UNGUARDED = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from svp_lightning.runtime.artifacts import ArtifactCache

def make(folder):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(print).result()

ArtifactCache(Path("cache")).build("store", {}, make)
"""


def test_a_script_that_starts_processes_unguarded_fails_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "Put what the script runs below `if __name__ == '__main__':`" in ended.stderr


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_build_slowly, args=(tmp_path,))
    process.start()
    path = ArtifactCache(tmp_path).path("store", IDENTITY)
    count = partial_path(path) / "count"
    while not (count.exists() and count.read_text() == "x"):
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not path.exists()
    _build_slowly(tmp_path)
    assert (path / "count").read_text() == "xx"  # the second attempt resumed in the same folder


def test_other_ranks_follow_the_main_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ArtifactCache(tmp_path)
    path = cache.build("store", IDENTITY, make)
    monkeypatch.setenv("RANK", "1")

    def never(_: Path) -> None:
        raise AssertionError("a finished artifact is not made again")

    assert cache.build("store", IDENTITY, never, every_rank=True) == path


def test_reads_wall_and_processor_time() -> None:
    running = Clock()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    read = running.read()
    assert read["wall_seconds"] >= 0.05
    assert read["cpu_seconds"] >= 0.04  # the kernel counts in ticks of 10 ms
    assert read["gpu_seconds"] == 0


def test_counts_children_and_the_gpus_of_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "times", lambda: os.times_result((1.0, 2.0, 3.0, 4.0, 0.0)))
    running = Clock()
    monkeypatch.setattr(os, "times", lambda: os.times_result((2.0, 4.0, 7.0, 12.0, 9.0)))
    assert running.read()["cpu_seconds"] == 15

    cuda = SimpleNamespace(is_initialized=lambda: True, get_device_name=lambda: "NVIDIA H100")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(time, "monotonic", iter([100.0, 102.0, 103.0]).__next__)
    running = Clock()
    assert running.read()["gpu_seconds"] == 2
    assert device() == "NVIDIA H100"
    running.processes = 4
    assert running.read()["gpu_seconds"] == 12
    assert device(4) == "4 × NVIDIA H100"


def test_cost_of_a_stage_counts_all_its_attempts(tmp_path: Path) -> None:
    """One killed after its checkpoint, whose record is all that it leaves, and one that ends."""
    cache = ArtifactCache(tmp_path)
    path = cache.path("store", {})
    kept = path.with_suffix(".cost.json")

    def make(folder: Path) -> None:
        assert not kept.exists()
        keep_cost(folder)
        assert json.loads(kept.read_text())["wall_seconds"] < 10
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.build("store", {}, make)
    kept.write_text(json.dumps({"wall_seconds": 100.0, "cpu_seconds": 30.0, "gpu_seconds": 7.0}))
    assert cache.build("store", {}, lambda folder: None) == path
    cost = cost_of(path)
    assert cost is not None
    assert 100 <= cost["wall_seconds"] < 110
    assert 30 <= cost["cpu_seconds"] < 40
    assert cost["gpu_seconds"] == 7
    assert not kept.exists()


def test_nothing_is_recorded_of_a_stage_that_another_process_builds(tmp_path: Path) -> None:
    keep_cost(tmp_path / "store" / "1234.partial")
    assert not list(tmp_path.iterdir())
