"""Square crops of one size from images of any size: centre, pad, cut, never stretch.

Size tells particles apart, so nothing is scaled. Along each axis an image smaller than the
crop keeps all its pixels and gains background; a larger one loses the pixels farthest from
the particle; an image of exactly the crop's size is kept as it is.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, uniform_filter, uniform_filter1d

from svp_lightning.data.settings import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE

_FADE_PX = 3.0
"""Length over which an edge's own level fades into the background beyond it."""

_TAIL = 0.02
"""Share of the particle's weight left out at each side when its extent is judged."""


def automatic_size(larger_sides: NDArray[np.int64]) -> int:
    """Smallest multiple of 16 holding the 95th percentile of the sides, 16 to 128 px."""
    side = float(np.percentile(larger_sides, 95))
    return int(np.clip(np.ceil(side / 16) * 16, MIN_IMAGE_SIZE, MAX_IMAGE_SIZE))


def frame(
    image: NDArray[np.uint8],
    size: int,
    opaque: NDArray[np.bool_] | None = None,
    background: int | None = None,
) -> tuple[NDArray[np.uint8], float]:
    """Place the particle of ``image`` in the middle of a ``size`` x ``size`` crop.

    The same image always gives the same crop: padding continues the image's own border, with
    noise like the border's from a generator seeded by the image.

    Args:
        image: (h, w) grey levels.
        size: side of the crop, px.
        opaque: (h, w), False where pixels are to be replaced by background.
        background: grey level that the background is scaled to; None keeps it.

    Returns:
        The (size, size) crop, and the background level found (before scaling).
    """
    surround = _surround(image, opaque)
    rng = np.random.default_rng(zlib.crc32(image.tobytes()))
    if opaque is not None:
        image = np.where(opaque, image, _grey(surround.texture(image.shape, rng)))
    top, left = _corner(image, surround, size)
    crop = _window(image, top, left, size, surround, rng)
    if background is not None and surround.level > 0:
        crop = _grey(crop * (background / surround.level))
    return crop, surround.level


@dataclass(frozen=True)
class _Surround:
    """What an image shows where no particle is.

    Attributes:
        level: mean grey level.
        noise: standard deviation from pixel to pixel.
        correlation: of neighbouring pixels' noise, above 0, at most 0.7.
    """

    level: float
    noise: float
    correlation: float

    def texture(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
        """Level and noise of the surround, with the same correlation along both axes."""
        white = rng.standard_normal(shape, dtype=np.float32)
        # A kernel [a, 1, a] correlates neighbours by rho = 2a / (1 + 2a^2).
        rho = self.correlation
        a = (1 - np.sqrt(1 - 2 * rho**2)) / (2 * rho)
        kernel = np.array([a, 1, a], dtype=np.float32) / np.sqrt(1 + 2 * a * a)
        noise = correlate1d(correlate1d(white, kernel, 0), kernel, 1)
        textured: NDArray[np.float32] = np.float32(self.level) + np.float32(self.noise) * noise
        return textured


def _surround(image: NDArray[np.uint8], opaque: NDArray[np.bool_] | None) -> _Surround:
    """Judge the background from the image's border, robust to a particle that crosses it."""
    ring = _ring(image)
    if opaque is not None:
        seen = _ring(opaque)
        ring = ring[seen] if seen.any() else image[opaque]
    values = ring.astype(np.float32)
    level = float(np.median(values))
    # A running mean takes out halo and gradients, which are no noise.
    rough = values - uniform_filter1d(values, 5, mode="wrap")
    rough = rough[np.abs(rough) <= max(4 * 1.4826 * float(np.median(np.abs(rough))), 1.0)]
    variance = float(np.mean(rough**2))
    # Noise of variance v with neighbours correlated by rho leaves (0.80 - 0.48 rho) v and a
    # covariance of (0.52 rho - 0.24) v once a running mean of 5 is taken off.
    q = float(np.mean(rough[1:] * rough[:-1])) / variance if variance > 0 else -0.3
    correlation = float(np.clip((0.8 * q + 0.24) / max(0.52 + 0.48 * q, 0.1), 1e-3, 0.7))
    noise = np.sqrt(variance / (0.8 - 0.48 * correlation))
    return _Surround(level, float(noise), correlation)


def _ring(image: NDArray[Any]) -> NDArray[Any]:
    """The border pixels, once around."""
    if min(image.shape) < 3:
        return image.ravel()
    return np.concatenate([image[0], image[1:-1, -1], image[-1, ::-1], image[-2:0:-1, 0]])


def _grey(levels: NDArray[Any]) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = np.clip(levels + 0.5, 0, 255).astype(np.uint8)
    return grey


def _corner(image: NDArray[np.uint8], surround: _Surround, size: int) -> tuple[int, int]:
    """Top left corner of the crop in image coordinates; negative where padding is due."""
    if image.shape == (size, size):
        return 0, 0
    rows, columns = _extent_centre(image, surround.level, max(1.5 * surround.noise, 2.0))
    top, left = (
        int(np.clip(round(centre - size / 2), min(0, length - size), max(0, length - size)))
        for centre, length in zip((rows, columns), image.shape, strict=True)
    )
    return top, left


def _extent_centre(image: NDArray[np.uint8], level: float, noise: float) -> tuple[float, float]:
    """Middle of the particle's extent along both axes, in px.

    The extent is where the deviation from the background lies, less a tail on each side, so
    that a few noisy pixels far off do not move it. A 3 x 3 mean takes out most of the noise;
    what is then below ``noise`` or a fifth of the strongest deviation does not count.
    """
    deviation = np.abs(uniform_filter(image.astype(np.float32) - level, 3, mode="nearest"))
    deviation[deviation < max(0.2 * float(deviation.max()), noise)] = 0
    if not deviation.any():
        return image.shape[0] / 2, image.shape[1] / 2
    return _middle(deviation.sum(axis=1)), _middle(deviation.sum(axis=0))


def _middle(profile: NDArray[np.float32]) -> float:
    cumulative = np.cumsum(profile) / profile.sum()
    first, last = np.searchsorted(cumulative, [_TAIL, 1 - _TAIL])
    return float(first + last + 1) / 2


def _window(
    image: NDArray[np.uint8],
    top: int,
    left: int,
    size: int,
    surround: _Surround,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    height, width = image.shape
    if min(top, left) >= 0 and top + size <= height and left + size <= width:
        return image[top : top + size, left : left + size]
    rows, columns = np.arange(top, top + size), np.arange(left, left + size)
    inner_rows, inner_columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    # Beyond the edge its own level fades into the background, so that a halo shows no seam.
    fading = np.outer(_fading(rows - inner_rows), _fading(columns - inner_columns))
    smooth = uniform_filter(image.astype(np.float32), 5, mode="nearest") - surround.level
    padding = smooth[inner_rows][:, inner_columns] * fading
    padding += surround.texture((size, size), rng)
    return np.where(fading < 1, _grey(padding), image[inner_rows][:, inner_columns])


def _fading(beyond: NDArray[np.int64]) -> NDArray[np.float32]:
    """What is left of an edge's own level ``beyond`` px outside of it; 1 inside."""
    faded: NDArray[np.float32] = np.exp(np.abs(beyond) / np.float32(-_FADE_PX), dtype=np.float32)
    return faded
