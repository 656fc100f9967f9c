"""An exponential moving average of the denoiser's weights.

    average <- d_n average + (1 - d_n) weights,   d_n = min(d, (1 + n) / (10 + n))

The rising decay lets a short run forget its random start. The average is a submodule of
the Lightning module and n is the trainer's step, so checkpoints and resuming need nothing.
"""

from copy import deepcopy

import torch
from torch import nn

from svp_lightning.generator.denoiser import Denoiser


class AveragedDenoiser(nn.Module):
    """A denoiser that follows another one at a distance.

    Args:
        denoiser: copied as the start of the average.
        decay: d, between 0 and 1.
    """

    def __init__(self, denoiser: Denoiser, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.denoiser = deepcopy(denoiser).requires_grad_(False)

    @torch.no_grad()
    def update(self, denoiser: Denoiser, step: int) -> None:
        """Move towards ``denoiser`` after optimiser step number ``step``, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.denoiser.parameters()), list(denoiser.parameters()), 1 - decay
        )
