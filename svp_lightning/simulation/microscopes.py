"""Microscopes at random: simulated images of every instrument but those like the default one.

What is learnt from their images carries no knowledge of the default instrument and its priors, on
which everything else of this project is measured.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svp_lightning.simulation.session import log_uniform
from svp_lightning.simulation.settings import SimulationSettings

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


LOGARITHMIC = ("na", "size", "depth", "waves")
"""Traits that are drawn log-uniformly."""
RANGES = {
    "na": (0.12, 0.5),
    "wavelength": (0.45, 0.65),
    "condenser": (0.3, 0.55),
    "size": (0.55, 1.7),
    "depth": (0.55, 1.7),
    "waves": (3.0, 9.0),
    "sensor": (1.0, 5.0),
    "noise": (0.7, 2.2),
    "background": (130.0, 220.0),
    "background_spread": (1.3, 4.0),
    "aberration": (0.03, 0.1),
    "difficulty": (0.0, 0.5),
}
"""Traits of a microscope and the ranges that they are drawn from: aperture and wavelength (um) of
the objective, NA of the condenser over the objective's, sizes and depths of particles relative to
blur and depth of focus, pixels of a blur, sensor's pixel over the camera's, noise and background in
grey levels, aberrations in waves, difficulty."""
KERNEL = 0.5
"""Width of the normal distribution around a microscope that others near it are drawn from, over the
spread of those that they are drawn near to (population Monte Carlo, Beaumont et al. 2009)."""

Traits = Mapping[str, float]


def microscope(base: SimulationSettings, number: int) -> SimulationSettings:
    """The settings of one microscope; a function of ``base`` and its number alone.

    Optics, pixel, contrast, noise, sizes, depths and difficulty are drawn; small bubbles are pure
    air. The rest, such as the counts, is that of ``base``.
    """
    return with_traits(base, traits(number), f"microscope {number}")


def traits(number: int) -> Traits:
    """Those of one microscope; a function of its number alone."""
    optics = np.random.default_rng([21, number // ALIKE])
    drawn = {name: _draw(optics, name) for name in ("na", "wavelength", "condenser")}
    rng = np.random.default_rng([20, number])
    geometry = ("size", "depth", "waves")
    while not _is_other(drawn | (found := {name: _draw(rng, name) for name in geometry})):
        pass
    return drawn | found | {name: _draw(rng, name) for name in list(RANGES)[len(drawn | found) :]}


def traits_near(others: Sequence[Traits], number: int) -> Traits:
    """Those of a microscope near one of ``others``; a function of these and the number alone."""
    rng = np.random.default_rng([22, number])
    known = np.array([[_place(name, one[name]) for name in RANGES] for one in others])
    spread = KERNEL * known.std(axis=0)
    while True:
        places = known[rng.integers(len(known))] + spread * rng.standard_normal(len(spread))
        places = np.abs(places) % 2  # reflected at the ends of the ranges
        places = np.minimum(places, 2 - places)
        found = {name: _value(name, at) for name, at in zip(RANGES, places, strict=True)}
        if _is_other(found):
            return found


def with_traits(base: SimulationSettings, given: Traits, name: str) -> SimulationSettings:
    """The settings of a microscope with the traits ``given``, all else that of ``base``."""
    na, wavelength = given["na"], given["wavelength"]
    condenser = float(np.clip(na * given["condenser"], 0.056, 0.18))
    blur = wavelength / na
    pixel = blur / given["waves"]
    sensor, noise = pixel * given["sensor"], given["noise"]
    instrument = {
        "name": name,
        "field_of_view_um": SIZE * pixel,
        "camera_pixel_um": sensor,
        "background": (given["background"], given["background_spread"]),
        "noise": (noise, noise * 1.5),
        "size_scale": given["size"] * blur / BLUR_UM,
        "depth_scale": given["depth"] * blur**2 / wavelength / DEPTH_UM,
        "min_area_um2": 50 * pixel**2,
        "min_contrast": 0.08,
    }
    optics = {
        "wavelength_um": wavelength,
        "objective_na": (0.9 * na, 1.08 * na),
        "condenser_na": (0.9 * condenser, 1.1 * condenser),
        "sensor_pixel_um": (sensor, 1.3 * sensor),
        "aberration_waves": given["aberration"],
        "pixel_scale": (0.93, 1.07),
    }
    changes: dict[str, Any] = {
        "instrument": base.instrument.model_dump() | instrument,
        "optics": base.optics.model_dump() | optics,
        "large_bubble_share": 0.45,
        "difficulty": given["difficulty"],
        "air_indices": (1.0,),
        "air_halo_gain": (1.0, 1.2),
    }
    return SimulationSettings.parse(base.model_dump() | changes, "data.simulation")


def _draw(rng: np.random.Generator, name: str) -> float:
    draw = log_uniform if name in LOGARITHMIC else np.random.Generator.uniform
    return float(draw(rng, *RANGES[name]))


def _place(name: str, value: float) -> float:
    """Of a value in its range, 0 to 1."""
    low, high = RANGES[name]
    if name in LOGARITHMIC:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _value(name: str, place: float) -> float:
    low, high = RANGES[name]
    if name in LOGARITHMIC:
        return float(low * (high / low) ** place)
    return low + place * (high - low)


def _is_other(given: Traits) -> bool:
    """Whether the default instrument is another, and particles fit into the image."""
    blur, size, depth = given["wavelength"] / given["na"], given["size"], given["depth"]
    pixel = blur / given["waves"]
    radius_px = RADIUS_UM / BLUR_UM * size * blur / pixel
    apart = max(abs(math.log(size)), abs(math.log(depth))) > APART
    depths = depth * blur**2 / given["wavelength"] / DEPTH_UM
    scales = size * blur / BLUR_UM < 3 and depths < 10
    return apart and scales and 5 < radius_px < 19 and 10 < SIZE * pixel < 110
