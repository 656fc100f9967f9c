"""Running the program as its users do, in this process where a fresh one is not the point."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from threadpoolctl import threadpool_limits

from svp_lightning.__main__ import config_folder, run

Run = Callable[..., Path]

# One process per core: pytest-xdist runs two, and threads of both would fight.
torch.set_num_threads(1)
threadpool_limits(limits=1, user_api="blas")


@pytest.fixture(scope="session")
def shared_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact folder per test process, so that the tiny generator is trained once."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture
def svp(
    tmp_path: Path, shared_artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Call ``svp("+experiment=x", "key=value")`` at ``scale=tiny`` on one CPU process."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "LOCAL_RANK", "WANDB_MODE", "SVP_LAUNCH_ID"):
        monkeypatch.delenv(name, raising=False)

    def call(*overrides: str) -> None:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            cfg = compose("config", overrides=tiny(shared_artifacts, *overrides))
        run(cfg)

    return call


def tiny(artifacts: Path, *overrides: str) -> list[str]:
    """Overrides for a run of seconds; later ones win."""
    chosen = ["trainer=cpu", f"paths.artifacts={artifacts}", "data.simulation.workers=0"]
    if not any(o.startswith("scale=") for o in overrides):
        chosen.append("scale=tiny")
    if any(o.startswith(("data=", "trainer=")) for o in overrides):
        dropped = tuple(
            k for k in ("data", "trainer") if any(o.startswith(f"{k}=") for o in overrides)
        )
        chosen = [o for o in chosen if not o.startswith(dropped)]
    return [*chosen, *overrides]


def fresh_process(
    folder: Path, *arguments: str, check: bool = True, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """``python -m svp_lightning`` in a process of its own, with two threads."""
    done = subprocess.run(
        [sys.executable, "-m", "svp_lightning", *arguments],
        cwd=folder,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    if check and done.returncode:
        pytest.fail(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def clean_environment() -> dict[str, str]:
    """The environment without what an earlier test or launcher left in it."""
    left = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    drop = {*left, "SVP_LAUNCH_ID", "WANDB_MODE", "PYTEST_CURRENT_TEST"}
    return {k: v for k, v in os.environ.items() if k not in drop} | {"OMP_NUM_THREADS": "1"}


def only_run(outputs: Path) -> Path:
    """The folder of the one run below ``outputs``."""
    found = [file.parent for file in outputs.rglob("results.json")]
    assert len(found) == 1, found
    return found[0]


def results(run_folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run_folder / "results.json").read_text())
    return values
