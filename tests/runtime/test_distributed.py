"""Ranks and launches, as the environment gives them, and ranks that wait for nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from svp_lightning.errors import DataError, DistributedError
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.distributed import (
    LAUNCH_ID,
    is_main_process,
    launch_id,
    launched_tasks,
    note_failure,
    wait,
)

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "MASTER_PORT": "29500"}
ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
SRUN = {**ALLOCATION, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "study"}
SHELL = {**SRUN, "SLURM_JOB_NAME": "bash"}

Environment = Callable[..., None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Replace the environment by the given variables."""

    def replace(**variables: str) -> None:
        monkeypatch.setattr(os, "environ", dict(variables))

    return replace


@pytest.mark.parametrize("before", [{}, ALLOCATION, SHELL])
def test_a_process_that_lightning_starts_has_the_id_of_its_parent(
    environment: Environment, before: dict[str, str]
) -> None:
    environment(**before)
    own = launch_id()
    # What Lightning sets before it starts the others.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "4711", "NODE_RANK": "0"}
    assert launch_id() == own
    environment(**os.environ, LOCAL_RANK="1")
    assert launch_id() == own
    assert not is_main_process()


@pytest.mark.parametrize(
    ("variables", "tasks"),
    [
        ({}, None),
        (SHELL, None),
        (SRUN, 2),
        ({k: v for k, v in SRUN.items() if k != "SLURM_STEP_ID"}, 1),  # a script without srun
        ({**SRUN, **TORCHRUN, "WORLD_SIZE": "8"}, 8),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, None),  # Lightning's own
    ],
)
def test_tasks_of_a_launch(
    environment: Environment, variables: dict[str, str], tasks: int | None
) -> None:
    environment(**variables)
    assert launched_tasks() == tasks


@pytest.mark.parametrize("before", [{}, ALLOCATION, SHELL])
def test_two_commands_are_two_launches(environment: Environment, before: dict[str, str]) -> None:
    environment(**before)
    first = launch_id()
    environment(**before)
    assert launch_id() != first


def test_srun_tasks_agree_whoever_has_set_the_port(environment: Environment) -> None:
    environment(**SRUN)
    first = launch_id()
    environment(**{**SRUN, "SLURM_PROCID": "1", "MASTER_PORT": "15007"})
    assert launch_id() == first
    for changed in ({"SLURM_STEP_ID": "1"}, {"SLURM_RESTART_COUNT": "1"}):
        environment(**{**SRUN, **changed})
        assert launch_id() != first


def test_torchrun_workers_agree(environment: Environment) -> None:
    environment(**TORCHRUN, RANK="0", LOCAL_RANK="0", GROUP_RANK="0")
    first = launch_id()
    assert is_main_process()
    environment(**TORCHRUN, RANK="3", LOCAL_RANK="0", GROUP_RANK="1")
    assert launch_id() == first
    assert not is_main_process()


def test_nodes_started_by_hand_agree(environment: Environment) -> None:
    address = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4711"}
    environment(**address)  # the first may leave its number out
    first = launch_id()
    environment(**address, NODE_RANK="1")
    assert launch_id() == first


@pytest.mark.parametrize(
    ("variables", "main"),
    [
        ({}, True),
        ({"NODE_RANK": "1"}, False),
        ({"GROUP_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
        ({**SRUN}, True),
        ({**SRUN, "SLURM_PROCID": "1"}, False),
        ({**SRUN, "SLURM_PROCID": "2", "LOCAL_RANK": "0"}, False),
        ({**SHELL, "LOCAL_RANK": "1"}, False),
    ],
)
def test_one_process_of_a_launch_is_the_main_one(
    environment: Environment, variables: dict[str, str], main: bool
) -> None:
    environment(**variables)
    assert is_main_process() == main


Rank = Callable[..., None]


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch) -> Rank:
    """Make this process rank k of a launch by srun, as if it had just begun."""

    def become(k: int, **changed: str) -> None:
        monkeypatch.delenv(LAUNCH_ID, raising=False)
        for name, value in {**SRUN, "SLURM_PROCID": str(k), **changed}.items():
            monkeypatch.setenv(name, value)

    for name in ("RANK", "LOCAL_RANK", LAUNCH_ID):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return become


@pytest.mark.timeout(20)
@pytest.mark.parametrize("every_rank", [True, False])
def test_rank_stops_when_the_main_process_has_failed(
    rank: Rank, tmp_path: Path, every_rank: bool
) -> None:
    of_a_sweep = {"SVP_SWEEP_CELL": "2/12"}
    rank(0, **of_a_sweep)
    note_failure(tmp_path, DataError("image 3 is broken."))
    rank(1, **of_a_sweep)
    with pytest.raises(DistributedError, match=r"main process failed .*image 3 is broken"):
        ArtifactCache(tmp_path).build("store", {}, lambda _: None, every_rank)


def test_only_the_failure_of_the_own_launch_counts(rank: Rank, tmp_path: Path) -> None:
    rank(0)
    note_failure(tmp_path, DataError("image 3 is broken."))
    rank(1, SLURM_RESTART_COUNT="1")
    wait(tmp_path)


def test_followers_and_single_processes_leave_no_note(rank: Rank, tmp_path: Path) -> None:
    rank(1)
    note_failure(tmp_path, DataError("x"))
    rank(0, SLURM_JOB_NAME="bash")
    note_failure(tmp_path, DataError("x"))
    assert not list(tmp_path.iterdir())


def test_rank_ends_with_its_parent(tmp_path: Path) -> None:
    with pytest.raises(DistributedError, match="main process ended"):
        wait(tmp_path, parent=os.getppid() + 1)


CHILD = """
import time
from svp_lightning.runtime.distributed import end_with_main_process
end_with_main_process(grace_seconds=0.1)
print("started", flush=True)
time.sleep(60)
"""
MAIN = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
"""


def test_a_waiting_rank_ends_with_its_main_process() -> None:
    """The pipe of errors closes when both have ended."""
    start, rank = time.monotonic(), {**os.environ, LAUNCH_ID: "a", "LOCAL_RANK": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", MAIN, CHILD], capture_output=True, text=True, check=True, env=rank
    )
    assert ended.stderr == "\nError: The main process ended, so this one stops.\n"
    assert time.monotonic() - start < 50
