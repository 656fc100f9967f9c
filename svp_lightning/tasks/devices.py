"""Which device a stage without a trainer computes on."""

import torch


def choose_device(accelerator: str) -> torch.device:
    """The device that ``trainer.accelerator`` stands for: the first GPU, or the CPU.

    Args:
        accelerator: ``auto``, ``cpu``, ``gpu``, ``cuda`` or ``mps``.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
