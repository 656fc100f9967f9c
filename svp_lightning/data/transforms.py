"""Random transforms of whole batches on the device they are on.

Every function takes an explicit generator on the images' device and draws one set of
parameters per image; none loops over images. Images are (B, 1, H, W), square.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from svp_lightning.data.augmentation import AugmentationSettings

_MAX_SHIFT = 0.125
"""Largest shift of the classical set at strength 1, as a share of the image side."""
_MAX_NOISE = 0.1
"""Largest noise standard deviation of the classical set at strength 1, in [-1, 1] units."""
_MAX_LIGHT = 0.3
"""Largest change of gain of the classical set at strength 1."""


def to_model_range(images: Tensor) -> Tensor:
    """uint8 0 to 255 -> float32 -1 to 1."""
    return images.float().div_(127.5).sub_(1)


def to_grey_levels(images: Tensor) -> Tensor:
    """Float -1 to 1 -> uint8 0 to 255, rounded; the inverse of :func:`to_model_range`."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def dihedral(images: Tensor, generator: torch.Generator) -> Tensor:
    """One of the 8 symmetries of the square for each image, all equally likely.

    Particles have no preferred direction, so a symmetry keeps the label.
    """
    codes = torch.randint(8, (len(images),), generator=generator, device=images.device)
    return apply_symmetry(images, codes)


def apply_symmetry(images: Tensor, codes: Tensor) -> Tensor:
    """Symmetry ``codes`` (B,) in 0..7: bit 0 flips left-right, 1 up-down, 2 transposes."""
    bits = codes.view(-1, 1, 1, 1)
    images = torch.where(bits & 1 > 0, images.flip(-1), images)
    images = torch.where(bits & 2 > 0, images.flip(-2), images)
    return torch.where(bits & 4 > 0, images.transpose(-1, -2), images).contiguous()


def illumination(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Random lamp brightness and camera offset of each image.

    Grey values g in [0, 1] become a*g + b with a in 1 ± ``amount`` and b in ± ``amount``/2:
    the background level is a property of the run and must not give the class away.

    Args:
        images: in [-1, 1].
        amount: 0 to 1.
        generator: on the device of the images.
    """
    gain = 1 + amount * _uniform(images, generator)
    offset = amount * _uniform(images, generator)  # ± amount/2 on [0, 1]
    return (images + 1).mul_(gain).add_(offset - 1).clamp_(-1, 1)


def classical(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Shift, defocus, noise and light, each drawn for every image.

    No scaling and no stretching: size distinguishes many particles.

    Args:
        images: in [-1, 1].
        strength: 0 (none) to 1.
        generator: on the device of the images.
    """
    images = _shift(images, strength * _MAX_SHIFT, generator)
    images = _blur(images, strength, generator)
    images = illumination(images, strength * _MAX_LIGHT, generator)
    sigma = strength * _MAX_NOISE * _uniform(images, generator).abs()
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return noise.mul_(sigma).add_(images).clamp_(-1, 1)


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


def _shift(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Move by whole pixels, mirroring at the edges so that no seam or streak appears."""
    b, _, h, w = images.shape
    pixels = torch.arange(w, device=images.device)
    index = []
    for _ in range(2):
        by = (_uniform(images, generator).view(b, 1) * share * w).round().long()
        moved = (pixels + by).abs()
        index.append(torch.where(moved > w - 1, 2 * (w - 1) - moved, moved))
    rows, columns = index
    images = images.gather(2, rows.view(b, 1, h, 1).expand(b, 1, h, w))
    return images.gather(3, columns.view(b, 1, 1, w).expand(b, 1, h, w))


def _blur(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Blend with a binomial 5 x 5 blur (standard deviation 1 px), by 0 to ``strength``."""
    blurred = pad(images, (2, 2, 2, 2), mode="reflect")
    for axis in (-1, -1, -2, -2):  # [1 2 1] / 4 twice is [1 4 6 4 1] / 16
        inner = blurred.shape[axis] - 2
        left, middle, right = (blurred.narrow(axis, start, inner) for start in range(3))
        blurred = torch.lerp(left + right, middle * 2, 0.5).mul_(0.5)
    return images + strength * _uniform(images, generator).abs() * (blurred - images)
