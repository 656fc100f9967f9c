"""Shapes of protein aggregates as maps of thickness, split into a front and a back half."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svp_lightning.simulation.session import log_uniform

GRID_STEP_UM = 0.16
"""Fine enough for the objective's passband of up to 1 cycle per um (and its aliases)."""
MAX_EXTENT_UM = 17.0

_Map = NDArray[np.float32]


@dataclass(frozen=True)
class Thickness:
    """An aggregate seen along the optical axis: float32 (H, W) thickness of its halves in um.

    ``half_depth_um`` is the distance of each half's plane from the centre.
    """

    front_um: _Map
    back_um: _Map
    half_depth_um: float

    @property
    def deepest_um(self) -> float:
        return float((self.front_um + self.back_um).max())

    @property
    def area_um2(self) -> float:
        """Silhouette: where the aggregate is thicker than 5 % of its deepest part."""
        total = self.front_um + self.back_um
        return float(np.count_nonzero(total > 0.05 * total.max())) * GRID_STEP_UM**2


def fractal(rng: np.random.Generator) -> Thickness:
    """Cluster of spheres that grows at its tips (a floc where growth is even)."""
    count = round(log_uniform(rng, 5, 120))
    mean = rng.uniform(0.35, 0.95)
    radii = mean * np.exp(rng.normal(0, 0.3, count))
    centres = _grow(rng, radii, exponent=rng.uniform(0, 3.5))
    centres[:, 2] *= rng.uniform(0.4, 1.0)
    return _splat(centres, radii)


def _grow(
    rng: np.random.Generator, radii: NDArray[np.float64], exponent: float
) -> NDArray[np.float64]:
    """Attach spheres one by one; the parent is the farthest of a few drawn at random."""
    count = len(radii)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reach = rng.uniform(0.75, 1.0, count)
    tournament = 1 + (rng.random((count, 4)) < exponent / 3.5).sum(axis=1)
    picks = rng.random((count, 5))
    points = [(0.0, 0.0, 0.0)]
    far = [0.0]
    for i in range(1, count):
        drawn = [int(p * i) for p in picks[i, : tournament[i]]]
        parent = max(drawn, key=far.__getitem__)
        x, y, z = points[parent]
        dx, dy, dz = directions[i]
        if dx * x + dy * y + dz * z < 0:  # outwards
            dx, dy, dz = -dx, -dy, -dz
        step = float(reach[i] * (radii[i] + radii[parent]))
        point = (x + step * float(dx), y + step * float(dy), z + step * float(dz))
        points.append(point)
        far.append(point[0] ** 2 + point[1] ** 2 + point[2] ** 2)
    return np.array(points)


def fibre(rng: np.random.Generator) -> Thickness:
    """Worm-like chain of even thickness."""
    radius = rng.uniform(0.3, 1.1)
    step = 0.5 * radius
    count = max(6, round(rng.uniform(5, 20) / step))
    curvature = log_uniform(rng, 0.02, 0.8)  # 1/um
    drift = np.cumsum(rng.normal(0, 1, (count, 2)), axis=0) * curvature * math.sqrt(step) * step
    bend = rng.normal(0, curvature * 0.5)
    angle = rng.uniform(0, 2 * math.pi) + drift[:, 0] + bend * step * np.arange(count)
    slope = rng.normal(0, 0.25) + 0.3 * drift[:, 1]
    steps = np.stack([np.cos(angle), np.sin(angle), np.tanh(slope)], axis=1) * step
    centres = np.cumsum(steps, axis=0)
    width = 1 + 0.25 * np.cumsum(rng.normal(0, 1, count)) / math.sqrt(count)
    taper = np.sqrt(np.clip(np.minimum(np.arange(1, count + 1), np.arange(count, 0, -1)) / 3, 0, 1))
    return _splat(centres, radius * np.clip(width, 0.5, 1.6) * taper)


def film(rng: np.random.Generator) -> Thickness:
    """Thin sheet with a ragged soft edge, texture and folds."""
    a = rng.uniform(3, 8)
    b = a * rng.uniform(0.35, 1.0)
    x, y = _grid(a * 1.25)
    texture = _texture(rng, x.shape[0], correlation_um=rng.uniform(0.5, 1.6))
    rough = _texture(rng, x.shape[0], correlation_um=rng.uniform(1.2, 2.5))
    turn = rng.uniform(0, math.pi)
    u = math.cos(turn) * x + math.sin(turn) * y
    v = -math.sin(turn) * x + math.cos(turn) * y
    edge = 1 - np.hypot(u / a, v / b) + rng.uniform(0.08, 0.2) * rough
    softness = rng.uniform(0.25, 0.6)
    rim = x.max() - np.hypot(x, y) - 2 * softness  # within the grid, whose border is straight
    sheet = _soft_step(np.minimum(edge * b, rim), softness)
    depth = 0.5 + rng.uniform(0.15, 0.5) * texture
    for _ in range(rng.integers(1, 5)):
        depth = depth + _fold(rng, u, v, b, rough)
    total = np.maximum(sheet * depth, 0).astype(np.float32)
    tilt = rng.uniform(0, 2.5)
    share = _soft_step(u + texture, a / 2)
    return Thickness(total * share, total * (1 - share), tilt)


def _fold(rng: np.random.Generator, u: _Map, v: _Map, size: float, rough: _Map) -> _Map:
    """A ridge along a bent line."""
    turn = rng.uniform(0, math.pi)
    across = math.cos(turn) * u + math.sin(turn) * v
    along = -math.sin(turn) * u + math.cos(turn) * v
    bent = across + rng.normal(0, 0.5) / size * along**2 + 0.4 * rough
    bent = bent - rng.uniform(-0.6, 0.6) * size
    width = rng.uniform(0.25, 0.7)
    ridge = rng.uniform(0.3, 1.3) * np.exp(-((bent / width) ** 2))
    return np.asarray(ridge, np.float32)


def compact(rng: np.random.Generator) -> Thickness:
    """Near-globular lump; out of focus it is what is taken for oil."""
    radius = log_uniform(rng, 1.0, 4.5)
    x, y = _grid(radius * 1.6)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    outline = np.ones_like(x)
    roughness = rng.uniform(0.02, 0.13)
    for order in range(2, 7):
        size = roughness * rng.normal() * (2 / order) ** 1.2
        outline += size * np.cos(order * angle + rng.uniform(0, 2 * math.pi))
    rough = _texture(rng, x.shape[0], correlation_um=0.25 * radius + 0.2)
    texture = _texture(rng, x.shape[0], correlation_um=rng.uniform(0.3, 0.9))
    relative = distance / (radius * outline) + rng.uniform(0, 0.12) * rough
    dome = np.maximum(1 - relative**2, 0) ** rng.uniform(0.5, 1.0)
    flat = rng.uniform(0.5, 1.0)
    total = 2 * radius * flat * dome * np.maximum(1 + rng.uniform(0, 0.35) * texture, 0)
    total = total.astype(np.float32)
    share = np.clip(0.5 + 0.2 * rough, 0, 1).astype(np.float32)
    return Thickness(total * share, total * (1 - share), 0.4 * radius * flat)


MORPHOLOGIES: dict[str, Callable[[np.random.Generator], Thickness]] = {
    "fractal": fractal,
    "film": film,
    "fibre": fibre,
    "compact": compact,
}


def _grid(extent_um: float) -> tuple[_Map, _Map]:
    """X and y of a square grid that reaches ``extent_um`` from its centre; float32 (M, M)."""
    half = math.ceil(min(extent_um, MAX_EXTENT_UM / 2) / GRID_STEP_UM)
    line = GRID_STEP_UM * np.arange(-half, half + 1, dtype=np.float32)
    return np.broadcast_to(line, (line.size,) * 2), np.broadcast_to(line[:, None], (line.size,) * 2)


def _soft_step(value: _Map, softness: float) -> _Map:
    return np.asarray(0.5 * (1 + np.tanh(value / np.float32(softness))), dtype=np.float32)


def _texture(rng: np.random.Generator, size: int, correlation_um: float) -> _Map:
    """Gaussian random field, mean 0, variance 1; float32 (size, size)."""
    padded = 2 * math.ceil((size + 8) / 16) * 8
    frequency = np.fft.fftfreq(padded, GRID_STEP_UM)
    half = frequency[: padded // 2 + 1]
    gain_y = np.exp(-((np.pi * correlation_um * frequency) ** 2))[:, None]
    gain_x = np.exp(-((np.pi * correlation_um * half) ** 2))
    white = np.fft.rfft2(rng.standard_normal((padded, padded), dtype=np.float32))
    noise = np.fft.irfft2(white * (gain_y * gain_x), s=(padded, padded))[:size, :size]
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-9), dtype=np.float32)


def _splat(centres: NDArray[np.float64], radii: NDArray[np.float64]) -> Thickness:
    """Thickness of overlapping spheres, those above and below the middle apart."""
    middle = (centres.max(axis=0) + centres.min(axis=0)) / 2
    centres = centres - middle
    inside = np.abs(centres[:, :2]).max(axis=1) + radii < MAX_EXTENT_UM / 2
    if not inside.all():
        centres, radii = centres[inside], radii[inside]
    reach = float((np.abs(centres[:, :2]).max(axis=1) + radii).max()) + GRID_STEP_UM
    half = math.ceil(reach / GRID_STEP_UM)
    patch = math.ceil(float(radii.max()) / GRID_STEP_UM)
    offsets = np.arange(-patch, patch + 1)
    position = centres[:, :2] / GRID_STEP_UM
    nearest = np.rint(position).astype(np.int64)
    d = ((offsets - (position - nearest)[..., None]) * GRID_STEP_UM) ** 2  # (n, 2, P)
    gap = (radii**2)[:, None, None] - d[:, 1, :, None] - d[:, 0, None, :]
    chord = 2 * np.sqrt(np.maximum(gap, 0))
    side = 2 * (half + patch) + 1
    centre = half + patch
    rows = nearest[:, 1, None] + centre + offsets
    columns = nearest[:, 0, None] + centre + offsets
    flat = rows[:, :, None] * side + columns[:, None, :]
    above = centres[:, 2] > 0
    halves = []
    for chosen in (above, ~above):
        summed = np.bincount(flat[chosen].ravel(), chord[chosen].ravel(), minlength=side * side)
        cut = summed.reshape(side, side)[patch : side - patch, patch : side - patch]
        halves.append(cut.astype(np.float32))
    depth = float(np.abs(centres[:, 2]).mean())
    return Thickness(halves[0], halves[1], min(depth, 4.0))
