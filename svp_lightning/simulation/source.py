"""The condenser as a lattice of points, and the blur that makes up for what lies between.

Tilting the illumination moves a defocused image by ``z f_s wavelength / n_m`` and hardly
changes it otherwise. A lattice of points therefore stands for the condenser convolved with
the wrong kernel (a few deltas), and the image's spectrum is multiplied by the ratio of the
right kernel's transfer (a disc's) to the lattice's. Where the lattice passes nothing the
ratio means nothing, and each point is spread over its own cell instead.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_RIDGE = 0.05
"""Lattice transfer below which the cell's blur takes over from the ratio."""
_TABLE_END = 120.0
_TABLE_SIZE = 6001


DIAMOND_WIDTH = math.sqrt(2 * math.pi)
"""Diagonal of a diamond with the area of a disc of radius 1."""


def source_weights(side: int, disc: bool) -> Tensor:
    """Share of the source in each cell of the square around it; float32 (side, side), sum 1.

    The source is a disc, or a diamond (a square emitter turned by 45 degrees, which shows as
    diamond-shaped centres of defocused droplets).
    """
    fine = 24
    offsets = (np.arange(side * fine) + 0.5) / (side * fine) * 2 - 1
    x, y = np.abs(offsets), np.abs(offsets[:, None])
    inside = x * x + y * y <= 1 if disc else x + y <= 1
    cells = inside.reshape(side, fine, side, fine).mean(axis=(1, 3))
    return torch.from_numpy((cells / cells.sum()).astype(np.float32))


def source_blur(weights: Tensor, disc: bool, shifts_px: Tensor, num_pixels: int) -> Tensor:
    """Transfer that turns the lattice's image into the whole source's.

    Args:
        weights: (S, S) of the lattice, symmetric.
        disc: whether the source is the disc inscribed in the lattice, or the diamond.
        shifts_px: float32 (B,) how far defocus moves the images of neighbouring points apart.
        num_pixels: N.

    Returns:
        float32 (B, N, N) at the DCT frequencies.
    """
    device, side = shifts_px.device, weights.shape[0]
    frequencies = torch.arange(num_pixels, dtype=torch.float32, device=device) / (2 * num_pixels)
    cycles = shifts_px[:, None] * frequencies
    box = torch.sinc(cycles)
    cell = box[:, :, None] * box[:, None, :]
    place = torch.arange(side, dtype=torch.float32, device=device) - (side - 1) / 2
    waves = torch.cos(2 * math.pi * cycles[:, :, None] * place)
    lattice = waves @ weights.to(device) @ waves.mT
    if disc:
        squared = cycles.square()
        whole = _disc_transfer((squared[:, None, :] + squared[:, :, None]).sqrt() * math.pi * side)
    else:
        half = cycles * (side / 2)
        across, down = half[:, None, :], half[:, :, None]
        whole = torch.sinc(across + down) * torch.sinc(across - down)
    return (whole * lattice + _RIDGE**2 * cell) / (lattice.square() + _RIDGE**2)


def _disc_transfer(u: Tensor) -> Tensor:
    """2 J_1(u) / u, by linear interpolation (error below 1e-4)."""
    at = (u * ((_TABLE_SIZE - 1) / _TABLE_END)).clamp(max=_TABLE_SIZE - 1.01)
    below = at.to(torch.int32)
    table = _disc_table().to(u.device)
    return torch.lerp(table[below], table[below + 1], at - below)


@lru_cache(maxsize=1)
def _disc_table() -> Tensor:
    u = torch.linspace(0, _TABLE_END, _TABLE_SIZE, dtype=torch.float64)
    values = 2 * torch.special.bessel_j1(u) / u
    values[0] = 1
    return values.float()
