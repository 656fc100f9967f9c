"""Size, shape and brightness of particles, measured on the images alone, and their distances."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import ks_2samp, wasserstein_distance

from svp_lightning.evaluation.intervals import with_half_sample_intervals
from svp_lightning.evaluation.schema import Estimate

RINGS = 8
OUTERMOST = 1.5
"""Radius of the last ring's outer edge, in equivalent radii."""
CHUNK_IMAGES = 1024
MIN_VALUES = 2
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

    ``mask`` (n, H, W) is the largest connected particle of each image, holes filled, all False
    where there is none; ``background`` (n,) is a grey level.
    """

    mask: NDArray[np.bool_]
    background: NDArray[np.float32]


def shows_something(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(n,) whether any two pixels of an image (n, H, W) differ by :data:`MIN_CONTRAST` or more."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    return np.asarray(np.ptp(flat, axis=1) >= MIN_CONTRAST)


def segment(images: NDArray[np.uint8]) -> Segmented:
    """Segment images (n, H, W), grey levels 0 to 255, by their differences from the background.

    Background and noise are the median and the scaled median deviation of the border pixels;
    what differs by more than 4 times the noise, 4 grey levels and 15 % of the strongest contrast
    is particle. Its outline lies about 1 px outside a sharp edge.
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
    return np.asarray(np.median(_border(grey), axis=1), np.float32)


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
    return np.asarray(mask & (parts == np.where(chosen > 0, chosen, -1)[:, None, None]))


@dataclass(frozen=True)
class Morphology:
    """Measures of n particles, (n,) float64 each; NaN where there is none.

    Attributes:
        ecd: diameter of the circle of the same area, in px, or µm where the pixel size is given.
        circularity: 4πA / P², about 1 for a disc.
        aspect_ratio: minor over major axis of the ellipse of the same second moments, 0 to 1.
        mean_intensity: grey level inside the particle, 0 to 255.
        min_intensity: darkest grey level inside.
        edge_gradient: mean absolute gradient along the outline, grey levels per px.
        radial_profile: (n, rings) mean grey level minus background in rings around the centre,
            from 0 to 1.5 equivalent radii; NaN in rings too thin to hold a pixel.
    """

    ecd: NDArray[np.float64]
    circularity: NDArray[np.float64]
    aspect_ratio: NDArray[np.float64]
    mean_intensity: NDArray[np.float64]
    min_intensity: NDArray[np.float64]
    edge_gradient: NDArray[np.float64]
    radial_profile: NDArray[np.float64]

    def columns(self) -> NDArray[np.float64]:
        """(n, 6 + rings) all measures side by side."""
        return np.column_stack([getattr(self, name) for name in MEASURES])


MEASURES = tuple(field.name for field in fields(Morphology))


def measure_morphology(images: NDArray[np.uint8], pixel_size_um: float | None = None) -> Morphology:
    """Segment and measure the particle of each image (n, H, W); None leaves the diameter in px."""
    chunks = [
        _measure(np.asarray(images[start : start + CHUNK_IMAGES]))
        for start in range(0, len(images), CHUNK_IMAGES)
    ]
    joined = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in MEASURES}
    joined["ecd"] = joined["ecd"] * (pixel_size_um or 1.0)
    return Morphology(**joined)


def _measure(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    found = segment(images)
    mask, grey = found.mask, images.astype(np.float64)
    area = mask.sum(axis=(1, 2)).astype(np.float64)
    area[area == 0] = np.nan
    rim = mask & ~ndimage.binary_erosion(mask, WITHIN_IMAGE)
    slope = np.hypot(*np.gradient(grey, axis=(1, 2)))
    centre, aspect_ratio = _moments(mask, area)
    darkest = np.where(mask, grey, np.inf).min(axis=(1, 2))
    ecd = 2 * np.sqrt(area / np.pi)
    return {
        "ecd": ecd,
        "circularity": 4 * np.pi * area / perimeter(mask) ** 2,
        "aspect_ratio": aspect_ratio,
        "mean_intensity": (grey * mask).sum(axis=(1, 2)) / area,
        "min_intensity": np.where(np.isfinite(darkest), darkest, np.nan),
        "edge_gradient": (slope * rim).sum(axis=(1, 2)) / _or_nan(rim.sum(axis=(1, 2))),
        "radial_profile": _profile(grey - found.background[:, None, None], centre, ecd / 2),
    }


def perimeter(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n,) outline length in px of (n, H, W) masks, from 2 × 2 pixel patterns; NaN if empty.

    Pratt, Digital Image Processing (1991), eq. 18.2-8: patterns of two adjacent pixels count 1,
    those of one or three 1/√2, and two diagonal ones 2/√2.
    """
    m = np.pad(mask, ((0, 0), (1, 1), (1, 1))).astype(np.int8)
    a, b, c, d = m[:, :-1, :-1], m[:, :-1, 1:], m[:, 1:, :-1], m[:, 1:, 1:]
    total = a + b + c + d
    diagonal = (total == 2) & (a == d)
    straight = ((total == 2) & ~diagonal).sum(axis=(1, 2))
    corner = ((total == 1) | (total == 3)).sum(axis=(1, 2)) + 2 * diagonal.sum(axis=(1, 2))
    return _or_nan(straight + corner / np.sqrt(2))


def _moments(
    mask: NDArray[np.bool_], area: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres (n, 2) as row and column, and aspect ratios (n,)."""
    y, x = np.mgrid[: mask.shape[1], : mask.shape[2]].astype(np.float64)
    weight = mask.reshape(len(mask), -1).astype(np.float64)
    powers = np.column_stack([p.ravel() for p in (y, x, y * y, x * x, x * y)])
    y1, x1, yy, xx, xy = (weight @ powers / area[:, None]).T
    # A pixel is a square, not a point: its own second moment is 1/12.
    yy, xx, xy = yy - y1**2 + 1 / 12, xx - x1**2 + 1 / 12, xy - x1 * y1
    root = np.sqrt((yy - xx) ** 2 + 4 * xy**2)
    ratio = np.sqrt(np.maximum(yy + xx - root, 0) / (yy + xx + root))
    return np.column_stack([y1, x1]), ratio


def _profile(
    difference: NDArray[np.float64], centre: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, rings) mean of ``difference`` in rings of equal width around each centre."""
    n, h, w = difference.shape
    y = np.arange(h)[None, :, None] - centre[:, 0, None, None]
    x = np.arange(w)[None, None, :] - centre[:, 1, None, None]
    ring = np.hypot(y, x) / radius[:, None, None] * (RINGS / OUTERMOST)
    inside = ring < RINGS  # False where the radius is NaN
    image = np.broadcast_to(np.arange(n)[:, None, None], ring.shape)
    place = image[inside] * RINGS + ring[inside].astype(np.int64)
    total = np.bincount(place, difference[inside], n * RINGS)
    count = np.bincount(place, minlength=n * RINGS)
    return (total / _or_nan(count)).reshape(n, RINGS)


def _or_nan(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Zero means that there is nothing to divide by."""
    numbers = values.astype(np.float64)
    return np.where(numbers > 0, numbers, np.nan)


SCALARS = len(MEASURES) - 1
LIMITS = {f"{name}/ks": (0.0, 1.0) for name in MEASURES} | {
    f"{name}/wasserstein": (0.0, np.inf) for name in MEASURES
}


def morphology_distances(
    real: Morphology, generated: Morphology, *, draws: int = 50, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """Measure -> its distances ``ks`` and ``wasserstein`` (:class:`~.stored.MorphologyDistance`).

    None where fewer than two particles of a set have the measure. Sets are cut to the smaller one's
    size, since both distances fall with it. For the floor, ``generated`` are training images.
    """
    a, b = real.columns(), generated.columns()
    size = min(len(a), len(b))
    found = with_half_sample_intervals(_distances, a[:size], b[:size], draws, seed, LIMITS)
    return {
        name: {kind: found[f"{name}/{kind}"] for kind in ("ks", "wasserstein")} for name in MEASURES
    }


def mean_measures(found: Morphology) -> dict[str, float | None]:
    """Measure -> its mean over the particles, of a profile over its rings too; None: no value."""
    columns = found.columns()
    scalars = [columns[:, :SCALARS], _mean(columns[:, SCALARS:], axis=1)]
    means = _mean(np.column_stack(scalars), axis=0).tolist()
    return {n: m if np.isfinite(m) else None for n, m in zip(MEASURES, means, strict=True)}


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of what is a number; NaN, without a warning, where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _distances(real: NDArray[Any], generated: NDArray[Any]) -> dict[str, float]:
    pairs = [_column_distance(a, b) for a, b in zip(real.T, generated.T, strict=True)]
    rings = _mean(np.array(pairs[SCALARS:]), axis=0)
    values = [*pairs[:SCALARS], tuple(rings)]
    return {
        f"{name}/{kind}": float(value)
        for name, pair in zip(MEASURES, values, strict=True)
        for kind, value in zip(("ks", "wasserstein"), pair, strict=True)
    }


def _column_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if min(len(a), len(b)) < MIN_VALUES:
        return np.nan, np.nan
    deviation = a.std()
    shift = wasserstein_distance(a, b)
    scaled = shift / deviation if deviation > 0 else (0.0 if shift == 0 else np.nan)
    return float(ks_2samp(a, b, method="asymp").statistic), float(scaled)
