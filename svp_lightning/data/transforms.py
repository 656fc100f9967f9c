"""Random transforms of whole batches on the device they are on.

Every function takes an explicit generator on the images' device and draws one set of
parameters per image; none loops over images. Images are (B, 1, H, W), square.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from svp_lightning.data.augmentation import AugmentationSettings

SYMMETRIES = 8
"""Of the square: :func:`apply_symmetry` numbers them from 0, the image itself."""
_MAX_SHIFT = 0.125
"""Largest shift of the classical set at strength 1, as a share of the image side."""
_MAX_ANGLE = math.pi / 2
"""Largest rotation at strength 1, rad. With the right angles of :func:`dihedral`, half of it
reaches every direction."""
_MAX_SCALE = 0.2
"""Largest change of size at strength 1, as a share. It is small, for size tells classes apart."""
_MAX_DEFOCUS = 0.03
"""Largest radius of the blur disc at strength 1, as a share of the image side."""
_MAX_NOISE = 3 / 127.5
"""Largest noise standard deviation at strength 1, in [-1, 1] units: 3 grey levels. That of the
sensors is 0.9 to 1.4 (FlowCam) and 2.4 to 3.3 (FlowCam Nano, where a pixel is a sensor's own)."""
_MAX_LIGHT = 0.2
"""Largest change of gain of the classical set at strength 1."""
_CUT_CONTRAST = 0.15
"""Contrast to the background, in [-1, 1] units, of an edge pixel that a particle reaches."""
_CUT_SHARE = 0.1
"""Share of such edge pixels from which on the particle counts as cut by the window."""


def to_model_range(images: Tensor) -> Tensor:
    """uint8 0 to 255 -> float32 -1 to 1."""
    return images.float().div_(127.5).sub_(1)


def dihedral(images: Tensor, generator: torch.Generator) -> Tensor:
    """One of the 8 symmetries of the square for each image, all equally likely.

    Particles have no preferred direction, so a symmetry keeps the label.
    """
    codes = torch.randint(SYMMETRIES, (len(images),), generator=generator, device=images.device)
    return apply_symmetry(images, codes)


def apply_symmetry(images: Tensor, codes: Tensor) -> Tensor:
    """Symmetry ``codes`` (B,) or (1,), 0..7: bit 0 flips left-right, 1 up-down, 2 transposes."""
    bits = codes.view(-1, 1, 1, 1)
    images = torch.where(bits & 1 > 0, images.flip(-1), images)
    images = torch.where(bits & 2 > 0, images.flip(-2), images)
    return torch.where(bits & 4 > 0, images.transpose(-1, -2), images).contiguous()


def illumination(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Random lamp brightness and camera offset of each image in [-1, 1].

    Grey values g in [0, 1] become a*g + b with a in 1 ± ``amount`` (0 to 1) and b in ±
    ``amount``/2: the background level is a property of the run and must not give the class away.
    The ``generator`` is on the device of the images.
    """
    gain = 1 + amount * _uniform(images, generator)
    offset = amount * _uniform(images, generator)  # ± amount/2 on [0, 1]
    return (images + 1).mul_(gain).add_(offset - 1).clamp_(-1, 1)


def classical(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotation, scale, shift, defocus, light and sensor noise, drawn for each image in [-1, 1].

    Images whose particle the window cuts are not moved: what lies beyond the window is unknown,
    and a background in its place would show where the window ended. ``strength`` is 0 (none) to 1,
    the ``generator`` on the device of the images.
    """
    # On the background: what comes in at the edges is 0, and so is what blur mixes in.
    level = background(images)
    images = images - level
    cut = (_edge(images).abs() > _CUT_CONTRAST).float().mean(dim=-1) > _CUT_SHARE
    images = torch.where(cut[..., None, None], images, _move(images, strength, generator))
    images = defocus(images, strength * _MAX_DEFOCUS, generator).add_(level)
    images = illumination(images.clamp_(-1, 1), strength * _MAX_LIGHT, generator)
    sigma = strength * _MAX_NOISE * _uniform(images, generator).abs()
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return noise.mul_(sigma).add_(images).clamp_(-1, 1)


def background(images: Tensor) -> Tensor:
    """(B, 1, 1, 1) median of the outermost pixels of each image."""
    edge = _edge(images).sort(dim=-1).values  # a GPU has no deterministic median
    return edge[..., (edge.shape[-1] - 1) // 2, None, None]


def _edge(images: Tensor) -> Tensor:
    """(B, 1, 4 W - 4) outermost pixels."""
    inner = images[..., 1:-1, :]
    return torch.cat([images[..., 0, :], images[..., -1, :], inner[..., 0], inner[..., -1]], dim=-1)


@dataclass(frozen=True)
class TrainTransform:
    """What is done to a training batch on the device: uint8 in, contract range out.

    Attributes:
        symmetry: random flips and right-angle rotations.
        illumination: amount of :func:`illumination`, 0 for none.
        strength: strength of :func:`classical`, 0 for none.
    """

    symmetry: bool = True
    illumination: float = 0.0
    strength: float = 0.0

    @classmethod
    def of(cls, settings: AugmentationSettings) -> "TrainTransform":
        """The transform of one arm."""
        return cls(settings.symmetry, settings.illumination, settings.strength)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.symmetry:  # while a pixel is still one byte
            images = dihedral(images, generator)
        images = to_model_range(images)
        if self.illumination > 0:
            images = illumination(images, self.illumination, generator)
        if self.strength > 0:
            images = classical(images, self.strength, generator)
        return images


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 1, 1, 1) numbers in -1 to 1."""
    shape = (len(images), 1, 1, 1)
    return torch.rand(shape, generator=generator, device=images.device) * 2 - 1


def _move(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate, scale and shift; what comes in at the edges is 0.

    Cubic interpolation keeps grain and rings, where linear would make trained images smoother
    than tested ones.
    """
    angle = strength * _MAX_ANGLE * _uniform(images, generator).view(-1)
    size = (1 + strength * _MAX_SCALE) ** _uniform(images, generator).view(-1)
    x, y = (2 * strength * _MAX_SHIFT * _uniform(images, generator).view(-1) for _ in range(2))
    cos, sin = angle.cos() / size, angle.sin() / size
    # From places in the result to places in the image.
    rows = [cos, -sin, cos * x - sin * y], [sin, cos, sin * x + cos * y]
    inverse = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    grid = affine_grid(inverse, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bicubic", padding_mode="zeros", align_corners=False)


def defocus(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Blur images in [-1, 1] by a disc of 0 to ``share`` (0 to 0.5) of the side.

    That is the geometric image of a defocused point; its transfer function is 2 J1(x) / x (Goodman,
    Introduction to Fourier Optics, section 6.4.4). The ``generator`` is on the device of the
    images.
    """
    side = images.shape[-1]
    margin = math.ceil(2 * share * side)  # the spectrum is that of a periodic image
    padded = pad(images, [margin] * 4, mode="replicate")
    period = side + 2 * margin
    fy = torch.fft.fftfreq(period, device=images.device)
    fx = torch.fft.rfftfreq(period, device=images.device)
    radius = share * side * _uniform(images, generator).abs()
    x = 2 * math.pi * radius * torch.hypot(fy[:, None], fx)
    transfer = torch.where(x > 1e-3, 2 * torch.special.bessel_j1(x) / x.clamp(min=1e-3), 1.0)
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * transfer, s=(period, period))
    inner: Tensor = blurred[..., margin : margin + side, margin : margin + side]
    return inner
