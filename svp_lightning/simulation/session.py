"""One instrument run: the microscope and camera all its images share."""

import math
from dataclasses import dataclass

import numpy as np

from svp_lightning.simulation.imaging import ImagingGrid, imaging_grid
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.streams import stream

FINE_PIXELS = 64
"""Coarser cameras are rendered on at least this many pixels and binned."""


@dataclass(frozen=True)
class Session:
    """Drawn once per run.

    Attributes:
        grid: the optical lattice on the fine (unbinned) pixels.
        binning: fine pixels per camera pixel along one side.
        tilt: condenser misalignment (x, y), as a numerical aperture.
        focus_offset_um: of the whole run.
        stray_light: share of light that carries no image.
        sensor_pixel_um: pixel of the sensor; never finer than the image's own.
        background: mean grey level of an empty field.
        gradient: relative brightness change across the window (x, y).
        read_noise, shot_noise: grey levels rms at the background level.
        columns: (N,) fixed pattern of the camera columns, grey levels.
    """

    grid: ImagingGrid
    binning: int
    tilt: tuple[float, float]
    focus_offset_um: float
    stray_light: float
    sensor_pixel_um: float
    background: float
    gradient: tuple[float, float]
    read_noise: float
    shot_noise: float
    columns: np.ndarray


def draw_session(settings: SimulationSettings, image_size: int, seed: int, number: int) -> Session:
    """The run with this number, the same in every process."""
    rng = stream(seed, "session", number)
    optics = settings.optics
    binning = max(1, math.ceil(FINE_PIXELS / image_size))
    pixel = settings.instrument.field_of_view_um / image_size * rng.uniform(*optics.pixel_scale)
    grid = imaging_grid(
        objective_na=rng.uniform(*optics.objective_na),
        condenser_na=rng.uniform(*optics.condenser_na),
        wavelength_um=optics.wavelength_um,
        # Rounded to even thousandths so that runs share Mie tables.
        medium_index=round(rng.uniform(*optics.medium_index) * 500) / 500,
        num_pixels=image_size * binning,
        pixel_um=pixel / binning,
        lattice_side=settings.lattice_side,
        disc=bool(rng.random() < 0.88),
    )
    noise = rng.uniform(*settings.instrument.noise)
    read_share = rng.uniform(0.2, 0.6)
    return Session(
        grid=grid,
        binning=binning,
        tilt=(rng.normal(0, 0.075), rng.normal(0, 0.075)),
        focus_offset_um=rng.normal(0, 1.5),
        stray_light=rng.uniform(0.06, 0.17),
        sensor_pixel_um=max(rng.uniform(*optics.sensor_pixel_um), pixel),
        background=rng.normal(*settings.instrument.background),
        gradient=(rng.normal(0, 0.004), rng.normal(0, 0.004)),
        read_noise=noise * math.sqrt(read_share),
        shot_noise=noise * math.sqrt(1 - read_share),
        columns=rng.normal(0, 0.3, image_size).astype(np.float32),
    )
