"""Finding the particle in each image, all images at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BORDER_PX = 2
"""The frame around a crop that is taken for background."""
BLUR_PX = 1.0
"""Standard deviation of the smoothing before the threshold."""
NOISE_FACTOR = 4.0
MIN_CONTRAST = 4.0
"""Grey levels: what differs less from the background is not a particle, however clean."""
RELATIVE_CONTRAST = 0.15
"""Share of an image's strongest contrast: what differs less is the blur around its particle."""

WITHIN_IMAGE = np.zeros((3, 3, 3), dtype=bool)
WITHIN_IMAGE[1] = True
"""Pixels of an image touch all 8 neighbours, and none of the next image."""


@dataclass(frozen=True)
class Segmented:
    """Particles and backgrounds of n images.

    Attributes:
        mask: (n, H, W) bool, the largest connected particle of each image, holes filled; all
            False where none stands out.
        background: (n,) grey level.
    """

    mask: NDArray[np.bool_]
    background: NDArray[np.float32]


def shows_something(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(n,) whether any two pixels of an image (n, H, W) differ by :data:`MIN_CONTRAST` or more."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    spread: NDArray[np.float32] = flat.max(axis=1) - flat.min(axis=1)
    return spread >= MIN_CONTRAST


def segment(images: NDArray[np.uint8]) -> Segmented:
    """Segment each image by its difference from its own background.

    Background and noise are the median and the scaled median deviation of the border pixels;
    what differs by more than 4 times the noise, 4 grey levels and 15 % of the strongest contrast
    is particle. Its outline lies about 1 px outside a sharp edge.

    Args:
        images: (n, H, W), grey levels 0 to 255.
    """
    grey = images.astype(np.float32)
    background = border_level(grey)
    difference = grey - background[:, None, None]
    smooth = ndimage.gaussian_filter(difference, (0, BLUR_PX, BLUR_PX), mode="nearest")
    noise = 1.4826 * np.median(np.abs(_border(smooth)), axis=1)
    contrast = np.abs(smooth)
    relative = RELATIVE_CONTRAST * contrast.max(axis=(1, 2))
    threshold = np.maximum.reduce([NOISE_FACTOR * noise, relative]).clip(MIN_CONTRAST)
    mask = contrast > threshold[:, None, None]
    # Holes are closed through sides only: a diagonal gap lets nothing through.
    sides = WITHIN_IMAGE & ndimage.generate_binary_structure(3, 1)
    return Segmented(_largest(ndimage.binary_fill_holes(mask, sides)), background)


def border_level(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) median grey level of the border pixels of (n, H, W) images."""
    level: NDArray[np.float32] = np.median(_border(grey), axis=1).astype(np.float32)
    return level


def _border(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, pixels) the frame of each image."""
    inner = np.ones(images.shape[1:], dtype=bool)
    inner[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    return images[:, inner]


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest connected part of each image."""
    parts, count = ndimage.label(mask, WITHIN_IMAGE)
    if count == 0:
        return mask
    area = np.bincount(parts.ravel(), minlength=count + 1)
    area[0] = 0
    # Parts are numbered image by image, so an image's largest is found through its pixels.
    size = area[parts]
    best = size.reshape(len(mask), -1).argmax(axis=1)
    chosen = parts.reshape(len(mask), -1)[np.arange(len(mask)), best]
    largest: NDArray[np.bool_] = mask & (parts == np.where(chosen > 0, chosen, -1)[:, None, None])
    return largest
