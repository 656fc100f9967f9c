"""Nobody is left behind: signals, and ranks that outlive their rank 0."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.svp_process_launcher import _processes
from tests.conftest import wait_until


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def processes_of(app: Any, cells: int) -> list[int]:
    """Process ids of ``cells`` started cells and their helpers, once all have started."""
    assert wait_until(lambda: len(app.started()) == cells)
    return [pid for pids in app.started().values() for pid in pids if pid is not None]


@pytest.mark.parametrize(
    ("signum", "parallel"), [(signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGHUP, 1)]
)
def test_signal_ends_all_processes(app: Any, signum: signal.Signals, parallel: int) -> None:
    process = app.start(
        *(
            "-m",
            "number=1,2,3",
            "endless=true",
            "helper=true",
            f"hydra.launcher.parallel={parallel}",
        )
    )
    pids = processes_of(app, parallel)
    assert len(pids) == 2 * parallel
    assert all(alive(pid) for pid in pids)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + signum
    assert not any(alive(pid) for pid in pids)
    assert f"0 finished, {parallel} failed, {3 - parallel} not started:" in errors
    assert "number=1: stopped" in errors


def test_a_cell_that_ignores_the_signal_is_killed_at_the_second(app: Any) -> None:
    main = app.folder / "app" / "__main__.py"
    main.write_text(
        "import os, signal\nif 'SVP_SWEEP_CELL' in os.environ: "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + main.read_text()
    )
    process = app.start("-m", "number=1", "endless=true", "helper=true")
    pids = processes_of(app, 1)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert time.monotonic() - started < 3
    assert not any(alive(pid) for pid in pids)


def test_ranks_left_by_a_failed_cell_are_ended_at_once(app: Any) -> None:
    done = app.run("-m", "number=1", "helper=true", "fail_at=1")
    assert done.returncode == 1
    ((_, helper),) = app.started().values()
    assert not alive(helper)


@pytest.mark.parametrize(("status", "grace"), [(0, 0.5), (3, 60.0)])
def test_ranks_that_outlive_rank_0_get_the_grace_or_if_it_failed_are_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, grace: float
) -> None:
    monkeypatch.setattr(_processes, "GRACE_SECONDS", grace)
    _processes.adopt_orphans()
    script = f"cd '{tmp_path}'; sleep 300 & echo $! > pid; exit {status}"
    leader = _processes.start(["sh", "-c", script], dict(os.environ), None)
    assert leader.wait() == status
    rank = int((tmp_path / "pid").read_text())
    assert alive(rank)
    started = time.monotonic()
    _processes.end(leader, signal.SIGTERM if status else None, [])
    took = time.monotonic() - started
    assert took < 30
    assert status or took >= grace
    assert wait_until(lambda: not alive(rank), 5)
