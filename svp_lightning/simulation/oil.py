"""Silicone oil droplets: spheres of index 1.403, mostly in front of the focus."""

import math

import numpy as np

from svp_lightning.simulation.scene import Particle, Sphere, Spheres

OIL_INDEX = 1.403
DOUBLET_SHARE = 0.04
SATELLITE_SHARE = 0.25

# Shares, means and spreads (um) of the focus populations of a FlowCam run: bright droplets in
# front of the focus, pale ones further on, dark ones behind. Set by rendering thousands of
# droplets of any radius and focus and keeping those nearest to each real crop of the
# development half (experiments/simulator_realism); 4 % more lie anywhere in -18 to 60 um.
_FOCUS = ((0.54, 39.5, 5.0), (0.22, 48.0, 4.5), (0.20, -27.0, 5.0))


def draw_oil(rng: np.random.Generator, scale: float) -> tuple[Particle, Spheres]:
    """One droplet, a tilted doublet, or a droplet with a small satellite.

    Args:
        rng: the image's stream.
        scale: of the defocus, from the session's pixel size.
    """
    z = _focus(rng) * scale
    radius = _typical_radius(z) * math.exp(rng.normal(0, 0.18))
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


def _focus(rng: np.random.Generator) -> float:
    choice = rng.random()
    for share, mean, spread in _FOCUS:
        if choice < share:
            return float(rng.normal(mean, spread))
        choice -= share
    return float(rng.uniform(-18, 60))


def _typical_radius(z_um: float) -> float:
    """Median radius (um) at a focus, from the same nearest images as the focus itself."""
    if z_um < 0:
        return 3.2
    return 3.6 if z_um < 45 else 3.0


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
