"""Which device a stage without a trainer computes on."""

import os

import torch

from svp_lightning.errors import SettingsError
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
