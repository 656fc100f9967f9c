"""From light to grey levels: pixel area, motion, sharpening, noise, rounding, detection."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from svp_lightning.simulation.imaging import (
    ImagingGrid,
    box_transfer,
    defocus_blur,
    filter_image,
)
from svp_lightning.simulation.session import Session

AREA_CONTRAST = 0.05
_WHITE = 255.0


@dataclass(frozen=True)
class Exposure:
    """What the camera draws for one image, before it is known what it sees.

    Attributes:
        motion_um: travel along the flow (rows) during the flash.
        sharpening: strength of the camera's unsharp mask.
        halo_gain: of the light above the background (a discrepancy model; 1 is physics).
        level: grey level of the empty field in the middle.
        gradient: relative brightness change across the window (x, y).
        noise: float32 (image_size, image_size), standard normal, of the sensor's pixels.
    """

    motion_um: float
    sharpening: float
    halo_gain: float
    level: float
    gradient: tuple[float, float]
    noise: NDArray[np.float32]


def draw_exposure(
    rng: np.random.Generator,
    session: Session,
    motion_um: float,
    sharpening: float,
    halo_gain: float = 1.0,
) -> Exposure:
    """The chance of one recording."""
    size = session.grid.num_pixels // session.binning
    gx, gy = rng.normal(session.gradient, 0.005).astype(np.float32)
    level = np.float32(session.background + rng.normal(0, 1.0))
    noise = rng.standard_normal((size, size), dtype=np.float32)
    gradient = (float(gx), float(gy))
    return Exposure(motion_um, sharpening, halo_gain, float(level), gradient, noise)


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
    sensor = session.sensor_pixel_um / session.grid.pixel_um
    area = box_transfer(n, sensor).to(device)
    travel = torch.tensor([[shot.motion_um] for shot in exposures], device=device)
    motion = torch.sinc(travel * (torch.arange(n, device=device) / (2 * n * session.grid.pixel_um)))
    # Unsharp mask: 1 + s (1 - Gaussian of one sensor pixel).
    cycles = torch.arange(n, dtype=torch.float32, device=device) / (2 * n) * sensor
    gaussian = torch.exp(-2 * (math.pi * cycles).square())
    strength = torch.tensor([shot.sharpening for shot in exposures], device=device)
    transfer = (area * motion)[:, :, None] * area
    sharpened = 1 + strength[:, None, None] * (1 - torch.outer(gaussian, gaussian))
    transfer = transfer * sharpened
    if depths_um is not None:
        transfer = transfer * defocus_blur(grid, depths_um)
    blurred = filter_image(light, transfer)
    size = n // session.binning
    seen = blurred.view(count, size, session.binning, size, session.binning).mean((2, 4))
    gain = torch.tensor([shot.halo_gain for shot in exposures], device=device)[:, None, None]
    return torch.where(seen > 1, 1 + (seen - 1) * gain, seen)


@lru_cache(maxsize=64)
def sensor_sampling(size: int, sensor_px: float) -> tuple[Tensor, Tensor]:
    """From the image's pixels to the sensor's, and back as the crop is enlarged.

    Args:
        size: pixels of the image along one side.
        sensor_px: sensor pixel over image pixel, at least 1.

    Returns:
        float32 (M, size) values at the sensor's M pixels, whose lattice is centred on the window,
        and (size, M) enlargement. Where both pixels are the same, both are the identity.
    """
    count = math.ceil(size / sensor_px - 1e-6)
    lattice = (np.arange(count) - (count - 1) / 2) * sensor_px + (size - 1) / 2
    pixels = np.arange(size)
    return _cubic(lattice.clip(0, size - 1), pixels, 1.0), _cubic(pixels, lattice, sensor_px)


def _cubic(places: NDArray[np.float64], nodes: NDArray[np.float64], step: float) -> Tensor:
    """Cubic convolution (Keys 1981, a = -0.5) of nodes ``step`` apart; float32 (places, nodes).

    Rows sum to 1: beyond the outermost nodes their values go on.
    """
    x = np.abs(places[:, None] - nodes) / step
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    weights /= weights.sum(axis=1, keepdims=True)
    return torch.from_numpy(weights.astype(np.float32))


def detected(light: Tensor, pixel_um: float, min_area_um2: float, min_contrast: float) -> Tensor:
    """Whether a particle counter would have triggered on these particles; bool (B,)."""
    contrast = (light - 1).abs()
    area = (contrast > AREA_CONTRAST).sum((1, 2)) * pixel_um**2
    return (contrast.amax((1, 2)) >= min_contrast) & (area >= min_area_um2)


def record(session: Session, light: Tensor, exposures: Sequence[Exposure]) -> Tensor:
    """Grey levels of B exposures, uint8 (B, image_size, image_size).

    The sensor's pixels are coarser than the image's: stray light lowers contrast, noise is read
    noise plus shot noise that grows with the root of the light, and the response bends softly
    into saturation, all on the sensor. The crop is then enlarged by cubic convolution, which
    leaves noise smooth and saturated spots round-shouldered, as in real crops.
    """
    size, device = light.shape[-1], light.device
    sensor_px = session.sensor_pixel_um / (session.grid.pixel_um * session.binning)
    sampling, enlarging = (matrix.to(device) for matrix in sensor_sampling(size, sensor_px))
    count = sampling.shape[0]
    seen = sampling @ light @ sampling.T
    reach = 0.5 * sensor_px * (count - 1) / size
    position = torch.linspace(-reach, reach, count, device=device)
    facts = [(shot.level, *shot.gradient) for shot in exposures]
    level, gx, gy = torch.tensor(facts, device=device).T[:, :, None, None]
    illumination = level * (1 + gx * position + gy * position[:, None])
    seen = ((seen + session.stray_light) / (1 + session.stray_light)).clamp(min=0)
    noise = np.stack([shot.noise[:count, :count] for shot in exposures])
    sigma = (session.read_noise**2 + session.shot_noise**2 * seen).sqrt()
    columns = torch.from_numpy(session.columns[:count]).to(device)
    grey = illumination * seen + columns + sigma * torch.from_numpy(noise).to(device)
    grey = _WHITE - session.knee * functional.softplus((_WHITE - grey) / session.knee)
    grey = enlarging @ grey @ enlarging.T
    return grey.round().clamp(0, _WHITE).to(torch.uint8)
