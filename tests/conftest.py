"""Running the program as its users do, in this process where a fresh one is not the point."""

import gc
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from svp_lightning.__main__ import configured, run
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.settings import config_folder
from tests.narrow import leave_out_pictures_of_generators, use_narrow_backbones
from tests.quick import STARTUP, save_blank

Run = Callable[..., Path]
LONG = {"test_architecture", "test_gpu_study", "test_notebooks", "test_sweep", "test_two_ranks"}

# One process per core: pytest-xdist runs two, and threads of both would fight.
torch.set_num_threads(1)
threadpool_limits(limits=1, user_api="blas")
gc.set_threshold(200_000, 20, 20)  # as the program does


read_config = ConfigRepository.load_config
read_before: dict[tuple[str, ...], bytes] = {}


def read_once(repository: ConfigRepository, config_path: str) -> ConfigResult | None:
    """A file of ``conf`` as it was read before: to read them is half of composing."""
    key = (config_path, *(source.path for source in repository.sources))
    if key not in read_before:
        read_before[key] = pickle.dumps(read_config(repository, config_path))
    found: ConfigResult | None = pickle.loads(read_before[key])
    return found


ConfigRepository.load_config = read_once  # type: ignore[method-assign]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that take long come first: none of them is left for the end."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish() -> None:
    """All that tests are made of stays: garbage is not looked for among it."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact folder per test process, so that the tiny generator is trained once."""
    return tmp_path_factory.mktemp("artifacts")


@dataclass(frozen=True)
class Program:
    """``svp("+experiment=x", "key=value")`` is a command at ``scale=tiny`` on one CPU process.

    Where the test is not marked ``draws``, figures are left blank and a generator leaves no
    pictures: they take most of the time of a run.
    """

    folder: Path
    artifacts: Path
    draws: bool
    captured: pytest.CaptureFixture[str]

    def __call__(self, *overrides: str) -> None:
        in_process(self.folder, self.artifacts, *overrides, draws=self.draws)

    def fails(self, *overrides: str) -> str:
        """The one sentence that says why a command is refused."""
        with pytest.raises(SystemExit) as error:
            self(*overrides)
        assert error.value.code == 1
        text = self.captured.readouterr().err.strip().splitlines()[-1]
        assert text.startswith("Error: ")
        return text

    def said(self) -> str:
        """What was printed since this was last asked, on one line."""
        return " ".join(self.captured.readouterr().out.split())

    @property
    def run(self) -> Path:
        """The folder of the one evaluated run."""
        return only_run(self.folder / "outputs")


@pytest.fixture
def svp(
    tmp_path: Path,
    shared_artifacts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Program:
    """The program, called in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return Program(tmp_path, shared_artifacts, "draws" in request.keywords, capsys)


@pytest.fixture
def svp_pipeline(
    tmp_path: Path, shared_artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Pipeline]:
    """The pipeline of ``scale=tiny`` with overrides; no loggers, no callbacks."""
    monkeypatch.chdir(tmp_path)
    use_narrow_backbones(monkeypatch)
    leave_out_pictures_of_generators(monkeypatch)

    def build(*overrides: str) -> Pipeline:
        return Pipeline(configured(*tiny(shared_artifacts, *overrides)), tmp_path / "run")

    return build


def in_process(folder: Path, artifacts: Path, *overrides: str, draws: bool = False) -> None:
    """What ``python -m svp_lightning`` does, called in ``folder``, without starting a process.

    Its classifiers are narrow: a fresh process cannot read those in ``artifacts``.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        use_narrow_backbones(patch)
        if not draws:
            patch.setattr(Figure, "savefig", save_blank)
            leave_out_pictures_of_generators(patch)
        for name in ("RANK", "LOCAL_RANK", "SVP_LAUNCH_ID"):
            patch.delenv(name, raising=False)
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            cfg = compose("config", overrides=tiny(artifacts, *overrides))
        run(cfg)


def tiny(artifacts: Path, *overrides: str) -> list[str]:
    """Overrides for a run of seconds; later ones win."""
    chosen = ["trainer=cpu", f"paths.artifacts={artifacts}", "data.simulation.workers=0"]
    if not any(o.startswith("scale=") for o in overrides):
        # Validated once, at the end: every validation also writes a checkpoint of 45 MB.
        chosen += ["scale=tiny", "classifier.validate_every=${classifier.steps}"]
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


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether the condition comes true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def clean_environment() -> dict[str, str]:
    """The environment without what an earlier test or launcher left in it; runs are quick."""
    left = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    drop = {*left, "SVP_LAUNCH_ID", "WANDB_MODE", "PYTEST_CURRENT_TEST"}
    drop.add("PYTHONDONTWRITEBYTECODE")  # they compile the package once, not each of them
    path = os.pathsep.join(
        [str(STARTUP), str(STARTUP.parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    kept = {k: v for k, v in os.environ.items() if k not in drop}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path.rstrip(os.pathsep)}


def only_run(outputs: Path) -> Path:
    """The folder of the one run below ``outputs``."""
    found = [file.parent for file in outputs.rglob("results.json")]
    assert len(found) == 1, found
    return found[0]


def results(run_folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run_folder / "results.json").read_text())
    return values
