"""From light to grey levels: pixel area, motion, sharpening, noise, rounding, detection."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svp_lightning.simulation.imaging import (
    ImagingGrid,
    box_transfer,
    defocus_blur,
    filter_image,
)
from svp_lightning.simulation.session import Session

MIN_PEAK_CONTRAST = 0.12
AREA_CONTRAST = 0.05


@dataclass(frozen=True)
class Exposure:
    """What the camera draws for one image, before it is known what it sees.

    Attributes:
        motion_um: travel along the flow (rows) during the flash.
        sharpening: strength of the camera's unsharp mask.
        level: grey level of the empty field in the middle.
        gradient: relative brightness change across the window (x, y).
        noise: float32 (image_size, image_size), standard normal.
    """

    motion_um: float
    sharpening: float
    level: float
    gradient: tuple[float, float]
    noise: NDArray[np.float32]


def draw_exposure(
    rng: np.random.Generator, session: Session, motion_um: float, sharpening: float
) -> Exposure:
    """The chance of one recording."""
    size = session.grid.num_pixels // session.binning
    gx, gy = rng.normal(session.gradient, 0.005).astype(np.float32)
    level = np.float32(session.background + rng.normal(0, 1.5))
    noise = rng.standard_normal((size, size), dtype=np.float32)
    return Exposure(motion_um, sharpening, float(level), (float(gx), float(gy)), noise)


def expose(
    session: Session,
    grid: ImagingGrid,
    light: Tensor,
    depths_um: Tensor | None,
    exposures: Sequence[Exposure],
) -> Tensor:
    """Light on the camera's pixels.

    Args:
        session: the run.
        grid: the lattice the light was computed on.
        light: float32 (B, N, N) intensity on the fine pixels, background 1.
        depths_um: float32 (B,) defocus, which sets how far source points smear; None where
            the light already is the sum over the whole source.
        exposures: B.

    Returns:
        float32 (B, image_size, image_size), background 1.
    """
    count, n, device = light.shape[0], light.shape[-1], light.device
    area = box_transfer(n, 1.0).to(device)
    travel = torch.tensor([[shot.motion_um] for shot in exposures], device=device)
    motion = torch.sinc(travel * (torch.arange(n, device=device) / (2 * n * session.grid.pixel_um)))
    # Unsharp mask: 1 + s (1 - Gaussian of one camera pixel).
    cycles = torch.arange(n, dtype=torch.float32, device=device) / (2 * n) * session.binning
    gaussian = torch.exp(-2 * (math.pi * cycles).square())
    strength = torch.tensor([shot.sharpening for shot in exposures], device=device)
    transfer = (area * motion)[:, :, None] * area
    sharpened = 1 + strength[:, None, None] * (1 - torch.outer(gaussian, gaussian))
    transfer = transfer * sharpened
    if depths_um is not None:
        transfer = transfer * defocus_blur(grid, depths_um)
    blurred = filter_image(light, transfer)
    size = n // session.binning
    return blurred.view(count, size, session.binning, size, session.binning).mean((2, 4))


def detected(light: Tensor, pixel_um: float, min_area_um2: float) -> Tensor:
    """Whether a particle counter would have triggered on these particles; bool (B,)."""
    contrast = (light - 1).abs()
    area = (contrast > AREA_CONTRAST).sum((1, 2)) * pixel_um**2
    return (contrast.amax((1, 2)) >= MIN_PEAK_CONTRAST) & (area >= min_area_um2)


def record(session: Session, light: Tensor, exposures: Sequence[Exposure]) -> Tensor:
    """Grey levels of B exposures, uint8 (B, image_size, image_size).

    Stray light lowers contrast, the particle saturates at 255, noise is read noise plus
    shot noise that grows with the root of the light.
    """
    size, device = light.shape[-1], light.device
    position = torch.linspace(-0.5, 0.5, size, device=device)
    facts = [(shot.level, *shot.gradient) for shot in exposures]
    level, gx, gy = torch.tensor(facts, device=device).T[:, :, None, None]
    illumination = level * (1 + gx * position + gy * position[:, None])
    seen = ((light + session.stray_light) / (1 + session.stray_light)).clamp(min=0)
    noise = torch.from_numpy(np.stack([shot.noise for shot in exposures])).to(device)
    sigma = (session.read_noise**2 + session.shot_noise**2 * seen).sqrt()
    columns = torch.from_numpy(session.columns).to(device)
    grey = illumination * seen + columns + sigma * noise
    return grey.round().clamp(0, 255).to(torch.uint8)
