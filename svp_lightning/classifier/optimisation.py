"""Steps that do not depend on the processes: optimiser, schedule, seeds, batch statistics."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import get_world_size, is_initialized
from torch.distributed.nn.functional import all_reduce
from torch.optim import SGD, AdamW, Optimizer

from svp_lightning.classifier.settings import ClassifierSettings


def optimizer_of(network: nn.Module, settings: ClassifierSettings) -> Optimizer:
    """The optimiser; weight decay spares biases, normalisation and scales of layers (vectors)."""
    decayed = [p for p in network.parameters() if p.numel() > max(p.shape, default=1)]
    spared = [p for p in network.parameters() if p.numel() == max(p.shape, default=1)]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    # fused: one pass over the weights; on CPUs the default loops over tensors instead.
    if settings.optimizer == "sgd":
        return SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return AdamW(groups, lr=settings.learning_rate, fused=True)


def warmup_cosine(settings: ClassifierSettings) -> Callable[[int], float]:
    """Factor of the learning rate at a step: linear to 1, then a half cosine to 0.

    The cosine is that of Loshchilov and Hutter (2017), https://arxiv.org/abs/1608.03983,
    without restarts.
    """
    warmup = min(settings.warmup_steps, settings.steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / (settings.steps - warmup)
        return (1 + math.cos(math.pi * progress)) / 2

    return factor


def seed_step(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Make all that is random in a step of a process a function of the seed, the step and it."""
    state = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])
    # torch.manual_seed seeds all devices and, without a GPU, formats a stack trace each time.
    torch.default_generator.manual_seed(state)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(state)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the batches of all processes together.

    A global batch then trains alike on one process and on several. ``nn.SyncBatchNorm`` does the
    same, on GPUs only.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not (self.training and is_initialized()):
            return super().forward(images)
        values = images.float()
        sums = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        count = values.numel() // values.shape[1] * get_world_size()  # equal batches
        mean, square = all_reduce(sums).div(count).unbind()
        variance = (square - mean.square()).clamp(min=0)
        self._follow(mean.detach(), variance.detach() * (count / (count - 1)))
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        normalised: Tensor = values * scale[:, None, None] + shift[:, None, None]
        return normalised.to(images.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum or 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def share_statistics(network: nn.Module) -> None:
    """Make the batch normalisations of a network use the batches of all processes."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d  # same parameters, buffers and names
