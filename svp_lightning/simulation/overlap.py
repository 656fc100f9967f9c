"""How the classes are made to overlap: the priors behind ``simulation.difficulty``.

One by one a small bubble (n = 1.0 in 1.34) in front of the focus and a small droplet behind
it are nearly the same dark disc: the sign of the index contrast turns the sign of the defocus.
Only the joint prior of radius and defocus tells them apart, so drawing both from one prior
takes that away. A compact protein aggregate out of focus is the other confusion.
"""

import math

import numpy as np

from svp_lightning.simulation.scene import Particle, Sphere, Spheres

_MEDIAN_RADIUS_UM = 1.9
_FOCUS_UM = (24.0, 6.0)
AIR_LIKE_SHARE = 0.5
"""Of confusable droplets, those that look like bubbles. The others stay what they are, mostly
bright in front of the focus, which is what confusable protein looks like."""


def draw_dark_disc(
    rng: np.random.Generator, scale: float, index: float, sign: int
) -> tuple[Particle, Spheres]:
    """A sphere from the prior that small bubbles and droplets share.

    Args:
        rng: the image's stream.
        scale: of the defocus.
        index: refractive index of the sphere.
        sign: side of the focus on which it appears as a dark disc: 1 for a sphere of lower
            index than the medium, -1 for one of higher index.
    """
    sphere = Sphere(
        radius_um=_MEDIAN_RADIUS_UM * math.exp(rng.normal(0, 0.28)),
        index=index,
        x_um=rng.normal(0, 0.3),
        y_um=rng.normal(0, 0.3),
        z_um=sign * scale * max(rng.normal(*_FOCUS_UM), 8.0),
        stretch=abs(rng.normal(0, 0.07)),
        angle=rng.uniform(0, math.pi),
    )
    radius = sphere.tabulated_radius_um
    return Particle("sphere", radius, 2 * radius, sphere.z_um, index), Spheres((sphere,))


def confusable_focus(rng: np.random.Generator) -> float:
    """Defocus (um) at which a compact aggregate looks like a droplet, on either side."""
    if rng.random() < 0.6:
        return float(rng.normal(38.0, 7.0))
    return float(rng.normal(-27.0, 5.0))
