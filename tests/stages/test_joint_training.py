"""Processes that train as one, are refused, or end together."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
from torch.distributed import DistNetworkError

from svp_lightning.errors import DistributedError, SettingsError
from svp_lightning.stages.joint_training import require_divisible
from svp_lightning.stages.trainers import Trainers, fit
from tests import configured

SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "svp", "SLURM_NTASKS": "4",
        "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "1", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}  # fmt: skip
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0",
            "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "4"}  # fmt: skip
BATCH = {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"}
"""A script of sbatch that has no srun: one process, whatever the job has tasks."""


def make(monkeypatch: pytest.MonkeyPatch, launch: dict[str, str], **trainer: Any) -> pl.Trainer:
    """A trainer as a process of the launch would make it."""
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    settings = configured.changed(configured.tiny().trainer, trainer)
    return Trainers(settings, lambda _: []).make("Classifier")


@pytest.mark.parametrize("launch", [SRUN, TORCHRUN])
def test_tasks_that_would_each_train_alone_are_refused(
    monkeypatch: pytest.MonkeyPatch, launch: dict[str, str]
) -> None:
    with pytest.raises(DistributedError, match=r"4 tasks .* expects 1.*trainer=slurm"):
        make(monkeypatch, launch)
    ddp = {"devices": 4, "strategy": "ddp"}
    assert make(monkeypatch, launch, **ddp).world_size == 4


@pytest.mark.parametrize("launch", [{}, BATCH, SRUN | {"SLURM_NTASKS": "1"}])
def test_one_process_trains_alone(monkeypatch: pytest.MonkeyPatch, launch: dict[str, str]) -> None:
    assert make(monkeypatch, launch).world_size == 1


def test_a_script_that_lacks_srun_does_not_wait_for_the_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(DistributedError, match=r"1 task .* expects 4"):
        make(monkeypatch, BATCH, devices=4, strategy="ddp")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "2"}, "ntasks-per-node=2"),
        ({"SLURM_NNODES": "2"}, "nodes=2"),
    ],
)
def test_another_layout_of_the_same_tasks_is_refused(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        make(monkeypatch, SRUN | changed, devices=4, strategy="ddp")


def test_tasks_without_a_number_for_each_node_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = {k: v for k, v in SRUN.items() if k != "SLURM_NTASKS_PER_NODE"}
    with pytest.raises(SettingsError, match="--ntasks-per-node=4"):
        make(monkeypatch, launch)


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_processes_that_would_keep_the_weights_are_refused(
    monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    with pytest.raises(DistributedError, match=r"trainer\.strategy=ddp "):
        make(monkeypatch, {}, devices=2, strategy=strategy)


@pytest.mark.parametrize(
    "error", [RuntimeError("[gloo/pair.cc:547] Connection closed by peer"), DistNetworkError("eof")]
)
def test_the_end_of_another_process_is_one_message(error: RuntimeError, tmp_path: Path) -> None:
    def ends(*_: Any, **__: Any) -> None:
        raise error

    def train(processes: int) -> None:
        trainer: Any = SimpleNamespace(fit=ends, world_size=processes)
        fit(trainer, pl.LightningModule(), pl.LightningDataModule(), tmp_path, lambda: None)

    with pytest.raises(DistributedError, match="process"):
        train(processes=2)
    with pytest.raises(RuntimeError, match=str(error)[-3:]):
        train(processes=1)


def test_batch_that_cannot_be_divided_is_refused() -> None:
    require_divisible("generator.batch_size", 6, 2, parts=1)
    with pytest.raises(DistributedError, match=r"generator\.batch_size=7"):
        require_divisible("generator.batch_size", 7, 2, parts=1)
    require_divisible("generator.batch_size", 12, 2, parts=3)
    with pytest.raises(DistributedError, match=r"trainer\.accumulate.*multiple of 6"):
        require_divisible("generator.batch_size", 8, 2, parts=3)
