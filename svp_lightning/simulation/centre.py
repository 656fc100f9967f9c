"""The window follows the particle: a crop is cut around what the instrument detected."""

from dataclasses import replace

import numpy as np

from svp_lightning.simulation.large_bubble import LargeBubble
from svp_lightning.simulation.scene import Layers, PhaseScreens, Spheres, Together


def centred(
    scene: Layers | LargeBubble, tilt: tuple[float, float], medium_index: float
) -> Layers | LargeBubble:
    """Undo the shift of a defocused image under oblique light.

    Light tilted by an aperture ``t`` moves the image of a particle at depth ``z`` by
    ``z t / n``; the instrument cuts its crop where the image is, not where the particle is.
    A large bubble is cut by the window wherever it lies, and stays.

    Args:
        scene: what stands in front of the microscope.
        tilt: of the condenser (x, y), as a numerical aperture.
        medium_index: refractive index around the particle.
    """
    if isinstance(scene, LargeBubble):
        return scene
    main = scene.main if isinstance(scene, Together) else scene
    depth = float(np.mean(main.depths_um)) / medium_index
    dx, dy = -depth * tilt[0], -depth * tilt[1]
    if isinstance(scene, Together):
        # Its own offset puts the neighbour beside the main particle, wherever that goes.
        return replace(scene, main=_moved(scene.main, dx, dy), other=_moved(scene.other, dx, dy))
    return _moved(scene, dx, dy)


def _moved(scene: Spheres | PhaseScreens, dx: float, dy: float) -> Spheres | PhaseScreens:
    if isinstance(scene, PhaseScreens):
        return replace(scene, x_um=scene.x_um + dx, y_um=scene.y_um + dy)
    spheres = (replace(s, x_um=s.x_um + dx, y_um=s.y_um + dy) for s in scene.spheres)
    return Spheres(tuple(spheres))
