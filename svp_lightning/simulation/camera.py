"""From light to grey levels: pixel area, motion, sharpening, noise, rounding, detection."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svp_lightning.simulation.imaging import box_transfer, defocus_blur, filter_image
from svp_lightning.simulation.session import Session

MIN_PEAK_CONTRAST = 0.12
AREA_CONTRAST = 0.05
MIN_AREA_UM2 = 4.06
"""60 px of 0.26 um."""


def expose(
    session: Session, light: Tensor, depth_um: float | None, motion_um: float, sharpening: float
) -> Tensor:
    """Light on the camera's pixels.

    Args:
        session: the run.
        light: float32 (N, N) intensity on the fine pixels, background 1.
        depth_um: defocus, which sets how far source points smear; None where the light
            already is the sum over the whole source.
        motion_um: travel along the flow (rows) during the flash.
        sharpening: strength of the camera's unsharp mask.

    Returns:
        float32 (image_size, image_size), background 1.
    """
    n, grid = light.shape[-1], session.grid
    area = box_transfer(n, 1.0)
    motion = box_transfer(n, motion_um / grid.pixel_um)
    # Unsharp mask: 1 + s (1 - Gaussian of one camera pixel).
    cycles = torch.arange(n, dtype=torch.float32) / (2 * n) * session.binning
    gaussian = torch.exp(-2 * (math.pi * cycles).square())
    transfer = torch.outer(area * motion, area)
    transfer = transfer * (1 + sharpening * (1 - torch.outer(gaussian, gaussian)))
    if depth_um is not None:
        transfer = transfer * defocus_blur(grid, depth_um)
    blurred = filter_image(light, transfer)
    size = n // session.binning
    return blurred.view(size, session.binning, size, session.binning).mean((1, 3))


def detected(light: NDArray[np.float32], pixel_um: float) -> bool:
    """Whether a particle counter would have triggered on this particle."""
    contrast = np.abs(light - 1)
    if contrast.max() < MIN_PEAK_CONTRAST:
        return False
    area = np.count_nonzero(contrast > AREA_CONTRAST) * pixel_um**2
    return bool(area >= MIN_AREA_UM2)


def record(
    session: Session, light: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Grey levels of one exposure, uint8 (image_size, image_size).

    Stray light lowers contrast, the particle saturates at 255, noise is read noise plus
    shot noise that grows with the root of the light.
    """
    size = light.shape[0]
    position = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    gx, gy = rng.normal(session.gradient, 0.005).astype(np.float32)
    level = np.float32(session.background + rng.normal(0, 1.5))
    illumination = level * (1 + gx * position + gy * position[:, None])
    seen = np.maximum((light + session.stray_light) / (1 + session.stray_light), 0)
    noise = rng.standard_normal((size, size), dtype=np.float32)
    sigma = np.sqrt(session.read_noise**2 + session.shot_noise**2 * seen, dtype=np.float32)
    grey = illumination * seen + session.columns + sigma * noise
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
