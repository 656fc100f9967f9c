"""Protein aggregates: thin phase objects in two depth layers, of several morphologies."""

import math

import numpy as np
from numpy.typing import NDArray

from svp_lightning.simulation.aggregates import GRID_STEP_UM, MORPHOLOGIES, Thickness
from svp_lightning.simulation.imaging import ImagingGrid
from svp_lightning.simulation.scene import Particle, PhaseScreens
from svp_lightning.simulation.streams import log_uniform

_SHARES = (("fractal", 0.48), ("film", 0.14), ("fibre", 0.14), ("compact", 0.24))
_MAX_PHASE = (0.3, 2.8)


def draw_protein(
    rng: np.random.Generator,
    grid: ImagingGrid,
    focus_offset_um: float,
    compact_focus_um: float | None = None,
) -> tuple[Particle, PhaseScreens]:
    """One aggregate near focus (three quarters) or well away from it.

    Args:
        rng: the image's stream.
        grid: the session's lattice (wavelength and medium).
        focus_offset_um: of the session.
        compact_focus_um: None, or where a compact aggregate is asked for.
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
