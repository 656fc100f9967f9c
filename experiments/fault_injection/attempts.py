"""Attempts at one small run: each a fork of this process, disturbed or not, and what it leaves."""

import hashlib
import importlib
import json
import os
import pkgutil
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure
from PIL import Image

import svp_lightning
from svp_lightning.__main__ import main as program
from svp_lightning.stages import generator_training

OVERRIDES = shlex.split("""
    +experiment=resnet18_aug_ratio_1x scale=tiny trainer=cpu classifier=resnet18_quarter
    'scale.counts.train={protein: 24, silicone_oil: 8, air_bubble: 8}'
    'scale.counts.val={protein: 12, silicone_oil: 6, air_bubble: 6}'
    'scale.counts.test={protein: 24, silicone_oil: 8, air_bubble: 8}'
    data.simulation.chunk_size=16 data.simulation.workers=0 generator.steps=12 sampler.batch_size=4
    classifier.steps=8 classifier.validate_every=2 paths.artifacts=artifacts paths.outputs=outputs
""")
"""Every stage takes several steps, so that each can be caught in the middle."""
NOT_RESULTS = ("costs", "provenance")
STAGES = ("store", "generator", "synthetic", "classifier")
DOTS_PER_INCH = 10
"""Of the figures, which take longer than all else at full resolution."""
TICK = os.sysconf("SC_CLK_TCK")
POLL_SECONDS = 0.005
FILE_ACTIONS = {"open", "os.rename", "os.remove", "os.mkdir"}


@dataclass(frozen=True)
class Ended:
    """How an attempt ended.

    ``status`` is negative for a signal; ``seconds`` are those of the processor; ``text`` is what
    was printed.
    """

    status: int
    seconds: float
    text: str

    @property
    def complains(self) -> bool:
        """Whether an error was printed."""
        return "Error: " in self.text or "Traceback" in self.text

    @property
    def error(self) -> str:
        """The sentence of the error, if that is all the user sees."""
        lines = [line for line in self.text.splitlines() if line.startswith("Error: ")]
        return lines[-1] if self.status == 1 and lines and "Traceback" not in self.text else ""


def load() -> None:
    """Import what a run needs, once for all attempts, and shorten what takes longest in it.

    Figures are drawn at a low resolution, and a generator leaves one blank picture.
    """
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(svp_lightning.__path__, "svp_lightning."):
        if not module.name.startswith("svp_lightning.web"):
            importlib.import_module(module.name)
    draw = Figure.savefig

    def coarse(*given: Any, **options: Any) -> None:
        draw(*given, **{**options, "dpi": DOTS_PER_INCH})

    patch.object(Figure, "savefig", coarse).start()
    patch.object(generator_training, "write_pictures", _write_blank_picture).start()


def _write_blank_picture(*given: Any) -> None:
    folder: Path = given[3]
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("L", (1, 1)).save(folder / "noise_to_image.png")


def attempt(
    folder: Path,
    *overrides: str,
    disturb: Callable[[], None] = lambda: None,
    stop: tuple[signal.Signals, float] | None = None,
) -> Ended:
    """Run the program in ``folder``; ``stop`` sends a signal after so many processor seconds."""
    with tempfile.TemporaryFile() as printed:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _run(folder, overrides, printed.fileno(), disturb)
        seconds, sent = 0.0, False
        while (ended := os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is None:
            seconds = _processor_seconds(child)
            if stop is not None and not sent and seconds >= stop[1]:
                os.kill(child, stop[0])
                sent = True
            time.sleep(POLL_SECONDS)
        assert ended is not None
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        printed.seek(0)
        return Ended(status, seconds, printed.read().decode(errors="replace"))


def _run(
    folder: Path, overrides: tuple[str, ...], output: int, disturb: Callable[[], None]
) -> None:
    status = 1
    try:
        os.chdir(folder)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv[1:] = [*OVERRIDES, *overrides]
        GlobalHydra.instance().clear()
        disturb()
        program()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def when(folder: Path, pattern: str, act: Callable[[], None]) -> None:
    """In this process, act once, at the first thing done to a file when all patterns match."""
    state = {"looking": False, "acted": False}

    def look(action: str, _: object) -> None:
        if action not in FILE_ACTIONS or state["looking"] or state["acted"]:
            return
        state["looking"] = True  # looking is itself an action
        if all(any(folder.glob(part)) for part in pattern.split()):
            state["acted"] = True
            act()
        state["looking"] = False

    sys.addaudithook(look)


def run_of(folder: Path) -> Path:
    """The folder of the results."""
    (run,) = folder.glob("outputs/aug_ratio/*_seed1_*")
    return run


def results_of(folder: Path) -> dict[str, str]:
    """Name -> hash of all that must be the same bit for bit: weights, images, tables, results."""
    found = {}
    for stage in ("store", "generator", "synthetic"):
        (place,) = (f for f in folder.glob(f"artifacts/{stage}/*") if f.is_dir() and not f.suffix)
        names = ("images.npy", "particles.parquet")
        for name in ("model.safetensors",) if stage == "generator" else names:
            found[f"{stage}/{name}"] = _sha256((place / name).read_bytes())
    run = run_of(folder)
    for file in sorted(
        [*run.glob("*.parquet"), *run.glob("*.safetensors"), run / "prevalence.csv"]
    ):
        found[file.name] = _sha256(file.read_bytes())
    found["classifier.ckpt"] = _weights(run / "classifier.ckpt")
    results = json.loads((run / "results.json").read_text())
    kept = {name: value for name, value in results.items() if name not in NOT_RESULTS}
    found["results.json"] = _sha256(json.dumps(kept, sort_keys=True).encode())
    found["report.html"] = str((run / "report.html").is_file())
    return found


def _weights(checkpoint: Path) -> str:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return _sha256(
        b"".join(name.encode() + value.numpy().tobytes() for name, value in state.items())
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stage_of(folder: Path) -> str:
    """Where a stopped attempt was."""
    if any(folder.glob("artifacts/classifier/*/artifact.json")):
        return "evaluate"
    for stage in reversed(STAGES):
        if any(folder.glob(f"artifacts/{stage}/*.partial")):
            return stage
    return "between"
