"""Classifier-free guidance: a denoiser around a denoiser, so samplers need not know.

    f_w(x_t, y) = f(x_t, null) + w [ f(x_t, y) - f(x_t, null) ]

References:
    Ho & Salimans, Classifier-free diffusion guidance, 2022, arXiv 2207.12598 (their weight
    is w - 1).
"""

import torch
from torch import Tensor, nn

from svp_lightning.generator.denoiser import Denoiser


class GuidedDenoiser(nn.Module):
    """Strengthens the class in a denoiser's predictions.

    Args:
        denoiser: trained with hidden labels.
        weight: w; 1 is the denoiser itself and costs nothing extra.
    """

    def __init__(self, denoiser: Denoiser, weight: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.weight = weight

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """As :meth:`Denoiser.forward`."""
        if self.weight == 1:
            conditional: Tensor = self.denoiser(x_t, t, labels)
            return conditional
        nulls = torch.full_like(labels, self.denoiser.null_label)
        both = self.denoiser(torch.cat((x_t, x_t)), torch.cat((t, t)), torch.cat((labels, nulls)))
        conditional, unconditional = both.chunk(2)
        guided: Tensor = unconditional + self.weight * (conditional - unconditional)
        return guided
