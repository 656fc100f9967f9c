"""A tiny Hydra program without torch; its cells record what they were given."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import json, os, subprocess, sys, time
from pathlib import Path
import hydra
from hydra._internal import utils
from omegaconf import OmegaConf

utils.is_under_debugger = lambda: False  # coverage looks like one; Hydra then shows tracebacks

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    started = time.time()
    print(f"this is cell {cfg.number}", flush=True)
    helper = subprocess.Popen(["sleep", "300"]).pid if cfg.helper else None
    Path("started").mkdir(exist_ok=True)
    Path("started", f"{cfg.number}.json").write_text(json.dumps([os.getpid(), helper]))
    if cfg.endless:
        time.sleep(300)
    time.sleep(cfg.sleep)
    if cfg.number == cfg.fail_at:
        raise RuntimeError(f"cell {cfg.number} is broken")
    if cfg.number == cfg.killed_at:
        os.kill(os.getpid(), 9)
    if cfg.objective is not None:
        Path(os.environ["SVP_CELL_RESULT"]).write_text(json.dumps({"objective": cfg.objective}))
    Path("records").mkdir(exist_ok=True)
    if memory := os.environ.get("SVP_SWEEP_MEMORY"):
        Path(memory, f"{cfg.number}.json").write_text("{}")
    record = {"config": OmegaConf.to_container(cfg), "environment": dict(os.environ),
              "memory": [memory, memory and sorted(os.listdir(memory))],
              "started": started, "ended": time.time()}
    Path("records", f"{cfg.number}.json").write_text(json.dumps(record))

if __name__ == "__main__":
    main()
"""

CONFIG = """
defaults: [_self_, {override hydra/launcher: process}]
number: 0
value: null
helper: false
endless: false
sleep: 0
fail_at: null
killed_at: null
objective: null
hydra: {run: {dir: .}, output_subdir: null, job_logging: {root: {handlers: []}}, sweep: {dir: out}}
"""


class App:
    """The program in ``folder``, as package ``app``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "app" / "conf").mkdir(parents=True)
        (folder / "app" / "__init__.py").touch()
        (folder / "app" / "__main__.py").write_text(PROGRAM)
        (folder / "app" / "conf" / "config.yaml").write_text(CONFIG)
        launchers = REPOSITORY / "conf" / "hydra" / "launcher"
        copied = shutil.copytree(launchers, folder / "app" / "conf" / "hydra" / "launcher")
        process = copied / "process.yaml"
        process.write_text(process.read_text().replace("parallel: auto", "parallel: 1"))

    def environment(self, **extra: str) -> dict[str, str]:
        """The test's own environment, with the plugin importable and what would steer it out."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "RANK", "LOCAL_RANK")
        }
        return kept | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{self.folder}"} | extra

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=self.folder,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_heed_signals,
            **options,
        )

    def run(
        self,
        *arguments: str,
        program: Sequence[str] = ("-m", "app"),
        timeout: float = 120,
        **extra: str,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=self.folder,
            env=self.environment(**extra),
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def records(self) -> dict[int, dict[str, Any]]:
        """By cell number, what the cells that came to their end have recorded."""
        return self._read("records")

    def started(self) -> dict[int, list[int | None]]:
        """By cell number, process ids of the started cells and of their helpers."""
        return self._read("started")

    def log(self, number: int, folder: str = "out") -> Path:
        """The log of a cell, by its place in the sweep."""
        (file,) = (self.folder / folder / "logs").glob(f"{number:03d}_????.log")
        return file

    def _read(self, folder: str) -> dict[int, Any]:
        files = (self.folder / folder).glob("*.json")
        return {int(file.stem): json.loads(file.read_text()) for file in files}


def _heed_signals() -> None:
    """A shell's background jobs ignore the first, what nohup starts the second, and pass it on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


@pytest.fixture
def sweeper_plugin(app: App) -> Callable[[str], None]:
    """Install a sweeper named ``stub`` whose ``sweep`` method has the given body."""

    def install(body: str) -> None:
        folder = app.folder / "hydra_plugins" / "stub_sweeper"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        indented = body.strip().replace("\n", "\n        ")
        (folder / "stub.py").write_text(f"""
from dataclasses import dataclass
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

@dataclass
class StubConf:
    _target_: str = "hydra_plugins.stub_sweeper.stub.Stub"

ConfigStore.instance().store(group="hydra/sweeper", name="stub", node=StubConf)

class Stub(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments):
        {indented}
""")

    return install
