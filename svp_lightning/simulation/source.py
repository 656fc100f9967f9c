"""The condenser as a lattice of points, and the blur that makes up for what lies between.

The light fades towards the edge of the condenser's aperture, as (1 - rho^2)^2: the bright centres
of real droplets, which are images of the source, are peaked and fall off softly, where those of an
even disc are flat and end sharply (experiments/simulator_realism).

Tilting the illumination moves a defocused image by ``z f_s wavelength / n_m`` and hardly
changes it otherwise. A lattice of points therefore represents the condenser convolved with
the wrong kernel (a few deltas), and the scattered light's spectrum is multiplied by the ratio of
the right kernel's transfer to the lattice's. Where the lattice passes nothing the
ratio means nothing, and each point is spread over its own cell instead.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.special import jv
from torch import Tensor

_RIDGE = 0.05
"""Lattice transfer below which the cell's blur takes over from the ratio."""
_TABLE_END = 120.0
_TABLE_SIZE = 6001
DIAMOND_WIDTH = math.sqrt(6)
"""Diagonal of a diamond as wide (rms) as a round source of radius 1."""


def source_weights(side: int, disc: bool) -> Tensor:
    """Share of the light in each cell of a grid on which the source is ``side`` cells wide; sum 1.

    float32 (side, side), or one more along both where ``side`` is even: the middle of the source is
    the middle of a cell.
    The source is round, or a diamond (a square emitter turned by 45 degrees, which shows as
    diamond-shaped centres of defocused droplets; fading from its middle as a pyramid does).
    """
    fine, across = 24, side + 1 - side % 2
    offsets = ((np.arange(across * fine) + 0.5) / fine * 2 - across) / side
    x, y = offsets, offsets[:, None]
    if disc:
        light = (1 - x * x - y * y).clip(min=0) ** 2
    else:
        light = (1 - np.abs(x + y)).clip(min=0) * (1 - np.abs(x - y)).clip(min=0)
    cells = light.reshape(across, fine, across, fine).mean(axis=(1, 3))
    return torch.from_numpy((cells / cells.sum()).astype(np.float32))


def source_blur(weights: Tensor, disc: bool, shifts_px: Tensor, num_pixels: int) -> Tensor:
    """Transfer that turns the lattice's image into the whole source's, at the DCT frequencies.

    Args:
        weights: (S, S) of the lattice, symmetric.
        disc: whether the source is round, inscribed in the lattice, or the diamond.
        shifts_px: float32 (B,) how far defocus moves the images of neighbouring points apart.
        num_pixels: N of the float32 (B, N, N) returned.
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
        whole = _round_transfer((squared[:, None, :] + squared[:, :, None]).sqrt() * math.pi * side)
    else:
        quarter = cycles * (side / 4)
        across, down = quarter[:, None, :], quarter[:, :, None]
        whole = (torch.sinc(across + down) * torch.sinc(across - down)).square()
    return (whole * lattice + _RIDGE**2 * cell) / (lattice.square() + _RIDGE**2)


def _round_transfer(u: Tensor) -> Tensor:
    """48 J_3(u) / u^3, that of (1 - rho^2)^2, by linear interpolation (error below 1e-4)."""
    at = (u * ((_TABLE_SIZE - 1) / _TABLE_END)).clamp(max=_TABLE_SIZE - 1.01)
    below = at.to(torch.int32)
    table = _round_table().to(u.device)
    return torch.lerp(table[below], table[below + 1], at - below)


@lru_cache(maxsize=1)
def _round_table() -> Tensor:
    u = np.linspace(0, _TABLE_END, _TABLE_SIZE)[1:]
    values = np.concatenate([[1.0], 48 * jv(3, u) / u**3])
    return torch.from_numpy(values.astype(np.float32))
