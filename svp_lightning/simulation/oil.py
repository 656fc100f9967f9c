"""Silicone oil droplets: spheres of index 1.403, mostly in front of the focus."""

import math
from dataclasses import dataclass

import numpy as np

from svp_lightning.simulation.scene import Particle, Sphere, Spheres

OIL_INDEX = 1.403
DOUBLET_SHARE = 0.04
SATELLITE_SHARE = 0.25


@dataclass(frozen=True)
class _Population:
    """Droplets of one look.

    Attributes:
        share: of all droplets.
        focus_um, focus_spread_um: distance from the focus, normal.
        radius_um, radius_spread: at the mean focus; log-normal.
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

    Args:
        rng: the image's stream.
        scale: of the defocus, from the session's pixel size.
    """
    focus, radius = _focus_and_radius(rng)
    z = focus * scale
    main = Sphere(
        radius_um=radius,
        index=OIL_INDEX,
        x_um=rng.normal(0, 0.3),
        y_um=rng.normal(0, 0.3),
        z_um=z,
        stretch=abs(rng.normal(0, 0.09)),
        angle=rng.uniform(0, math.pi),
    )
    kind = rng.random()
    spheres: tuple[Sphere, ...]
    if kind < DOUBLET_SHARE:
        spheres = _neighbour(rng, main, rng.uniform(0.5, 1.05), centred=True)
        morphology = "doublet"
    elif kind < DOUBLET_SHARE + SATELLITE_SHARE:
        spheres = _neighbour(rng, main, rng.uniform(0.2, 0.45), centred=False)
        morphology = "satellite"
    else:
        spheres, morphology = (main,), "sphere"
    radius = main.tabulated_radius_um
    area = sum(sphere.tabulated_radius_um**2 for sphere in spheres)
    return (
        Particle(morphology, radius, 2 * math.sqrt(area), z, OIL_INDEX),
        Spheres(spheres),
    )


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


def _neighbour(
    rng: np.random.Generator, main: Sphere, ratio: float, *, centred: bool
) -> tuple[Sphere, Sphere]:
    """A second droplet touching the first, in a random direction of space."""
    radius = ratio * main.radius_um
    distance = main.radius_um + radius
    rise = rng.uniform(-0.7, 0.7)  # sine of the pair's tilt out of the image plane
    across = distance * math.sqrt(1 - rise * rise)
    direction = rng.uniform(0, 2 * math.pi)
    dx, dy = across * math.cos(direction), across * math.sin(direction)
    shift = 0.5 if centred else 0.1
    moved = Sphere(
        main.radius_um,
        main.index,
        main.x_um - shift * dx,
        main.y_um - shift * dy,
        main.z_um,
        main.stretch,
        main.angle,
    )
    other = Sphere(
        radius, main.index, moved.x_um + dx, moved.y_um + dy, main.z_um + distance * rise
    )
    return moved, other
