"""Which device a stage computes on, and in which precision."""

import os

import torch

from svp_lightning.errors import SettingsError
from svp_lightning.generator.drawing import multiplies_bfloat16
from svp_lightning.stages.settings import TrainerSettings


def choose_device(trainer: TrainerSettings) -> torch.device:
    """The device that Lightning would give this process.

    Raises:
        SettingsError: a GPU is asked for that is not there.
    """
    kind = trainer.accelerator
    if kind in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", _gpu(trainer, torch.cuda.device_count()))
    if kind in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if kind in ("gpu", "cuda", "mps"):
        raise SettingsError(
            f"trainer.accelerator={kind}, but no such device can be seen from here.",
            "Choose trainer=cpu or trainer=auto; task=doctor shows what there is.",
        )
    return torch.device("cpu")


def _gpu(trainer: TrainerSettings, there: int) -> int:
    """The number of this process's GPU: of those listed, or of those that are there."""
    rank = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
    listed = trainer.listed_devices or range(there)
    chosen = listed[rank % len(listed)]
    if chosen >= there:
        raise SettingsError(
            f"trainer.devices={trainer.devices} names GPU {chosen}, but {there} can be seen.",
            "Count from 0 among the GPUs that CUDA_VISIBLE_DEVICES leaves visible.",
        )
    return chosen


def precision_of(settings: TrainerSettings, training: bool) -> str:
    """What ``trainer.precision`` means: where null, bf16 if the device multiplies it.

    Tests on a CPU stay in float32: how images are batched must not show in a metric. On a GPU they
    take bf16 too: its float32 convolutions round to ten bits themselves, and 500,000 test images
    are the longest part of many a cell.

    Raises:
        SettingsError: a GPU is asked for that is not there.
    """
    if settings.precision is not None:
        return settings.precision
    device = choose_device(settings)
    fast = multiplies_bfloat16(device) and (training or device.type == "cuda")
    return "bf16-mixed" if fast else "32-true"


def device_name(device: torch.device, processes: int = 1) -> str:
    """``"NVIDIA H100"``, ``"CPU, 2 threads"``, with the number of processes if above one."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{device.type.upper()}, {torch.get_num_threads()} threads"
    return name if processes == 1 else f"{processes} × {name}"
