"""One instrument run: the microscope and camera all its images share."""

import math
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from svp_lightning.simulation.lattice import ImagingGrid
from svp_lightning.simulation.settings import SimulationSettings

FINE_PIXELS = 64
"""Coarser cameras are rendered on at least this many pixels and binned."""
_TILT_NA = (0.10, 0.04)
"""Misalignment of the condenser, mean and spread over sessions."""
_FIELD = 1.5
"""Width of the field that crops are cut out of, over that of the window."""


@dataclass(frozen=True)
class Session:
    """Drawn once per run.

    The grid is on the fine (unbinned) pixels, of which a camera pixel has ``binning`` along one
    side. ``pixel_scale`` is the run's pixel size over the nominal one, ``tilt`` (x, y) the
    condenser's misalignment as a numerical aperture, ``stray_light`` the share of light that
    carries no image, ``sensor_pixel_um`` never finer than the image's pixel. ``background`` is the
    mean grey level of an empty field, ``gradient`` its relative change across the window (x, y);
    noise is in grey levels rms at the background, ``columns`` (N,) the fixed pattern of the camera
    in grey levels.
    """

    grid: ImagingGrid
    pixel_scale: float
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

    @property
    def pixel_um(self) -> float:
        """Of the camera."""
        return self.grid.pixel_um * self.binning


def draw_session(
    settings: SimulationSettings, image_size: int, seed: int, number: int, *, field: bool = False
) -> Session:
    """The run with this number, the same in every process; ``seed`` is that of the data set.

    With ``field`` it records a wider field on the camera's own pixels, for crops to be cut out of
    it, instead of the window itself; all else is the same.
    """
    rng = stream(seed, "session", number)
    optics, instrument = settings.optics, settings.instrument
    pixel = instrument.field_of_view_um / image_size
    if field:
        pixel = instrument.camera_pixel_um
        image_size = 16 * math.ceil(_FIELD * instrument.field_of_view_um / pixel / 16)
    pixel_scale = rng.uniform(*optics.pixel_scale)
    pixel *= pixel_scale
    binning = max(1, math.ceil(FINE_PIXELS / image_size))
    grid = ImagingGrid(
        objective_na=rng.uniform(*optics.objective_na),
        condenser_na=rng.uniform(*optics.condenser_na),
        wavelength_um=optics.wavelength_um,
        # Rounded to even thousandths so that runs share Mie tables.
        medium_index=round(rng.uniform(*optics.medium_index) * 500) / 500,
        num_pixels=image_size * binning,
        pixel_um=pixel / binning,
        lattice_side=settings.lattice_side,
        disc=bool(rng.random() < 0.95),
    )
    noise = rng.uniform(*instrument.noise)
    read_share = rng.uniform(0.2, 0.6)
    angle, tilt = rng.uniform(0, 2 * math.pi), abs(rng.normal(*_TILT_NA))  # in any direction
    return Session(
        grid=grid,
        pixel_scale=pixel_scale,
        binning=binning,
        tilt=(tilt * math.cos(angle), tilt * math.sin(angle)),
        focus_offset_um=rng.normal(0, 1.5),
        stray_light=rng.uniform(0.05, 0.10),
        sensor_pixel_um=max(rng.uniform(*optics.sensor_pixel_um), pixel),
        background=rng.normal(*instrument.background),
        gradient=(rng.normal(0, 0.004), rng.normal(0, 0.004)),
        read_noise=noise * math.sqrt(read_share),
        shot_noise=noise * math.sqrt(1 - read_share),
        columns=rng.normal(0, 0.3, image_size).astype(np.float32),
    )


def stream(seed: int, purpose: str, *counter: int) -> np.random.Generator:
    """Independent generator for one purpose (a class name, say) of one image or session.

    Philox takes the counter (up to three non-negative numbers: index, attempt) as part of its
    state, so streams need no common ancestor and any image can be drawn alone, in any order, on any
    process.
    """
    words = [0, *counter, *([0] * (3 - len(counter)))]
    key = [seed & 0xFFFFFFFFFFFFFFFF, crc32(purpose.encode())]
    return np.random.Generator(
        np.random.Philox(counter=np.array(words, np.uint64), key=np.array(key, np.uint64))
    )


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A value whose logarithm is uniform over the range."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
