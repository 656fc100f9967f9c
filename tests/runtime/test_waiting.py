"""Ranks that wait for a main process which never delivers."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from svp_lightning.errors import DataError, DistributedError
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.distributed import LAUNCH_ID, note_failure, wait

Rank = Callable[..., None]
SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "study"}


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
    rank(0)
    note_failure(tmp_path, DataError("image 3 is broken."))
    rank(1)
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
