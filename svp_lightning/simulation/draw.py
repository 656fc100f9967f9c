"""Everything random about one image, drawn from its own stream before any optics."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svp_lightning.data.classes import AIR_BUBBLE, PROTEIN, SILICONE_OIL
from svp_lightning.simulation.camera import Exposure, draw_exposure
from svp_lightning.simulation.large_bubble import LargeBubble
from svp_lightning.simulation.particles import (
    AIR_LIKE_SHARE,
    OIL_INDEX,
    confusable_focus,
    draw_air,
    draw_dark_disc,
    draw_oil,
    draw_protein,
)
from svp_lightning.simulation.scene import (
    Layers,
    Particle,
    PhaseScreens,
    Spheres,
    Together,
    centred,
    magnified,
)
from svp_lightning.simulation.session import Session, stream
from svp_lightning.simulation.settings import SimulationSettings

_RELATIVE_RMS = np.array([0.8, 1.0, 1.0, 0.5])
"""Spherical, coma, astigmatism, trefoil: higher orders are weaker."""
_TILTED_NA = 0.30
NEIGHBOUR_AT = (0.36, 0.56)
"""Distance of a neighbour from the centre, in widths of the window."""


@dataclass(frozen=True)
class Draw:
    """One image before it is seen.

    ``tilt`` is that of the condenser (x, y) as a numerical aperture, ``waves`` float32 (7,)
    aberrations (:func:`imaging.pupil`), ``crop_seed`` the crop's chance where boxes are cut.
    """

    particle: Particle
    scene: Layers | LargeBubble
    tilt: tuple[float, float]
    waves: NDArray[np.float32]
    exposure: Exposure
    crop_seed: int


def draw_image(
    settings: SimulationSettings, session: Session, window: Session, key: tuple[int, str, int, int]
) -> Draw:
    """Draw the image of a ``key``: seed, class name, number of the image, attempt.

    ``session`` is the run as it records what is cut out or fits the window, ``window`` the same run
    as it records large bubbles.
    """
    seed, class_name, index, attempt = key
    rng = stream(seed, class_name, index, attempt)
    # What a setting adds has streams of its own, so that it leaves the other images alone.
    confusing = stream(seed, f"{class_name} overlap", index, attempt)
    confused = confusing.random() < settings.difficulty
    particle, scene = _draw_particle(
        settings, session, rng, class_name, confusing if confused else None
    )
    extra = stream(seed, f"{class_name} neighbour", index, attempt)
    if not isinstance(scene, LargeBubble) and extra.random() < settings.neighbour_share:
        scene = _with_neighbour(settings, session, extra, class_name, scene)
    # A low aperture leaves less room for misalignment.
    room = min(1.0, session.grid.objective_na / _TILTED_NA)
    tilt = (
        room * (session.tilt[0] + rng.normal(0, 0.018)),
        room * (session.tilt[1] + rng.normal(0, 0.018)),
    )
    if not isinstance(scene, LargeBubble):  # a large bubble is cut by the window where it lies
        scene = centred(scene, tilt, session.grid.medium_index)
    waves = _aberrations(rng, settings.optics.aberration_waves)
    motion, sharpening, gain = rng.uniform(0, 0.35), rng.uniform(0, 0.25), 1.0
    if class_name == AIR_BUBBLE and particle.morphology == "sphere" and not confused:
        halo = stream(seed, "halo gain", index, attempt)
        gain = float(halo.uniform(*settings.air_halo_gain))
    recorded = window if isinstance(scene, LargeBubble) else session
    exposure = draw_exposure(rng, recorded, motion, sharpening, gain)
    return Draw(particle, scene, tilt, waves, exposure, int(rng.integers(2**63)))


def _draw_particle(
    settings: SimulationSettings,
    session: Session,
    rng: np.random.Generator,
    class_name: str,
    confusing: np.random.Generator | None,
) -> tuple[Particle, Layers | LargeBubble]:
    """A particle; with ``confusing``, one from the prior that makes it look like another class."""
    instrument, scale = settings.instrument, _depth_scale(session)
    focus = confusable_focus(confusing) if confusing and class_name == PROTEIN else None
    window, share = instrument.field_of_view_um, settings.large_bubble_share
    particle, scene = _typical(settings, session, rng, class_name, share, window, focus)
    if isinstance(scene, LargeBubble):
        return particle, scene
    if confusing and class_name == AIR_BUBBLE:
        particle, scene = draw_dark_disc(confusing, scale, particle.refractive_index, sign=1)
    elif confusing and class_name == SILICONE_OIL and confusing.random() < AIR_LIKE_SHARE:
        particle, scene = draw_dark_disc(confusing, scale, OIL_INDEX, sign=-1)
    scales = instrument.size_scale, instrument.depth_scale
    return magnified(particle, scene, *scales, session.grid.medium_index)


def _typical(
    settings: SimulationSettings,
    session: Session,
    rng: np.random.Generator,
    class_name: str,
    large_bubble_share: float,
    window_um: float,
    focus: float | None = None,
) -> tuple[Particle, Spheres | PhaseScreens | LargeBubble]:
    """A particle from its own class's prior; ``focus`` is that of a compact aggregate."""
    if class_name == PROTEIN:
        return draw_protein(rng, session.grid, session.focus_offset_um, focus)
    scale = _depth_scale(session)
    if class_name == SILICONE_OIL:
        return draw_oil(rng, scale)
    return draw_air(rng, scale, settings.air_indices, large_bubble_share, window_um)


def _with_neighbour(
    settings: SimulationSettings,
    session: Session,
    rng: np.random.Generator,
    class_name: str,
    scene: Layers,
) -> Layers:
    """A second particle of the same class and its own depth, towards the window's edge."""
    window = session.grid.num_pixels * session.grid.pixel_um
    distance = window * rng.uniform(*NEIGHBOUR_AT)
    direction = rng.uniform(0, 2 * math.pi)
    instrument = settings.instrument
    scales = instrument.size_scale * rng.uniform(0.4, 0.8), instrument.depth_scale
    particle, other = _typical(settings, session, rng, class_name, 0.0, window)
    assert not isinstance(other, LargeBubble)  # none was asked for
    assert not isinstance(scene, Together)
    _, other = magnified(particle, other, *scales, session.grid.medium_index)
    return Together(scene, other, distance * math.cos(direction), distance * math.sin(direction))


def _depth_scale(session: Session) -> float:
    """A coarser session sees deeper: the flow cell is matched to the magnification."""
    return float(session.pixel_scale**1.5)


def _aberrations(rng: np.random.Generator, median_waves: float) -> NDArray[np.float32]:
    """Zernike coefficients of one image; see :func:`imaging.pupil`."""
    rms = median_waves * _RELATIVE_RMS * np.exp(rng.normal(0, 0.45, 4))
    angle = rng.uniform(0, 2 * np.pi, 3)
    sign = rng.choice((-1.0, 1.0))
    pairs = rms[1:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([[sign * rms[0]], pairs.ravel()]).astype(np.float32)
