"""Several cells at once: their logs, their share of the machine, and the live table."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.svp_process_launcher import _cells
from hydra_plugins.svp_process_launcher._cells import (
    Cell,
    LauncherError,
    cells_at_once,
    device_groups,
    free_gigabytes,
    plan_cells,
    visible_devices,
)
from hydra_plugins.svp_process_launcher._processes import CellError
from hydra_plugins.svp_process_launcher._progress import Sweep


def test_runs_as_many_cells_at_once_as_asked_each_with_a_log(app: Any) -> None:
    done = app.run("-m", "number=1,2,3,4", "sleep=1.5", "fail_at=2", "hydra.launcher.parallel=2")
    assert done.returncode == 1
    records = app.records()
    assert sorted(records) == [1, 3, 4]
    for record in records.values():
        at_once = [r for r in records.values() if r["started"] <= record["started"] < r["ended"]]
        assert len(at_once) <= 2
    assert records[3]["started"] < records[4]["ended"]
    assert records[4]["started"] < records[3]["ended"]

    for number in (1, 2, 3, 4):
        log = app.log(number).read_text()
        assert [line for line in log.splitlines() if line.startswith("this is")] == [
            f"this is cell {number}"
        ]
    failed = done.stdout.index("[2/4] number=2 FAILED")
    log = app.log(2).relative_to(app.folder)
    assert f"{log} ends with:" in done.stdout
    assert "  | RuntimeError: cell 2 is broken" in done.stdout
    assert failed < done.stdout.index("[3/4] number=3 finished")  # said at once
    assert "this is cell 1" not in done.stdout
    assert f"  [2/4] number=2: exit status 1 ({log})" in done.stderr


def test_a_rerun_keeps_the_earlier_log_and_quotes_only_its_own_part(app: Any) -> None:
    def failing() -> str:
        return app.run("-m", "number=1", "fail_at=1", "hydra.launcher.parallel=2").stdout

    first, second = failing(), failing()
    assert first.count("cell 1 is broken") == second.count("cell 1 is broken")
    assert app.log(1).read_text().count("this is cell 1") == 2


def test_two_sweeps_of_a_study_have_logs_of_their_own(tmp_path: Path) -> None:
    """On two machines, say, where they would write to one file at the same time."""
    one, two, again = (plan_cells([[f"seed={seed}"]], [], 0, tmp_path)[0].log for seed in (1, 2, 1))
    assert one == again != two


def test_cells_share_devices_and_cores_and_inherit_no_ranks(app: Any) -> None:
    names = ("WORLD_SIZE", "NODE_RANK", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "WANDB_RUN_ID")
    stale = dict.fromkeys(names, "9")
    done = app.run(
        *("-m", "number=1,2", "sleep=1", "hydra.launcher.parallel=2"),
        CUDA_VISIBLE_DEVICES="4,5,6,GPU-f00",
        MY_OWN="kept",
        **stale,
    )
    assert done.returncode == 0, done.stderr
    environments = [record["environment"] for record in app.records().values()]
    assert sorted(e["CUDA_VISIBLE_DEVICES"] for e in environments) == ["4,5", "6,GPU-f00"]
    cores = len(os.sched_getaffinity(0))
    assert {e["OMP_NUM_THREADS"] for e in environments} == {str(max(1, cores // 2))}
    for environment in environments:
        assert not stale.keys() & environment.keys()
        assert environment["MY_OWN"] == "kept"


def test_one_cell_at_a_time_leaves_devices_and_threads_alone(app: Any) -> None:
    app.run("-m", "number=1", CUDA_VISIBLE_DEVICES="4,5", OMP_NUM_THREADS="3")
    environment = app.records()[1]["environment"]
    assert environment["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert environment["OMP_NUM_THREADS"] == "3"
    app.run("-m", "number=2", "hydra.launcher.devices=[1]", CUDA_VISIBLE_DEVICES="4,5")
    environment = app.records()[2]["environment"]
    assert environment["CUDA_VISIBLE_DEVICES"] == "5"
    assert "OMP_NUM_THREADS" not in environment


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing is shared")
def test_auto_trains_what_takes_long_first_with_all_cores_and_then_shares_them(app: Any) -> None:
    """The program's ``needs`` say which; a failure there is no failure of the sweep's cells."""
    main = app.folder / "app" / "__main__.py"
    main.write_text(
        "import types\n"
        "def needs(cells):\n"
        "    long = {n: ['value=first', f'number=1{c.number}'] for n, c in cells if c.number > 1}\n"
        "    return types.SimpleNamespace(accelerated=False, processes=1, first=long)\n"
        "def dry_run(cells, parallel, first): print('FORESEEN', len(cells), parallel, first)\n"
        + main.read_text()
    )
    auto = ("hydra.launcher.parallel=auto", "hydra.launcher.cell_gb=0.01")
    for numbers, first in (("1,2", True), ("2,3", False)):  # False: as many as places
        done = app.run("-m", f"number={numbers}", *auto, "hydra.launcher.dry_run=true")
        assert f"FORESEEN 2 2 {first}" in done.stdout
    done = app.run("-m", "number=1,2", "sleep=1", "fail_at=12", *auto)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("[2/2] number=2 value=first number=12 FAILED") < done.stdout.index(
        "[1/2] number=1 started"
    )
    records = app.records()
    threads = {n: record["environment"].get("OMP_NUM_THREADS") for n, record in records.items()}
    assert threads == dict.fromkeys((1, 2), str(len(os.sched_getaffinity(0)) // 2))
    assert records[2]["started"] < records[1]["ended"]
    assert "this is cell 12" in app.log(2).with_stem(f"{app.log(2).stem}_first").read_text()


@pytest.mark.parametrize(
    ("cells", "processes", "accelerators", "threads", "at_once"),
    [
        (5, 1, 0, 1, 5),
        (20, 1, 0, 1, 8),  # cores
        (20, 2, 0, 1, 4),
        (20, 1, 0, 3, 2),  # the caller's threads
        (20, 1, 4, 1, 4),
        (20, 3, 4, 1, 1),
        (20, 1, None, 1, 1),  # GPUs that cannot be counted
        (20, 9, 0, 1, 1),
    ],
)
def test_auto_runs_one_cell_a_gpu_or_core(
    monkeypatch: pytest.MonkeyPatch,
    cells: int,
    processes: int,
    accelerators: int | None,
    threads: int,
    at_once: int,
) -> None:
    monkeypatch.setattr(_cells, "usable_cores", lambda: 8)
    monkeypatch.setattr(_cells, "free_gigabytes", lambda: 20.0)
    assert cells_at_once(cells, processes, 2, accelerators, threads) == at_once
    assert cells_at_once(cells, 1, 10.5, accelerators, threads) == 1  # memory for one


def test_free_memory_is_that_of_the_container(tmp_path: Path) -> None:
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemFree: 1 kB\nMemAvailable:   8000000 kB\n")
    assert free_gigabytes(tmp_path) == 8.192
    (group / "memory.max").write_text("max\n")
    assert free_gigabytes(tmp_path) == 8.192
    (group / "memory.max").write_text("5000000000\n")
    (group / "memory.current").write_text("3000000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 1000000000\n")
    assert free_gigabytes(tmp_path) == 3.0
    assert free_gigabytes(tmp_path / "nothing") > 0


@pytest.mark.parametrize(
    ("devices", "parallel", "visible", "groups"),
    [
        (None, 1, ["0", "1"], []),
        (None, 2, None, []),
        (None, 2, ["0", "1"], ["0", "1"]),
        (None, 2, ["0", "1", "2", "3", "4"], ["0,1", "2,3"]),
        (None, 4, ["0", "1"], ["0", "1"]),  # taken in turns
        ([2, 0], 2, ["4", "5", "6"], ["6", "4"]),
        ([0, 1], 1, ["4", "5", "6"], ["4,5"]),
        ([3], 1, None, ["3"]),
    ],
)
def test_device_groups(
    devices: list[int] | None, parallel: int, visible: list[str] | None, groups: list[str]
) -> None:
    assert device_groups(devices, parallel, visible) == groups


@pytest.mark.parametrize("devices", [[2], [-1], [], [1, 1]])
def test_impossible_devices_are_refused(devices: list[int]) -> None:
    with pytest.raises(LauncherError, match="2 visible"):
        device_groups(devices, 1, ["0", "1"])


def test_visible_devices_are_found_without_cuda(tmp_path: Path) -> None:
    assert visible_devices({}, tmp_path) is None
    for name in ("nvidia3", "nvidia7", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert visible_devices({}, tmp_path) == ["0", "1"]
    assert visible_devices({"CUDA_VISIBLE_DEVICES": "2, MIG-a"}, tmp_path) == ["2", "MIG-a"]
    assert visible_devices({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert visible_devices({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == []


def test_terminal_shows_running_cells_and_their_last_lines(app: Any) -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "-m", "number=1,2", "sleep=2", "hydra.launcher.parallel=2"],
        cwd=app.folder,
        env=app.environment(TERM="xterm", COLUMNS="120"),
        stdout=end,
        stderr=end,
    )
    os.close(end)
    shown = b""
    try:
        while chunk := os.read(terminal, 65_536):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    assert process.wait(timeout=10) == 0
    assert b"this is cell 2" in shown  # in the table, from the log
    assert b"0 finished, 0 failed, 2 running, 0 waiting" in shown
    assert b"2 finished." in shown


def test_a_log_that_is_deleted_meanwhile_is_said_and_ends_no_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = Cell("[1/1] seed=1", "1/1", [], ["program"], log=tmp_path / "logs" / "001.log")
    sweep = Sweep([cell], [])
    sweep.begin(cell, "started")
    shutil.rmtree(tmp_path / "logs")

    def fail() -> float:
        raise CellError("exit status 1")

    sweep.settle(cell, fail)
    shown = capsys.readouterr().out
    assert "[1/1] seed=1 FAILED" in shown
    assert "No such file" in shown
