"""Microscopes at random: simulated images of every instrument but those like the default one.

What is learnt from their images carries no knowledge of the default instrument and its priors, on
which everything else of this project is measured.
"""

import math
from typing import Any

import numpy as np

from svp_lightning.simulation.session import log_uniform
from svp_lightning.simulation.settings import SharedSettings, SimulationSettings

ALIKE = 3
"""Microscopes of one optics, but of different pixels, cameras, sizes and depths: large bubbles take
half a minute for each optics."""
BLUR_UM, DEPTH_UM = 1.27, 3.43
"""Of the default instrument: wavelength / NA, and that squared over the wavelength. Sizes and
depths in these units decide how a sphere looks."""
RADIUS_UM = 3.65
"""Of a typical droplet at ``size_scale`` 1."""
SIZE = 64
"""Pixels across a field of view, whatever the size of the stored images."""
APART = 0.15
"""Least distance from the default instrument, in the logarithm of size or of depth."""
ASKED: dict[str, Any] = {
    "counts": {"train": {"protein": 1}},
    "sessions_per_split": {"train": 12, "val": 4, "test": 8},
    "label_noise": {"kind": "uniform", "rate": 0.0},
}
"""Of a microscope whose base says no more than :class:`SharedSettings`."""


def microscope(base: SharedSettings, number: int) -> SimulationSettings:
    """The settings of one microscope; a function of ``base`` and its number alone.

    Optics, pixel, contrast, noise, sizes, depths and difficulty are drawn; small bubbles are pure
    air. The rest, such as the counts, is that of ``base``, or :data:`ASKED`.
    """
    optics_rng = np.random.default_rng([21, number // ALIKE])
    na, wavelength = log_uniform(optics_rng, 0.12, 0.5), optics_rng.uniform(0.45, 0.65)
    condenser = float(np.clip(na * optics_rng.uniform(0.3, 0.55), 0.056, 0.18))
    rng = np.random.default_rng([20, number])
    size, depth, pixel = _geometry(rng, wavelength, wavelength / na)
    sensor, noise = pixel * rng.uniform(1.0, 5.0), rng.uniform(0.7, 2.2)
    blur = wavelength / na
    instrument = {
        "name": f"microscope {number}",
        "field_of_view_um": SIZE * pixel,
        "camera_pixel_um": sensor,
        "background": (rng.uniform(130, 220), rng.uniform(1.3, 4)),
        "noise": (noise, noise * 1.5),
        "size_scale": size * blur / BLUR_UM,
        "depth_scale": depth * blur**2 / wavelength / DEPTH_UM,
        "min_area_um2": 50 * pixel**2,
        "min_contrast": 0.08,
    }
    optics = {
        "wavelength_um": wavelength,
        "objective_na": (0.9 * na, 1.08 * na),
        "condenser_na": (0.9 * condenser, 1.1 * condenser),
        "sensor_pixel_um": (sensor, 1.3 * sensor),
        "aberration_waves": rng.uniform(0.03, 0.1),
        "pixel_scale": (0.93, 1.07),
    }
    changes: dict[str, Any] = {
        "instrument": instrument,
        "optics": base.optics.model_dump() | optics,
        "large_bubble_share": 0.45,
        "difficulty": rng.uniform(0, 0.5),
        "air_indices": (1.0,),
        "air_halo_gain": (1.0, 1.2),
    }
    return SimulationSettings.parse(ASKED | base.model_dump() | changes, "data.simulation")


def _geometry(
    rng: np.random.Generator, wavelength: float, blur: float
) -> tuple[float, float, float]:
    """Sizes and depths relative to the blur and its depth, and the pixel in um."""
    while True:
        size, depth = (log_uniform(rng, 0.55, 1.7) for _ in range(2))
        pixel = blur / log_uniform(rng, 3, 9)
        radius_px = RADIUS_UM / BLUR_UM * size * blur / pixel
        apart = max(abs(math.log(size)), abs(math.log(depth))) > APART
        scales = size * blur / BLUR_UM < 3 and depth * blur**2 / wavelength / DEPTH_UM < 10
        if apart and scales and 5 < radius_px < 19 and 10 < SIZE * pixel < 110:
            return size, depth, pixel
