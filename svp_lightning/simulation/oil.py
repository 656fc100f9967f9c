"""Silicone oil droplets: spheres of index 1.403, mostly in front of the focus."""

import math

import numpy as np

from svp_lightning.simulation.scene import Particle, Sphere, Spheres

OIL_INDEX = 1.403
DOUBLET_SHARE = 0.04
SATELLITE_SHARE = 0.25

# Focus populations of a FlowCam run: share, mean and spread of the focus (um), and the radius (um)
# that is typical at the mean. Bright droplets in front of the focus, pale ones further on, dark
# ones behind. Set by rendering thousands of droplets of any radius, focus and microscope and
# keeping those nearest to each real crop of the development half (experiments/simulator_realism);
# the rest lie anywhere in 18 to 50 um.
_POPULATIONS = ((0.62, 39.5, 4.0, 3.4), (0.17, 43.0, 4.5, 2.8), (0.17, -22.0, 4.0, 2.5))
_RADIUS_POWER = 0.9
"""Larger droplets look alike further from focus: within a population R grows as z to this."""
_RADIUS_SPREAD = 0.1


def draw_oil(rng: np.random.Generator, scale: float) -> tuple[Particle, Spheres]:
    """One droplet, a tilted doublet, or a droplet with a small satellite.

    Args:
        rng: the image's stream.
        scale: of the defocus, from the session's pixel size.
    """
    focus, typical = _focus_and_radius(rng)
    z = focus * scale
    radius = typical * math.exp(rng.normal(0, _RADIUS_SPREAD))
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
    """Distance from focus and the median radius there, um."""
    choice = rng.random()
    for share, mean, spread, radius in _POPULATIONS:
        if choice < share:
            focus = float(rng.normal(mean, spread))
            return focus, radius * max(focus / mean, 0.3) ** _RADIUS_POWER
        choice -= share
    return float(rng.uniform(18, 50)), 2.8


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
