"""What a piece of work costs: wall seconds, processor seconds, GPU seconds."""

import os
import sys
import time


class Clock:
    """Runs from its making.

    Processor time is that of this process and of the children it has waited for. GPU time is
    wall time times the processes of the launch where this one uses a GPU, so it counts a GPU
    that is held but idle.
    """

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._cpu = _cpu_seconds()

    def read(self) -> dict[str, float]:
        """``wall_seconds``, ``cpu_seconds`` and ``gpu_seconds`` so far."""
        wall = time.monotonic() - self._wall
        return {
            "wall_seconds": round(wall, 2),
            "cpu_seconds": round(max(0.0, _cpu_seconds() - self._cpu), 2),
            "gpu_seconds": round(wall * _gpus(), 2),
        }


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _gpus() -> int:
    torch = sys.modules.get("torch")  # without it no GPU can be in use
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return int(os.environ.get("WORLD_SIZE", "1"))
