"""Square images of one size from crops of any size: centre, pad, and cut or shrink.

Size tells particles apart, so a crop is not stretched. Along each axis a crop smaller than the
window keeps all its pixels and gains background; a larger one loses the pixels farthest from
the particle; a crop of exactly the window's size is kept as it is. Where that would cut the
particle, ``fit="shrink"`` scales the whole crop down instead.
"""

import zlib
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import correlate1d, uniform_filter, uniform_filter1d

from svp_lightning.data.settings import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE, WindowSettings

SIZE_EDGES_UM = (2.0, 5.0, 10.0, 25.0)
"""Thresholds of USP <1788> counting, equivalent circular diameter."""
_BINS = ("< 2 µm", "2-5 µm", "5-10 µm", "10-25 µm", "≥ 25 µm")
LARGE_BINS = _BINS[3:]
UNKNOWN_SIZE = "size unknown"

_LARGEST = 0.2
"""Share of the images that decide the window where no size is known: the largest."""
_FADE_PX = 3.0
"""Length over which an edge's own level fades into the background beyond it."""
_TAIL = 0.02
"""Share of the particle's weight left out at each side when its extent is judged."""
_CUT = 0.01
"""Share of the particle's weight that lies outside of the window when it is cut."""


class Framed(NamedTuple):
    """An image of the window's size.

    Attributes:
        image: (size, size) uint8.
        background_grey: level of the background found, before scaling.
        scale: px of the image for each px of the crop; below 1 where the crop was shrunk.
        cut: whether a part of the particle lies outside of the window.
    """

    image: NDArray[np.uint8]
    background_grey: float
    scale: float
    cut: bool


def choose_window(
    larger_sides: NDArray[np.int64], ecd_um: NDArray[np.float64] | None, settings: WindowSettings
) -> int:
    """Side of the window, px: a multiple of 16 from 16 to 128.

    It holds the share ``settings.holds`` of the particles of at least ``settings.at_least_um``, by
    the larger side of each crop (N,), px, and the diameters (N,), µm, NaN where unknown. Where no
    particle is known to be that large, it holds that share of the largest fifth of the crops.
    """
    large = larger_sides[:0] if ecd_um is None else larger_sides[ecd_um >= settings.at_least_um]
    if not larger_sides.size:
        return MIN_IMAGE_SIZE
    if large.size:
        side = float(np.quantile(large, settings.holds, method="inverted_cdf"))
    else:  # "lower": one picture of another kind must not decide for a few crops
        share = 1 - _LARGEST * (1 - settings.holds)
        side = float(np.quantile(larger_sides, share, method="lower"))
    return int(np.clip(np.ceil(side / 16) * 16, MIN_IMAGE_SIZE, MAX_IMAGE_SIZE))


def size_bins(ecd_um: pd.Series) -> pd.Series:
    """The size bin of each particle (``"5-10 µm"``), :data:`UNKNOWN_SIZE` where it has no size."""
    bins = pd.cut(ecd_um, [0.0, *SIZE_EDGES_UM, np.inf], right=False, labels=_BINS)
    if bins.isna().any():
        bins = bins.cat.add_categories(UNKNOWN_SIZE).fillna(UNKNOWN_SIZE)
    return bins


def window_counts(particles: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Size bin -> ``particles``, ``cut`` by the window, ``shrunk`` to fit, ``smallest_scale``.

    ``particles`` are those of a store, with ``cut``, ``scale`` and perhaps ``ecd_um``.
    """
    sizes = particles.get("ecd_um", pd.Series(np.nan, particles.index)).astype(float)
    return {
        str(name): {
            "particles": len(rows),
            "cut": int(rows["cut"].sum()),
            "shrunk": int((rows["scale"] < 1).sum()),
            "smallest_scale": float(rows["scale"].min()),
        }
        for name, rows in particles.groupby(size_bins(sizes), observed=True)
    }


def frame(
    image: NDArray[np.uint8],
    size: int,
    opaque: NDArray[np.bool_] | None = None,
    background: int | None = None,
    fit: Literal["cut", "shrink"] = "cut",
) -> Framed:
    """Place the particle of ``image`` in the middle of a ``size`` x ``size`` window.

    The same crop always gives the same image: padding continues the crop's own border, with
    noise like the border's from a generator seeded by the crop.

    Args:
        image: (h, w) grey levels.
        size: side of the window, px.
        opaque: (h, w), False where pixels are to be replaced by background.
        background: grey level that the background is scaled to; None keeps it.
        fit: ``shrink`` scales a crop down (mean over areas) where its particle would be cut.
    """
    surround = _surround(image, opaque)
    rng = np.random.default_rng(zlib.crc32(image.tobytes()))
    if opaque is not None:
        image = np.where(opaque, image, _grey(surround.texture(image.shape, rng)))
    side = size
    top, left, cut = _place(image, surround, side)
    if cut and fit == "shrink":
        side = max(image.shape)
        top, left, cut = _place(image, surround, side)
    framed = _window(image, top, left, side, surround, rng)
    if side > size:
        box = Image.Resampling.BOX
        framed = np.asarray(Image.fromarray(framed).resize((size, size), box))
    if background is not None and surround.level > 0:
        framed = _grey(framed * (background / surround.level))
    return Framed(framed, surround.level, size / side, cut)


class _Surround(NamedTuple):
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
        return np.asarray(np.float32(self.level) + np.float32(self.noise) * noise)


def _surround(image: NDArray[np.uint8], opaque: NDArray[np.bool_] | None) -> _Surround:
    """Judge the background from the image's border, robust to a particle that crosses it."""
    ring = border(image)
    if opaque is not None:
        seen = border(opaque)
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


def border(image: NDArray[Any]) -> NDArray[Any]:
    """The border pixels, once around."""
    if min(image.shape) < 3:
        return image.ravel()
    return np.concatenate([image[0], image[1:-1, -1], image[-1, ::-1], image[-2:0:-1, 0]])


def _grey(levels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(levels + 0.5, 0, 255), np.uint8)


def _place(image: NDArray[np.uint8], surround: _Surround, size: int) -> tuple[int, int, bool]:
    """Top left corner of the window in the image, negative where padding is due; if it cuts."""
    if image.shape == (size, size):
        return 0, 0, False
    # A particle is where the image deviates from the background. A 3 x 3 mean takes out most of
    # the noise; what is then below the noise or a fifth of the strongest deviation is none.
    smooth = uniform_filter(image.astype(np.float32) - surround.level, 3, mode="nearest")
    weight: NDArray[np.float32] = np.abs(smooth)
    weight[weight < max(0.2 * float(weight.max()), 1.5 * surround.noise, 2.0)] = 0
    middles = _middle(weight.sum(axis=1)), _middle(weight.sum(axis=0))
    top, left = (
        int(np.clip(round(middle - size / 2), min(0, length - size), max(0, length - size)))
        for middle, length in zip(middles, image.shape, strict=True)
    )
    inside = weight[max(top, 0) : top + size, max(left, 0) : left + size]
    return top, left, bool(inside.sum() < (1 - _CUT) * weight.sum())


def _middle(profile: NDArray[np.float32]) -> float:
    """Of the particle's extent along an axis, px, without a tail on each side.

    A few noisy pixels far off do not move it.
    """
    if not profile.any():
        return len(profile) / 2
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
    beyond = np.abs(rows - inner_rows), np.abs(columns - inner_columns)
    fading = np.outer(*(np.exp(n / np.float32(-_FADE_PX), dtype=np.float32) for n in beyond))
    smooth = uniform_filter(image.astype(np.float32), 5, mode="nearest") - surround.level
    padding = smooth[inner_rows][:, inner_columns] * fading
    padding += surround.texture((size, size), rng)
    return np.where(fading < 1, _grey(padding), image[inner_rows][:, inner_columns])
