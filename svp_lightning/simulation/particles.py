"""What chance decides about one particle: droplets, bubbles, aggregates, and how they overlap.

Silicone oil droplets are spheres of index 1.403, mostly in front of the focus. Small air bubbles
are Mie spheres, large ones are cut by the window. Protein aggregates are thin phase objects in two
depth layers, of several morphologies.

``simulation.difficulty`` makes the classes overlap. One by one a small bubble (n = 1.0 in 1.34) in
front of the focus and a small droplet behind it are nearly the same dark disc: the sign of the
index contrast turns the sign of the defocus. Only the joint prior of radius and defocus sets them
apart, so drawing both from one prior takes that away. A compact protein aggregate out of focus is
the other confusion.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from svp_lightning.simulation.aggregates import GRID_STEP_UM, MORPHOLOGIES, Thickness
from svp_lightning.simulation.large_bubble import LargeBubble, draw_large_bubble
from svp_lightning.simulation.lattice import ImagingGrid
from svp_lightning.simulation.scene import Particle, PhaseScreens, Sphere, Spheres
from svp_lightning.simulation.session import log_uniform

OIL_INDEX = 1.403
DOUBLET_SHARE = 0.04
SATELLITE_SHARE = 0.25


@dataclass(frozen=True)
class _Population:
    """Droplets of one look, a ``share`` of all.

    Their distance from the focus is normal, their radius at the mean focus log-normal.
    """

    share: float
    focus_um: float
    focus_spread_um: float
    radius_um: float
    radius_spread: float


# From 9,000 droplets of any radius, focus and microscope, cut out as the real crops are, those
# nearest to each real crop of the development half, and trials on the crops of odd numbers
# (experiments/simulator_realism).
_POPULATIONS = (
    _Population(0.46, 40.0, 4.5, 3.65, 0.12),  # bright centre, dark ring
    _Population(0.20, 32.0, 7.0, 1.75, 0.20),  # bright centre alone
    _Population(0.22, -23.0, 5.0, 3.1, 0.12),  # dark disc
)
_REST_FOCUS_UM = (-15.0, 50.0)
_REST_RADIUS_UM, _REST_SPREAD = 2.3, 0.3
_RADIUS_POWER = 0.9
"""Larger droplets look alike further from focus: within a population R grows as z to this."""


def draw_oil(rng: np.random.Generator, scale: float) -> tuple[Particle, Spheres]:
    """One droplet, a tilted doublet, or a droplet with a small satellite.

    ``scale`` is that of the defocus, from the session's pixel size.
    """
    focus, radius = _focus_and_radius(rng)
    main = _sphere(rng, radius, OIL_INDEX, focus * scale, 0.09)
    kind = rng.random()
    if kind < DOUBLET_SHARE:
        return _droplets("doublet", *_touching(rng, main, rng.uniform(0.5, 1.05), shift=0.5))
    if kind < DOUBLET_SHARE + SATELLITE_SHARE:
        return _droplets("satellite", *_touching(rng, main, rng.uniform(0.2, 0.45), shift=0.1))
    return _droplets("sphere", main)


def _sphere(
    rng: np.random.Generator, radius_um: float, index: float, z_um: float, stretch: float
) -> Sphere:
    """Near the middle of the window; ``stretch`` is the spread of the elongation."""
    x, y = rng.normal(0, 0.3), rng.normal(0, 0.3)
    stretched, angle = abs(rng.normal(0, stretch)), rng.uniform(0, math.pi)
    return Sphere(radius_um, index, x, y, z_um, stretched, angle)


def _droplets(morphology: str, *spheres: Sphere) -> tuple[Particle, Spheres]:
    """The physical columns, which name the first sphere's radius, and the scene."""
    main = spheres[0]
    ecd = 2 * math.sqrt(sum(sphere.tabulated_radius_um**2 for sphere in spheres))
    particle = Particle(morphology, main.tabulated_radius_um, ecd, main.z_um, main.index)
    return particle, Spheres(spheres)


def _focus_and_radius(rng: np.random.Generator) -> tuple[float, float]:
    """Distance from focus and radius, um."""
    choice = rng.random()
    for kind in _POPULATIONS:
        if choice < kind.share:
            focus = float(rng.normal(kind.focus_um, kind.focus_spread_um))
            growth = max(focus / kind.focus_um, 0.3) ** _RADIUS_POWER
            return focus, kind.radius_um * growth * math.exp(rng.normal(0, kind.radius_spread))
        choice -= kind.share
    focus = float(rng.uniform(*_REST_FOCUS_UM))
    return focus, _REST_RADIUS_UM * math.exp(rng.normal(0, _REST_SPREAD))


def _touching(
    rng: np.random.Generator, main: Sphere, ratio: float, shift: float
) -> tuple[Sphere, Sphere]:
    """A droplet, moved by ``shift`` of their distance, and one that touches it in any direction."""
    radius = ratio * main.radius_um
    distance = main.radius_um + radius
    rise = rng.uniform(-0.7, 0.7)  # sine of the pair's tilt out of the image plane
    across = distance * math.sqrt(1 - rise * rise)
    direction = rng.uniform(0, 2 * math.pi)
    dx, dy = across * math.cos(direction), across * math.sin(direction)
    moved = replace(main, x_um=main.x_um - shift * dx, y_um=main.y_um - shift * dy)
    z = main.z_um + distance * rise
    return moved, Sphere(radius, main.index, moved.x_um + dx, moved.y_um + dy, z)


# The nearest simulated images of the real small bubbles, cut out as the real crops are
# (experiments/simulator_realism), have radii of 0.9 to 2.2 um at 13 to 33 um in front of the focus.
_BUBBLE_RADIUS_UM = 1.65
_FOCUS_PER_INDEX = 70.0


def draw_air(
    rng: np.random.Generator,
    scale: float,
    indices: tuple[float, ...],
    large_share: float,
    window_um: float,
) -> tuple[Particle, Spheres | LargeBubble]:
    """One bubble; with a chance of ``large_share``, part of a large one in a window.

    ``scale`` is that of the defocus, from the session's pixel size; ``indices`` are the effective
    refractive indices of small bubbles, drawn with equal chance; the window is ``window_um`` wide.
    """
    if rng.random() < large_share:
        return draw_large_bubble(rng, window_um)
    index = indices[rng.integers(len(indices))]
    size = rng.normal(0, 0.28)  # log of the radius over its median
    focus = rng.normal(22.0, 4.0) if rng.random() < 0.95 else rng.uniform(14, 34)
    # A weaker sphere must lie further from focus to give the same soft disc.
    focus += _FOCUS_PER_INDEX * max(index - 1.1, 0)
    radius = _BUBBLE_RADIUS_UM * math.exp(size)
    return _droplets("sphere", _sphere(rng, radius, index, focus * scale, 0.05))


_DARK_RADIUS_UM = 1.9
_DARK_FOCUS_UM = (24.0, 6.0)
AIR_LIKE_SHARE = 0.5
"""Of confusable droplets, those that look like bubbles. The others stay what they are, mostly
bright in front of the focus, which is what confusable protein looks like."""


def draw_dark_disc(
    rng: np.random.Generator, scale: float, index: float, sign: int
) -> tuple[Particle, Spheres]:
    """A sphere from the prior that small bubbles and droplets share.

    ``scale`` is that of the defocus, ``sign`` the side of the focus on which the sphere appears as
    a dark disc: 1 for one of lower index than the medium, -1 for one of higher index.
    """
    sphere = Sphere(
        radius_um=_DARK_RADIUS_UM * math.exp(rng.normal(0, 0.28)),
        index=index,
        x_um=rng.normal(0, 0.3),
        y_um=rng.normal(0, 0.3),
        z_um=sign * scale * max(rng.normal(*_DARK_FOCUS_UM), 8.0),
        stretch=abs(rng.normal(0, 0.07)),
        angle=rng.uniform(0, math.pi),
    )
    return _droplets("sphere", sphere)


def confusable_focus(rng: np.random.Generator) -> float:
    """Defocus (um) at which a compact aggregate looks like a droplet, on either side."""
    if rng.random() < 0.6:
        return float(rng.normal(38.0, 7.0))
    return float(rng.normal(-27.0, 5.0))


_SHARES = (("fractal", 0.48), ("film", 0.14), ("fibre", 0.14), ("compact", 0.24))
_MAX_PHASE = (0.3, 2.8)


def draw_protein(
    rng: np.random.Generator,
    grid: ImagingGrid,
    focus_offset_um: float,
    compact_focus_um: float | None = None,
) -> tuple[Particle, PhaseScreens]:
    """One aggregate near focus (three quarters) or well away from it.

    ``compact_focus_um`` asks for a compact one at that focus.
    """
    morphology = _choose(rng) if compact_focus_um is None else "compact"
    body = MORPHOLOGIES[morphology](rng)
    contrast = _index_contrast(rng, body, grid.wavelength_um)
    absorption = rng.uniform(0.005, 0.08) if rng.random() < 1 / 3 else 0.0
    focus = rng.uniform(-9, 9) if rng.random() < 0.75 else rng.uniform(-30, 45)
    z = (focus if compact_focus_um is None else compact_focus_um) + focus_offset_um
    wave_number = 2 * math.pi / grid.wavelength_um
    front = _transmission(body.front_um, wave_number * contrast, absorption)
    back = _transmission(body.back_um, wave_number * contrast, absorption)
    height, width = front.shape
    screens = PhaseScreens(
        front=front - 1,
        back=front * (back - 1),
        step_um=GRID_STEP_UM,
        x_um=-(width - 1) / 2 * GRID_STEP_UM + rng.normal(0, 0.35),
        y_um=-(height - 1) / 2 * GRID_STEP_UM + rng.normal(0, 0.35),
        depths_um=(z + body.half_depth_um, z - body.half_depth_um),
    )
    ecd = 2 * math.sqrt(body.area_um2 / math.pi)
    particle = Particle(morphology, ecd / 2, ecd, z, grid.medium_index + contrast)
    return particle, screens


def _choose(rng: np.random.Generator) -> str:
    choice = rng.random()
    for name, share in _SHARES:
        if choice < share:
            return name
        choice -= share
    return _SHARES[-1][0]


def _index_contrast(rng: np.random.Generator, body: Thickness, wavelength_um: float) -> float:
    """Refractive index over the medium's, keeping the largest phase within 0.3 to 2.8 rad."""
    contrast = log_uniform(rng, 0.006, 0.07)
    phase = 2 * math.pi / wavelength_um * contrast * body.deepest_um
    low = _MAX_PHASE[0] * math.exp(rng.uniform(0, 0.7))
    return contrast * min(max(phase, low), _MAX_PHASE[1]) / phase


def _transmission(
    thickness_um: NDArray[np.float32], phase_per_um: float, absorption_per_um: float
) -> NDArray[np.complex64]:
    phase = np.float32(phase_per_um) * thickness_um
    result = np.empty(phase.shape, np.complex64)
    result.real, result.imag = np.cos(phase), np.sin(phase)
    if absorption_per_um:
        result *= np.exp(np.float32(-absorption_per_um) * thickness_um)
    return result
