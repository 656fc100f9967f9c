"""What a cell finds in its environment: its share of the machine and nothing stale."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.errors import CompactHydraException

from svp_lightning.errors import DistributedError

# Left over from a distributed job, these would make a cell wait for ranks that never come;
# a run id from the caller would merge the W&B runs of all cells.
_STALE = re.compile(
    r"^(RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|NODE_RANK|GROUP_RANK|GROUP_WORLD_SIZE"
    r"|ROLE_RANK|ROLE_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|TORCHELASTIC_.*"
    r"|PL_GLOBAL_SEED|PL_SEED_WORKERS|SVP_LAUNCH_ID|WANDB_RUN_ID)$"
)


class LauncherError(DistributedError, CompactHydraException):
    """A sweep cannot be run as asked; Hydra prints the message without a traceback."""


def refuse_inside_distributed_job(environ: Mapping[str, str]) -> None:
    """A sweep belongs in one process: every rank would run all of its cells.

    Raises:
        LauncherError: if a rank is set in ``environ``.
    """
    for name in ("LOCAL_RANK", "RANK"):
        if name in environ:
            raise LauncherError(
                f"This sweep was started inside a distributed job ({name}={environ[name]}).",
                "Start it as one process, without torchrun; each cell starts its own ranks "
                f"(trainer.devices). If {name} is a leftover, unset it.",
            )


def cell_environment(environ: Mapping[str, str], parallel: int) -> dict[str, str]:
    """``environ`` as every cell gets it: without stale ranks, with its share of the cores."""
    clean = {name: value for name, value in environ.items() if not _STALE.match(name)}
    if parallel > 1:
        affinity = hasattr(os, "sched_getaffinity")  # not on macOS
        cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
        clean.setdefault("OMP_NUM_THREADS", str(max(1, cores // parallel)))
        clean["PYTHONUNBUFFERED"] = "1"  # so that the logs can be followed
    return clean


def device_groups(
    devices: Sequence[int] | None, parallel: int, visible: Sequence[str] | None
) -> list[str]:
    """``CUDA_VISIBLE_DEVICES`` of each of the cells that run at once.

    Args:
        devices: positions in ``visible``; ``None`` for all.
        parallel: cells that run at once.
        visible: device names as in ``CUDA_VISIBLE_DEVICES``; ``None`` if unknown.

    Returns:
        At most ``parallel`` groups of equal size, separate from one another; empty: leave the
        variable alone.

    Raises:
        LauncherError: if ``devices`` names one that is not visible, one twice, or none.
    """
    if devices is None:
        chosen = list(visible or ()) if parallel > 1 else []
    else:
        remedy = "Count each accelerator once, from 0 among the visible ones; null takes all."
        if not devices or len(set(devices)) < len(devices):
            asked = f"hydra.launcher.devices={list(devices)} is empty or names a device twice."
            raise LauncherError(asked, remedy)
        count = max(devices) + 1 if visible is None else len(visible)
        for position in devices:
            if not 0 <= position < count:
                asked = f"hydra.launcher.devices asks for device {position}"
                raise LauncherError(f"{asked}, but {count} are visible.", remedy)
        chosen = [visible[k] if visible is not None else str(k) for k in devices]
    size = max(1, len(chosen) // parallel)
    groups = min(parallel, len(chosen))
    return [",".join(chosen[group * size : (group + 1) * size]) for group in range(groups)]


def visible_devices(environ: Mapping[str, str], device_folder: Path) -> list[str] | None:
    """The accelerators CUDA would find, without starting CUDA.

    Args:
        environ: its ``CUDA_VISIBLE_DEVICES`` decides if set.
        device_folder: ``/dev``; it holds one ``nvidia<n>`` per device. The numbers may have
            gaps in a container, where CUDA still counts from 0.

    Returns:
        Names for ``CUDA_VISIBLE_DEVICES``; ``None`` if neither source says anything.
    """
    if "CUDA_VISIBLE_DEVICES" in environ:
        names = [name.strip() for name in environ["CUDA_VISIBLE_DEVICES"].split(",")]
        return [name for name in names if name not in ("", "-1")]
    count = sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in device_folder.iterdir())
    return [str(position) for position in range(count)] or None
