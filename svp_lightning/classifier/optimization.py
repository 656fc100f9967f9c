"""Optimiser and learning-rate schedule over a fixed number of steps."""

import math
from collections.abc import Callable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from svp_lightning.classifier.settings import ClassifierSettings


def optimizer_of(network: nn.Module, settings: ClassifierSettings) -> Optimizer:
    """The optimiser; weight decay spares biases and normalisation (one-dimensional)."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    spared = [p for p in network.parameters() if p.ndim <= 1]
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
