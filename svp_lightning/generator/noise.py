"""Gaussian noise as a pure function of (image seed, draw, pixel).

Counter-based: every number is a hash of its place, so there is no state, no loop over
images, and an image's noise does not depend on its batch, its rank or its device. (A
``torch.Generator`` per image would loop, and on the CPU keeps only 32 bits of its seed, so
that among 100,000 images one pair of twins is to be expected.)

References:
    Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
    Steele et al., Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix64).
"""

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 64-bit constants as the signed numbers torch has
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64
UNIT = 2.0**-24
"""Spacing of the uniform numbers; float32 represents their multiples exactly."""


def image_seeds(seed: int, class_name: str, start: int, stop: int) -> NDArray[np.int64]:
    """Seeds of images ``start`` to ``stop`` - 1 of one class, (stop - start,) in 0 to 2^63 - 1.

    ``seed`` is the sampler's. Classes get unrelated seeds; their order does not matter.
    """
    key = hashlib.blake2b(f"{seed}/{class_name}".encode(), digest_size=8).digest()
    numbers = torch.arange(start, stop) + int.from_bytes(key, "little", signed=True)
    seeds: NDArray[np.int64] = (_mix(numbers * GOLDEN) & (2**63 - 1)).numpy()
    return seeds


def gaussian(seeds: Tensor, draw: int, height: int, width: int) -> Tensor:
    """Standard normal noise, float32 (n, 1, height, width), of image seeds (n,) int64.

    ``draw`` is which of an image's fields of noise, from 0; height * width must be even.
    """
    pairs = height * width // 2
    counters = torch.arange(draw * pairs, (draw + 1) * pairs, device=seeds.device)
    bits = _mix(_mix(seeds)[:, None] + counters * GOLDEN)
    # Box & Muller 1958: two uniforms of 24 bits make two normals.
    radius = ((((bits >> 40) & 0xFFFFFF) + 1).float() * UNIT).log_().mul_(-2).sqrt_()
    angle = (bits & 0xFFFFFF).float() * (2 * math.pi * UNIT)
    noise = torch.cat((radius * angle.cos(), radius * angle.sin()), dim=1)
    return noise.view(-1, 1, height, width)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of 64-bit numbers that scrambles every bit."""
    z = (z ^ _shift_right(z, 30)) * MIX_1
    z = (z ^ _shift_right(z, 27)) * MIX_2
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, by: int) -> Tensor:
    """Shift in zeros; torch's own shift copies the sign bit."""
    shifted: Tensor = (z >> by) & (2 ** (64 - by) - 1)
    return shifted
