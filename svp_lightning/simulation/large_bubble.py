"""Air bubbles larger than the window: radial profiles by Abbe's sum, drawn slightly out of round.

A bubble of radius R = 42 um would need a very large frequency lattice for every image.
Instead I(r) is computed once per (R, z / R) node on a line through the centre, with exact
Mie spectra and one of three wavelengths at each source point (a light-emitting diode is a
few percent wide, which washes the finest rings out), and kept for the life of the process.
The microscope of these tables is the middle of the instrument's ranges: one for each run would
cost more than all other images together.
"""

import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from svp_lightning.simulation.imaging import pupil
from svp_lightning.simulation.lattice import ImagingGrid, Microscope, phasor
from svp_lightning.simulation.mie import MAX_SINE, interpolated, spectrum_over_sine
from svp_lightning.simulation.scene import Particle
from svp_lightning.simulation.session import Session, log_uniform
from svp_lightning.simulation.settings import OpticsSettings

RADII_UM = np.geomspace(7.0, 42.0, 12)
FOCUS_RATIOS = np.linspace(-0.3, 1.5, 13)
_STEP_UM = 0.15
_REACH_UM = 14.0
_RIM_WIDTH_UM = 0.45
_ANGLES = 3072
_BAND = (0.975, 1.0, 1.025)
"""Wavelengths over the centre's."""
_LATTICE_SIDE = 11
_WHOLE = 0.46
"""Largest radius, in widths of the window, of a bubble that is cut out whole."""
_PART_SHARE = 0.2
"""Of bubbles that would fit, those cut elsewhere (touching the field's edge or a neighbour)."""
_RIM_SHARE = 0.75
"""Of parts of large bubbles, those around the rim; the others are around the inner disc's edge."""
_INNER_DISC = 0.55
"""Radius of the inner disc over the bubble's, where rays that the objective still takes pass."""


def nominal_optics(optics: OpticsSettings) -> Microscope:
    """The middle of every range."""
    objective_na, condenser_na, medium_index = (
        sum(ends) / 2 for ends in (optics.objective_na, optics.condenser_na, optics.medium_index)
    )
    return Microscope(objective_na, condenser_na, optics.wavelength_um, medium_index)


@dataclass(frozen=True)
class LargeBubble:
    """How one bubble is drawn from its profile.

    ``node`` indexes :data:`RADII_UM` and :data:`FOCUS_RATIOS`; (x_um, y_um) is the centre relative
    to the window's. ``harmonics`` are (amplitude, phase) of the outline for orders 2 and 3,
    ``inner`` that of order 2 at the centre, fading towards the outline. ``rim`` is the brightness
    of the thin line around the inner disc (seen on real bubbles, sharper than partial coherence
    leaves it).
    """

    node: tuple[int, int]
    radius_um: float
    x_um: float
    y_um: float
    harmonics: tuple[tuple[float, float], ...]
    inner: tuple[float, float]
    rim: float

    def light(self, session: Session, optics: Microscope) -> NDArray[np.float32]:
        """Intensity on the session's fine pixels, float32 (N, N), background 1."""
        grid = session.grid
        position = grid.positions().numpy()
        x, y = position - np.float32(self.x_um), (position - np.float32(self.y_um))[:, None]
        distance = np.sqrt(x * x + y * y)
        angle = np.arctan2(y, x)
        relative = distance / np.float32(self.radius_um)
        (a2, p2), (a3, p3) = self.harmonics
        outline = 1 + a2 * np.cos(2 * angle - p2) + a3 * np.cos(3 * angle - p3)
        strength = self.inner[0] * np.maximum(1 - relative, 0)
        stretch = outline * (1 + strength * np.cos(2 * angle - self.inner[1]))
        # Scale inside the bubble, shift outside, so that halos keep their width.
        node_radius = np.float32(RADII_UM[self.node[0]])
        inside = relative / stretch * node_radius
        beyond = distance - self.radius_um * stretch + node_radius
        profile = _with_flat_disc(bubble_profile(optics, *self.node), node_radius, self.rim)
        at = np.where(relative < stretch, inside, beyond) / _STEP_UM
        return np.interp(at, np.arange(profile.size), profile).astype(np.float32)


def draw_large_bubble(rng: np.random.Generator, window_um: float) -> tuple[Particle, LargeBubble]:
    """A bubble and a window centred on it or where an arc, a ring, the inner disc or an edge shows.

    Bubbles that fit the window are mostly seen whole.
    """
    radius = log_uniform(rng, RADII_UM[0], RADII_UM[-1])
    ratio = rng.normal(0.85, 0.2) if rng.random() < 0.85 else rng.uniform(-0.3, 1.5)
    node = (
        int(np.abs(np.log(RADII_UM / radius)).argmin()),
        int(np.abs(FOCUS_RATIOS - ratio).argmin()),
    )
    # Of a bubble larger than the window a part shows that holds an edge: an instrument detects no
    # even field, and no real crop is one.
    if radius < _WHOLE * window_um and rng.random() >= _PART_SHARE:
        offset = abs(rng.normal(0, 0.4))
    else:
        edge = radius if rng.random() < _RIM_SHARE else _INNER_DISC * radius
        offset = max(edge + window_um * rng.uniform(-0.4, 0.35), 0.0)
    direction = rng.uniform(0, 2 * math.pi)
    bubble = LargeBubble(
        node=node,
        radius_um=radius,
        x_um=offset * math.cos(direction),
        y_um=offset * math.sin(direction),
        harmonics=(
            (abs(rng.normal(0, 0.03)), rng.uniform(0, 2 * math.pi)),
            (abs(rng.normal(0, 0.012)), rng.uniform(0, 2 * math.pi)),
        ),
        inner=(abs(rng.normal(0.08, 0.06)), rng.uniform(0, 2 * math.pi)),
        rim=rng.uniform(0, 0.3),
    )
    particle = Particle(
        "large_bubble", radius, 2 * radius, float(FOCUS_RATIOS[node[1]] * radius), 1.0
    )
    return particle, bubble


def bubble_profile(optics: Microscope, radius_node: int, focus_node: int) -> NDArray[np.float32]:
    """I(r) of a bubble, at r = 0, 0.15, ... um; background 1 beyond the halo."""
    return np.asarray(_profiles(optics, radius_node)[focus_node])


@cache
def _profiles(optics: Microscope, radius_node: int) -> NDArray[np.float32]:
    """I(r) at every focus node, which share their spectra; (foci, r)."""
    radius = float(RADII_UM[radius_node])
    grid, spectra = _lattice_spectra(optics, radius_node)
    count, half = int((radius + _REACH_UM) / _STEP_UM), grid.size // 2
    r = torch.arange(count, dtype=torch.float32) * _STEP_UM
    to_line = phasor(2 * math.pi * torch.outer(r, grid.frequencies()))
    depths = torch.from_numpy(FOCUS_RATIOS * radius).float()
    total = torch.zeros((len(FOCUS_RATIOS), count), dtype=torch.float64)
    for colour, spectrum, points in spectra:
        lens = pupil(grid, torch.zeros(1, 2), torch.zeros(1, 7), colour)
        transfer = lens.through(depths[None])[0]
        for fy in sorted({fy for fy, _, _ in points}):
            row = [(fx, weight) for y, fx, weight in points if y == fy]
            top = grid.margin - fy
            band = spectrum[top : top + grid.size]
            seen = torch.stack([band[:, grid.margin - fx :][:, : grid.size] for fx, _ in row])
            columns = torch.einsum("pyx,zyx->pzx", seen, transfer) * grid.step**2
            for column, (fx, weight) in zip(columns, row, strict=True):
                column[:, half + fx] += transfer[:, half + fy, half + fx]
                # The line y = 0 sees the row sum; its mirror image is the source's mirror image.
                light = torch.view_as_real(column @ to_line.T).square().sum(-1)
                total += weight * light.double()
    profiles = total.numpy().astype(np.float32)
    fade = np.clip((count - np.arange(count)) * _STEP_UM / 3.0, 0, 1).astype(np.float32)
    return np.asarray(1 + (profiles - 1) * fade)


def _with_flat_disc(
    profile: NDArray[np.float32], radius_um: np.float32, rim: float
) -> NDArray[np.float32]:
    """Even out the inner disc's rings and draw the thin line around it, if there is a disc.

    Axial rings need a perfect sphere; real bubbles show an even disc with a bright edge.
    """
    inside = int(radius_um / _STEP_UM)
    level = float(profile[: inside // 4].mean())
    bright = np.flatnonzero(profile[:inside] > 0.5 * level)
    if level < 0.15 or bright.size < 8 or bright[-1] > 0.95 * inside:
        return profile
    edge = int(bright[-1])
    distance = (np.arange(profile.size) - edge) * _STEP_UM
    even = 0.9 / (1 + np.exp((distance + 0.5) / 0.25))
    flat = level + 0.25 * (profile - level)
    result = profile + even * (flat - profile)
    result += rim * np.exp(-((distance / _RIM_WIDTH_UM) ** 2))
    return np.asarray(result, dtype=np.float32)


_Points = list[tuple[int, int, float]]


def _lattice_spectra(
    optics: Microscope, radius_node: int
) -> tuple[ImagingGrid, list[tuple[Microscope, torch.Tensor, _Points]]]:
    """The lattice; of each wavelength the microscope, the sphere's spectrum and the source points.

    By symmetry about the line only points with fy >= 0 are needed, with doubled weight.
    """
    radius = float(RADII_UM[radius_node])
    grid = ImagingGrid(
        objective_na=optics.objective_na / _BAND[0],
        condenser_na=optics.condenser_na,
        wavelength_um=optics.wavelength_um,
        medium_index=optics.medium_index,
        num_pixels=1,
        pixel_um=2 * (radius + _REACH_UM),
        lattice_side=_LATTICE_SIDE,
        margin_um=radius + _REACH_UM - 4,
    )
    half = _LATTICE_SIDE // 2
    points: list[_Points] = [[], [], []]
    for i in range(half + 1):
        for j in range(-half, half + 1):
            weight = float(grid.weights[half + i, half + j]) * (2 if i else 1)
            if weight:
                points[(i + j) % 3].append((i * grid.spacing, j * grid.spacing, weight))
    f = grid.frequencies(grid.margin)
    distance = (f.square() + f.square()[:, None]).sqrt()
    spectra = []
    for ratio, chosen in zip(_BAND, points, strict=True):
        wavelength = optics.wavelength_um * ratio
        rows = torch.from_numpy(_sphere_spectra(optics.medium_index, wavelength)[[radius_node]])
        position = distance * (wavelength / optics.medium_index / MAX_SINE * (_ANGLES - 1))
        spectrum = interpolated(rows, position[None])[0]
        spectra.append((replace(optics, wavelength_um=wavelength), spectrum, chosen))
    return grid, spectra


@lru_cache(maxsize=len(_BAND))
def _sphere_spectra(medium_index: float, wavelength: float) -> NDArray[np.complex64]:
    """Of every radius at once: they share the angular functions; (radii, angles)."""
    return spectrum_over_sine(RADII_UM, 1.0, medium_index, wavelength, _ANGLES)
