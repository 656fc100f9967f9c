"""Size, shape and brightness of particles, measured on the images alone."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from svp_lightning.evaluation.fidelity.segmentation import WITHIN_IMAGE, segment

RINGS = 8
OUTERMOST = 1.5
"""Radius of the last ring's outer edge, in equivalent radii."""
CHUNK_IMAGES = 1024


@dataclass(frozen=True)
class Morphology:
    """Measures of n particles, (n,) float64 each; NaN where no particle stands out.

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
        parts = [getattr(self, field.name) for field in fields(self)]
        return np.column_stack(parts)


MEASURES = tuple(field.name for field in fields(Morphology))


def measure_morphology(images: NDArray[np.uint8], pixel_size_um: float | None = None) -> Morphology:
    """Segment and measure the particle of each image.

    Args:
        images: (n, H, W), n at least 1.
        pixel_size_um: µm per px; None leaves the diameter in px.
    """
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
