"""Ranks and launches, as the environment gives them."""

import os
from collections.abc import Callable

import pytest

from svp_lightning.runtime.distributed import is_main_process, launch_id

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
