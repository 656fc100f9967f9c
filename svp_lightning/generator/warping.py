"""Augmentation whose amounts the network gets, so that it does not leak into samples.

Each training image is scaled, turned, moved and lit at random, each with the same chance, and
the network is given the amounts. Sampling gives it zeros: images as they were taken. Unlike
the 8 symmetries of the square, which need no description, these would show: scaling changes sizes,
interpolation smooths the camera's noise.

References:
    Karras et al., Elucidating the design space, 2022, arXiv 2206.00364, appendix F.2.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

SCALE = 0.2
"""Standard deviation of log2 of the scale, as in the reference."""
SHIFT = 0.06
"""Standard deviation of the shift as a share of the image side; crops are centred."""
LIGHT = 0.1
"""Standard deviation of the relative gain, and of the offset on [-1, 1]."""


def augment(
    images: Tensor, probability: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Randomly scaled, turned, moved and lit images (B, 1, H, W) in [-1, 1].

    Each of the four has the same ``probability``. None as ``generator`` takes torch's global one.

    Returns:
        The images, cut off at [-1, 1], and what was done to each, (B, 7): log2 of the scale,
        cosine - 1 and sine of the angle, two shifts, gain, offset; 0 where nothing was done.
    """
    count, device = len(images), images.device
    on = torch.rand(count, 4, generator=generator, device=device) < probability
    scale, turn, move, light = on.float().unsqueeze(-1).unbind(1)
    normal = torch.randn(count, 5, generator=generator, device=device)
    angle = torch.rand(count, 1, generator=generator, device=device) * turn * 2 * math.pi
    log_scale = normal[:, :1] * scale * SCALE
    shift = normal[:, 1:3] * move * SHIFT
    gain, offset = (normal[:, 3:] * light * LIGHT).split(1, dim=1)

    # Rounded to bfloat16, a grid is off by up to a quarter of a pixel at 64 px.
    with torch.autocast(device.type, enabled=False):
        warped = warp(images, log_scale, angle, shift)
    untouched = ~on[:, :3].any(dim=1).view(-1, 1, 1, 1)
    images = torch.where(untouched, images, warped)
    images = images * (1 + gain.view(-1, 1, 1, 1)) + offset.view(-1, 1, 1, 1)
    amounts = (log_scale, angle.cos() - 1, angle.sin(), shift, gain, offset)
    return images.clamp_(-1, 1), torch.cat(amounts, dim=1)


def warp(images: Tensor, log_scale: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """Turn and enlarge about the centre, then move; mirrored where the image ends."""
    shrink = torch.exp2(-log_scale)  # a grid says where each output pixel comes from
    cosine, sine = angle.cos() * shrink, angle.sin() * shrink
    x, y = (2 * shift).split(1, dim=1)  # a grid's side is 2
    rows = (cosine, sine, -(cosine * x + sine * y), -sine, cosine, sine * x - cosine * y)
    grid = functional.affine_grid(
        torch.cat(rows, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False
    )
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
