"""From light to grey levels: pixel area, motion, sharpening, noise, rounding, detection."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from svp_lightning.simulation.imaging import box_transfer, filter_image
from svp_lightning.simulation.session import Session

AREA_CONTRAST = 0.05
WHITE = 255
_GRAIN_PER_PIXEL = 0.62
"""Width of the noise's grain after enlargement, in sensor pixels (see :func:`grain_kernel`)."""


@dataclass(frozen=True)
class Exposure:
    """What the camera draws for one image, before it is known what it sees.

    ``motion_um`` is the travel along the flow (rows) during the flash, ``sharpening`` the strength
    of the unsharp mask, ``halo_gain`` that of the light above the background (a discrepancy model;
    1 is physics), ``level`` the grey level of the empty field in the middle, ``gradient`` the
    relative brightness change across the window (x, y); ``noise`` is float32 (size, size), standard
    normal.
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


def expose(session: Session, light: Tensor, exposures: Sequence[Exposure]) -> Tensor:
    """Light on the camera's pixels, float32 (B, image_size, image_size), background 1.

    ``light`` is float32 (B, N, N) intensity on the fine pixels of the session's grid, background 1.
    """
    n, device, pixel = light.shape[-1], light.device, session.grid.pixel_um
    sensor = session.sensor_pixel_um / pixel
    area = box_transfer(n, sensor).to(device)
    travel = torch.tensor([[shot.motion_um] for shot in exposures], device=device)
    motion = torch.sinc(travel * (torch.arange(n, device=device) / (2 * n * pixel)))
    # Unsharp mask: 1 + s (1 - Gaussian of one sensor pixel).
    cycles = torch.arange(n, dtype=torch.float32, device=device) / (2 * n) * sensor
    gaussian = torch.exp(-2 * (math.pi * cycles).square())
    strength = torch.tensor([shot.sharpening for shot in exposures], device=device)
    transfer = (area * motion)[:, :, None] * area
    sharpened = 1 + strength[:, None, None] * (1 - torch.outer(gaussian, gaussian))
    seen = filter_image(light, transfer * sharpened, session.binning)
    gain = torch.tensor([shot.halo_gain for shot in exposures], device=device)[:, None, None]
    return torch.where(seen > 1, 1 + (seen - 1) * gain, seen)


@lru_cache(maxsize=64)
def grain_kernel(size: int, sensor_px: float) -> NDArray[np.float32]:
    """Interpolate white noise as the enlargement of sensor pixels does; float32 (size, size).

    Rows have unit length, so noise keeps its strength. The width is that of the noise in
    crops of a FlowCam: Gaussian, standard deviation 1.2 px where a sensor pixel is 2.2 px.
    """
    width = _GRAIN_PER_PIXEL * math.sqrt(max(sensor_px**2 - 1, 0)) + 1e-3
    position = np.arange(size)
    kernel = np.exp(-0.5 * ((position[:, None] - position) / width) ** 2)
    kernel /= np.linalg.norm(kernel, axis=1, keepdims=True)
    return np.asarray(kernel, dtype=np.float32)


def detected(light: Tensor, pixel_um: float, min_area_um2: float, min_contrast: float) -> Tensor:
    """Whether a particle counter would have triggered on these particles; bool (B,)."""
    contrast = (light - 1).abs()
    area = (contrast > AREA_CONTRAST).sum((1, 2)) * pixel_um**2
    return (contrast.amax((1, 2)) >= min_contrast) & (area >= min_area_um2)


def record(session: Session, light: Tensor, exposures: Sequence[Exposure]) -> Tensor:
    """Grey levels of B exposures, uint8 (B, image_size, image_size).

    Stray light lowers contrast, highlights roll off towards white (:func:`_rolled_off`), noise
    is read noise plus shot noise that grows with the root of the light.
    """
    size, device = light.shape[-1], light.device
    position = torch.linspace(-0.5, 0.5, size, device=device)
    facts = [(shot.level, *shot.gradient) for shot in exposures]
    level, gx, gy = torch.tensor(facts, device=device).T[:, :, None, None]
    illumination = level * (1 + gx * position + gy * position[:, None])
    seen = ((light + session.stray_light) / (1 + session.stray_light)).clamp(min=0)
    seen = _rolled_off(seen, WHITE / illumination - 1)
    noise = torch.from_numpy(np.stack([shot.noise for shot in exposures])).to(device)
    sensor_px = session.sensor_pixel_um / session.pixel_um
    grain = torch.from_numpy(grain_kernel(size, sensor_px)).to(device)
    noise = grain @ noise @ grain.T
    sigma = (session.read_noise**2 + session.shot_noise**2 * seen).sqrt()
    columns = torch.from_numpy(session.columns).to(device)
    grey: Tensor = illumination * seen + columns + sigma * noise
    return grey.round().clamp(0, WHITE).to(torch.uint8)


def _rolled_off(light: Tensor, headroom: Tensor) -> Tensor:
    """Light above the background (1) bent so that it nears white without reaching it.

    Of the brightest droplets on real crops most end within 20 grey levels below white and few are
    clipped (experiments/simulator_realism), which no straight response does. ``headroom`` is the
    contrast of white; where the background itself is white, nothing is bent.
    """
    room = headroom.clamp(min=1e-3)
    bent = 1 + room * torch.tanh((light - 1) / room)
    return torch.where((light > 1) & (headroom > 0), bent, light)


BOX_CONTRAST = 0.07
"""Contrast from which a pixel belongs to the particle, and the pixels left around it: on the
published crops box and particle then differ by 4.7 (oil) and 5.0 (air) camera pixels, with a
spread of 1 to 1.6 (interquartile)."""
_MARGINS = (2, 3)
_NEAR = 1 / 8
"""Distance from the middle, over the field's width, up to which all boxes count as being there:
faint aggregates fall into parts, neighbours are farther off."""


def cut_box(
    grey: NDArray[np.uint8], contrast: NDArray[np.float32], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], float]:
    """Cut the box around the particle in the middle of an uint8 (N, N) field and stretch it.

    ``contrast`` is float32 (N, N), the field before noise with background 0; it decides where to
    cut. Where nothing is detected, the whole field.

    Returns:
        uint8 (size, size), and the magnification, the geometric mean of both axes.
    """
    field = grey.shape[0]
    left, top, right, bottom = 0, 0, field, field
    if (found := _in_the_middle(contrast)) is not None:
        rows, columns = found
        before, after = rng.integers(_MARGINS[0], _MARGINS[1] + 1, (2, 2))
        top, left = max(rows.start - before[0], 0), max(columns.start - before[1], 0)
        bottom, right = min(rows.stop + after[0], field), min(columns.stop + after[1], field)
    box = Image.fromarray(grey[top:bottom, left:right])
    stretched = box.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(stretched), size / math.sqrt((right - left) * (bottom - top))


def _in_the_middle(contrast: NDArray[np.float32]) -> tuple[slice, slice] | None:
    """Rows and columns of a connected particle: of those nearest to the middle, the strongest."""
    strength = np.where(np.abs(contrast) > BOX_CONTRAST, np.abs(contrast), 0)
    # Bright core and dark ring are parted by a line of no contrast.
    parts, count = ndimage.label(ndimage.binary_dilation(strength > 0))
    if not count:
        return None
    parts *= strength > 0
    sums = ndimage.sum_labels(strength, parts, np.arange(1, count + 1))
    boxes, middle = ndimage.find_objects(parts), contrast.shape[0] // 2
    near = round(_NEAR * contrast.shape[0])
    away = [
        max(max(side.start - middle, middle - side.stop, near) for side in box) for box in boxes
    ]
    rows, columns = boxes[min(range(count), key=lambda part: (away[part], -sums[part]))]
    return rows, columns
