"""What this machine has for the cells of a sweep: cores, memory, accelerators."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.errors import CompactHydraException

from svp_lightning.errors import DistributedError

_UNCOUNTED = ("kfd", "dxg", "accel")
"""Devices of AMD, of Windows' Linux and of others: there may be one, or several."""


class LauncherError(DistributedError, CompactHydraException):
    """A sweep cannot be run as asked; Hydra prints the message without a traceback."""


def usable_cores() -> int:
    """Cores that this process may use."""
    affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1


def asked_threads() -> int:
    """Threads that the caller wants for each process (``OMP_NUM_THREADS``, also as ``4,2``)."""
    found = re.match(r"[1-9]\d*", os.environ.get("OMP_NUM_THREADS", ""))
    return int(found[0]) if found else 1


def free_gigabytes(root: Path = Path("/")) -> float:
    """Main memory that new processes can have, in GB; half of it where the system does not say."""
    found = []
    try:
        text = (root / "proc/meminfo").read_text()
        found += [int(kib) * 1024 for kib in re.findall(r"MemAvailable: *(\d+) kB", text)]
        group = root / "sys/fs/cgroup"  # a container's own limit; "max" without one
        limit = (group / "memory.max").read_text().strip()
        if limit.isdigit():
            cached = re.findall(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.M)
            used = int((group / "memory.current").read_text()) - sum(map(int, cached))
            found.append(int(limit) - used)
    except OSError:  # another system, or no limits
        pass
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(found, default=half) / 1e9


def cells_at_once(
    cells: int, processes: int, cell_gb: float, accelerators: int | None, threads: int
) -> int:
    """How many of ``cells`` run at once under ``parallel=auto``.

    One a GPU where there are any. Else one a core: two side by side train 1.2 to 1.3 times as fast
    as one after the other, and what surrounds training uses one core anyway (docs/speed.md).

    Args:
        cells: there are.
        processes: of a cell.
        cell_gb: main memory that a process is expected to take.
        accelerators: the cells may use; None where they cannot be counted.
        threads: that each process takes at least.
    """
    if accelerators is None:
        return 1
    room = [usable_cores() // threads, int(free_gigabytes() / cell_gb)]
    room += [accelerators] if accelerators else []
    return max(1, min(cells, *(one // processes for one in room)))


def device_groups(
    devices: Sequence[int] | None, parallel: int, visible: Sequence[str] | None
) -> list[str]:
    """``CUDA_VISIBLE_DEVICES`` of each of the cells that run at once.

    At most ``parallel`` groups of equal size, separate from one another; empty: leave the variable
    alone. ``devices`` are positions in ``visible`` (names as in ``CUDA_VISIBLE_DEVICES``, None if
    unknown); None for all.

    Raises:
        LauncherError: if ``devices`` names one that is not visible, one twice, or none.
    """
    if devices is None:
        chosen = list(visible or ()) if parallel > 1 else []
    else:
        named = [str(k) for k in range(max([*devices, 0]) + 1)] if visible is None else visible
        if not devices or len({*devices} & {*range(len(named))}) < len(devices):
            raise LauncherError(
                f"hydra.launcher.devices={list(devices)} is empty, names an accelerator twice, or "
                f"one that is not among the {len(named)} visible ones.",
                "Count each accelerator once, from 0 among the visible ones; null takes all.",
            )
        chosen = [named[k] for k in devices]
    size = max(1, len(chosen) // parallel)
    groups = min(parallel, len(chosen))
    return [",".join(chosen[group * size : (group + 1) * size]) for group in range(groups)]


def visible_devices(environ: Mapping[str, str], device_folder: Path) -> list[str] | None:
    """Names for ``CUDA_VISIBLE_DEVICES`` of what CUDA would find, without starting it.

    ``CUDA_VISIBLE_DEVICES`` decides if set; else ``device_folder`` (``/dev``) holds one
    ``nvidia<n>`` per device. The numbers may have gaps in a container, where CUDA still counts from
    0. None if neither source says anything.
    """
    if "CUDA_VISIBLE_DEVICES" in environ:
        names = [name.strip() for name in environ["CUDA_VISIBLE_DEVICES"].split(",")]
        return [name for name in names if name not in ("", "-1")]
    count = sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in device_folder.iterdir())
    return [str(position) for position in range(count)] or None


def accelerators_of(devices: Sequence[int] | None, visible: Sequence[str] | None) -> int | None:
    """How many of the ``visible`` accelerators the cells may use; None if that is not known."""
    if devices is not None:
        return len(devices)
    if visible is not None:
        return len(visible)
    uncounted = sys.platform != "linux" or any(Path("/dev", name).exists() for name in _UNCOUNTED)
    return None if uncounted else 0
