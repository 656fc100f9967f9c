"""Air bubbles: small ones as Mie spheres, large ones cut by the window."""

import math

import numpy as np

from svp_lightning.simulation.large_bubble import LargeBubble, draw_large_bubble
from svp_lightning.simulation.scene import Particle, Sphere, Spheres

# The nearest simulated images of the real small bubbles, cut out as the real crops are
# (experiments/simulator_realism), have radii of 0.9 to 2.2 um at 13 to 33 um in front of the focus.
_MEDIAN_RADIUS_UM = 1.65
_FOCUS_PER_INDEX = 70.0


def draw_air(
    rng: np.random.Generator,
    scale: float,
    indices: tuple[float, ...],
    large_share: float,
    window_um: float,
) -> tuple[Particle, Spheres | LargeBubble]:
    """One bubble.

    Args:
        rng: the image's stream.
        scale: of the defocus, from the session's pixel size.
        indices: effective refractive indices of small bubbles, drawn with equal chance.
        large_share: share of images that show part of a large bubble.
        window_um: width of an image.
    """
    if rng.random() < large_share:
        return draw_large_bubble(rng, window_um)
    index = indices[rng.integers(len(indices))]
    size = rng.normal(0, 0.28)  # log of the radius over its median
    focus = rng.normal(22.0, 4.0) if rng.random() < 0.95 else rng.uniform(14, 34)
    # A weaker sphere must lie further from focus to give the same soft disc.
    focus += _FOCUS_PER_INDEX * max(index - 1.1, 0)
    sphere = Sphere(
        radius_um=_MEDIAN_RADIUS_UM * math.exp(size),
        index=index,
        x_um=rng.normal(0, 0.3),
        y_um=rng.normal(0, 0.3),
        z_um=focus * scale,
        stretch=abs(rng.normal(0, 0.05)),
        angle=rng.uniform(0, math.pi),
    )
    radius = sphere.tabulated_radius_um
    return Particle("sphere", radius, 2 * radius, sphere.z_um, index), Spheres((sphere,))
