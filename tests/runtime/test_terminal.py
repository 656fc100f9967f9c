"""Progress where nobody watches, and what libraries say."""

import logging
from types import SimpleNamespace

from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from svp_lightning.runtime.terminal import LAUNCHER_LOG, bar, counting


def test_a_log_gets_a_line_at_most_every_tenth(capfd):
    with counting("Sampling", 1000) as advance:
        for _ in range(1000):
            advance(1)
    lines = capfd.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 10
    assert [line for line in lines if "1000/1000" in line] == lines[-1:]
    assert not any("\r" in line for line in lines)


def test_work_that_stops_early_says_how_far_it_came(capfd):
    with bar("Training", 10, " steps") as shown:
        shown.update(3)
    assert "3/10" in capfd.readouterr().err.splitlines()[-1]


def test_lightning_is_quiet_once_trainers_are_made(svp_pipeline):
    _ = svp_pipeline().trainers
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    assert not log.isEnabledFor(logging.INFO)


def test_the_end_of_a_process_is_said_before_all_are_killed(svp_pipeline, capfd):
    _ = svp_pipeline().trainers
    processes = [SimpleNamespace(poll=lambda: 0, returncode=code, pid=7) for code in (0, -9)]
    watching = _ChildProcessObserver(main_pid=0, child_processes=processes)
    watching._terminate_all = lambda: None
    assert watching._run()
    said = capfd.readouterr().err
    assert "Process 2 ended with status -9, so all others are stopped." in said
    assert said.count("\n") == 2
    assert LAUNCHER_LOG.isEnabledFor(logging.INFO)
