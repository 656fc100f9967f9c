"""What a piece of work costs: wall seconds, processor seconds, GPU seconds."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from svp_lightning.errors import ArtifactError
from svp_lightning.files import write_json

KEPT_EVERY_S = 5.0


class Clock:
    """Runs from its making, on top of what was spent ``before``.

    Processor time is that of this process and of the children it has waited for. GPU time is
    wall time times the processes of the launch where this one uses a GPU, so it counts a GPU
    that is held but idle.
    """

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._before = before or {}
        self._wall = time.monotonic()
        self._cpu = _cpu_seconds()

    def read(self) -> dict[str, float]:
        """``wall_seconds``, ``cpu_seconds`` and ``gpu_seconds`` so far."""
        wall = time.monotonic() - self._wall
        own = {
            "wall_seconds": wall,
            "cpu_seconds": max(0.0, _cpu_seconds() - self._cpu),
            "gpu_seconds": wall * _gpus(),
        }
        return {name: round(own[name] + self._before.get(name, 0.0), 2) for name in own}


@contextmanager
def kept_clock(file: Path) -> Iterator[Clock]:
    """A clock that goes on from the reading in ``file``, and leaves its own there.

    The reading is written every :data:`KEPT_EVERY_S`, so that of a process killed without a
    warning no more than that is lost. Work that has to be done again counts again.
    """
    clock = Clock(json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None)
    ended = Event()

    def keep() -> None:
        while not ended.wait(KEPT_EVERY_S):
            with suppress(ArtifactError):  # a full disk is for the work itself to report
                write_json(file, clock.read())

    keeper = Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield clock
    finally:
        ended.set()
        keeper.join()
        write_json(file, clock.read())


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _gpus() -> int:
    torch = sys.modules.get("torch")  # without it no GPU can be in use
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return int(os.environ.get("WORLD_SIZE", "1"))
