"""What a stage costs: wall, processor and GPU time of all attempts, kept while it runs."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from svp_lightning.errors import ArtifactError
from svp_lightning.runtime.files import json_object, write_json

CPU = "CPU"


class Clock:
    """Runs from its making, on top of what was spent ``before``.

    Processor time is that of this process and of the children it has waited for. GPU time is
    wall time times the ``processes`` where this one uses a GPU, so it counts a GPU that is held
    but idle.
    """

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self.processes = 1
        self._before = before or {}
        self._wall = time.monotonic()
        self._cpu = _cpu_seconds()

    def read(self) -> dict[str, float]:
        """``wall_seconds``, ``cpu_seconds`` and ``gpu_seconds`` so far."""
        wall = time.monotonic() - self._wall
        own = {
            "wall_seconds": wall,
            "cpu_seconds": max(0.0, _cpu_seconds() - self._cpu),
            "gpu_seconds": wall * self.processes * _on_gpu(),
        }
        return {name: round(own[name] + self._before.get(name, 0.0), 2) for name in own}


_running: dict[Path, tuple[Clock, Path]] = {}
"""Partial directory of each stage that this process builds -> its clock, and where it is kept."""


def keep_cost(partial: Path, processes: int = 1) -> None:
    """Record what the stage that fills ``partial`` has cost so far, in so many processes.

    Stages call it when they save a checkpoint, so a process that is killed loses only what came
    after. Work that has to be done again counts again. Does nothing where this process has no clock
    of that stage (the other ranks of a launch).
    """
    if partial in _running:
        clock, file = _running[partial]
        clock.processes = processes  # Lightning's WORLD_SIZE is gone when a training has ended
        with suppress(ArtifactError):  # a full disk is for the work itself to report
            write_json(file, clock.read())


@contextmanager
def running_clock(partial: Path, file: Path) -> Iterator[Clock]:
    """A clock that continues from the reading in ``file``, and leaves its own there."""
    clock = Clock(json_object(file))
    _running[partial] = clock, file
    try:
        yield clock
    finally:
        keep_cost(partial, clock.processes)
        del _running[partial]


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def device(processes: int = 1) -> str:
    """What this process computes on: ``"NVIDIA H100"``, ``"2 × CPU"`` as one of two processes."""
    name, torch = CPU, sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        name = torch.cuda.get_device_name()
    elif torch is not None and torch.backends.mps.is_available():
        name = "MPS" if torch.mps.current_allocated_memory() else CPU
    return name if processes == 1 else f"{processes} × {name}"


def _on_gpu() -> bool:
    torch = sys.modules.get("torch")  # without it no GPU can be in use
    return torch is not None and torch.cuda.is_initialized()
