"""Where a pixel is, seen from the centre. A leaf: an exported pipeline carries this file."""

import torch
from torch import Tensor

RADIAL_CHANNELS = 8
"""Maps that tell the network how far a position is from the centre. Crops are centred on
their particle, so round shapes are learnt sooner."""


def radial_maps(side: int) -> Tensor:
    """Bumps at rising distances from the centre, (1, RADIAL_CHANNELS, side, side) in 0 to 1."""
    positions = (torch.arange(side) + 0.5) / side * 2 - 1
    distance = torch.hypot(positions[:, None], positions[None, :])
    centres = torch.linspace(0, 2**0.5, RADIAL_CHANNELS).view(1, -1, 1, 1)
    width = 2**0.5 / (RADIAL_CHANNELS - 1)
    return torch.exp(-(((distance - centres) / width) ** 2))
