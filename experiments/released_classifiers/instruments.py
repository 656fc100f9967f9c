"""Instruments like a FlowCam or an MFI, drawn around those of ``conf/data/instrument``."""

from typing import Any

import numpy as np

from svp_lightning.simulation.session import log_uniform
from svp_lightning.simulation.settings import SimulationSettings

SIZE = 64
"""Pixels across an image."""
ALIKE = 4
"""Instruments of one optics: large bubbles take half a minute for each optics."""
BOXED = 3
"""Every third FlowCam cuts its images around the particle and stretches them."""

Range = tuple[float, float]
RANGES: dict[str, dict[str, Range]] = {
    "flowcam": {
        "na": (0.25, 0.45), "condenser": (0.11, 0.185), "pixel": (0.22, 0.8), "sensor": (0.5, 1.1),
        "background": (140, 215), "size": (0.75, 1.5), "depth": (0.7, 1.6), "min_area": (3.0, 6.0),
    },
    "mfi": {
        "na": (0.10, 0.16), "condenser": (0.053, 0.078), "pixel": (0.85, 1.5), "sensor": (0.9, 1.4),
        "background": (190, 230), "size": (1.0, 2.0), "depth": (0.8, 1.8), "min_area": (12.0, 25.0),
    },
}  # fmt: skip
"""What is drawn: aperture, µm per px of the image and of the sensor, grey level, factors of the
particles' sizes and depths, and µm² of the smallest particle."""
BASES = {"flowcam": "flowcam_10x", "mfi": "mfi_5200"}


def instrument(family: str, base: SimulationSettings, number: int) -> SimulationSettings:
    """The settings of one instrument; a function of the family, its base and its number alone."""
    ranges = RANGES[family]
    optics_rng = np.random.default_rng([31, list(RANGES).index(family), number // ALIKE])
    na, wavelength = log_uniform(optics_rng, *ranges["na"]), optics_rng.uniform(0.45, 0.56)
    condenser = optics_rng.uniform(*ranges["condenser"])
    rng = np.random.default_rng([32, list(RANGES).index(family), number])
    pixel, sensor = log_uniform(rng, *ranges["pixel"]), rng.uniform(*ranges["sensor"])
    noise, physical = rng.uniform(0.8, 2.2), rng.random() < 0.5
    camera = {
        "name": f"{family} {number}",
        "field_of_view_um": SIZE * pixel,
        "camera_pixel_um": sensor,
        "background": (rng.uniform(*ranges["background"]), rng.uniform(1.3, 4)),
        "noise": (noise, noise * 1.5),
        "size_scale": log_uniform(rng, *ranges["size"]),
        "depth_scale": log_uniform(rng, *ranges["depth"]),
        "min_area_um2": max(rng.uniform(*ranges["min_area"]), 12 * pixel**2),
        "min_contrast": 0.1,
    }
    optics = {
        "wavelength_um": wavelength,
        "objective_na": (0.95 * na, 1.05 * na),
        "condenser_na": (max(0.95 * condenser, 0.05), 1.05 * condenser),
        "sensor_pixel_um": (sensor, 1.1 * sensor),
        "aberration_waves": rng.uniform(0.03, 0.09),
    }
    changes: dict[str, Any] = {
        "instrument": base.instrument.model_dump() | camera,
        "optics": base.optics.model_dump() | optics,
        "difficulty": rng.uniform(0, 0.3),
        "crop": "box" if family == "flowcam" and number % BOXED == 1 else "window",
    }
    if physical:  # without the discrepancy model of small bubbles
        changes |= {"air_indices": (1.0,), "air_halo_gain": (1.0, 1.2)}
    return SimulationSettings.parse(base.model_dump() | changes, "data.simulation")
