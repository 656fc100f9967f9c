"""Which simulated microscopes' images look most like those of a data set.

A microscope's looks are summarised by statistics of a few of its images, and compared with the same
statistics of real ones (approximate Bayesian computation by rejection, Pritchard et al. 1999): no
setting of the real instrument need be known.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.errors import SettingsError
from svp_lightning.simulation.microscopes import microscope
from svp_lightning.simulation.settings import SharedSettings
from svp_lightning.simulation.simulated_store import (
    fresh_processes,
    leave_with_parent,
    worker_count,
)
from svp_lightning.simulation.simulator import Simulator

COMPARED = ("protein", "silicone_oil")
"""Classes whose images are compared. Large bubbles take half a minute for each optics."""
IMAGES, SESSIONS = 32, 4
"""Images of a class that a microscope is known by, and instrument runs that they are of."""
FIRST_SEED = 5000
"""Seed of the images of microscope 0; the next microscope has the next."""
BACKGROUND = 200.0
"""Grey level that the surroundings of particles are brought to: exposure is not compared."""
LEAST_SPREAD = 0.2
"""Share of a statistic's spread over microscopes below which differences count for no more."""
UNSEEN = ("counts", "sessions_per_split", "label_noise", "device")
"""Settings of a simulator that do not change the images a microscope is known by."""
QUARTILES = (0.25, 0.5, 0.75)
SAMPLES = 50


def looks_settings(base: SharedSettings) -> dict[str, Any]:
    """What the looks of all microscopes depend on: of ``base`` what no microscope changes."""
    fixed = microscope(base, 0).identity()
    return {name: value for name, value in fixed.items() if name not in UNSEEN}


def looks_of(
    base: SharedSettings, image_size: int, numbers: Sequence[int]
) -> Iterator[NDArray[np.float64]]:
    """The :func:`appearance` of microscopes by their numbers, (classes compared, S) each.

    It depends on ``base``, ``image_size`` and the number alone. ``base.workers`` processes render.
    """
    look = partial(_look, base, image_size)
    workers = worker_count(base.workers, len(numbers) * IMAGES * len(COMPARED))
    if workers == 0:
        yield from map(look, numbers)
        return
    pool = ProcessPoolExecutor(workers, mp_context=fresh_processes(), initializer=leave_with_parent)
    try:
        yield from pool.map(look, numbers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _look(base: SharedSettings, image_size: int, number: int) -> NDArray[np.float64]:
    images = known_by(base, image_size, number)
    return np.stack([appearance(of_class) for of_class in images])


def known_by(base: SharedSettings, image_size: int, number: int) -> NDArray[np.uint8]:
    """The images that a microscope is known by, uint8 (classes compared, IMAGES, N, N)."""
    simulator = Simulator(microscope(base, number), image_size, FIRST_SEED + number)
    indices = np.arange(IMAGES)
    rendered = [
        simulator.render([name] * IMAGES, indices, indices % SESSIONS)[0] for name in COMPARED
    ]
    return np.stack(rendered)


def appearance(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Statistics (S,) of images (n, N, N) of one class.

    Over the images: mean and standard deviation of the logarithm of the power at 1 to N / 2 waves
    across the image, and quartiles of the darkest and of the brightest grey level.
    """
    grey = images * np.float32(BACKGROUND / background_level(images))
    size = grey.shape[-1]
    window = np.outer(np.hanning(size), np.hanning(size)).astype(np.float32)
    waves = np.fft.rfft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)
    power = np.abs(waves) ** 2
    ring = np.hypot(np.fft.fftfreq(size, 1 / size)[:, None], np.arange(size // 2 + 1)).round()
    rings = [np.log1p(power[:, ring == k].mean(axis=1)) for k in range(1, size // 2 + 1)]
    spectrum = np.stack(rings, axis=1)
    extremes = np.stack([grey.min(axis=(1, 2)), grey.max(axis=(1, 2))], axis=1)
    quartiles = np.quantile(extremes, QUARTILES, axis=0).ravel()
    return np.concatenate([spectrum.mean(axis=0), spectrum.std(axis=0), quartiles])


def distances(
    microscopes: NDArray[np.float64], real: Mapping[str, NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """How far the looks of M microscopes are from real images, (M,), >= 0.

    A difference counts in units of what chance makes of IMAGES real images, and of a part of the
    spread over the microscopes.

    Args:
        microscopes: (M, classes compared, S), :func:`appearance` of each.
        real: class name -> (n, N, N) images; at least one of the classes compared.
    """
    rng, total = np.random.default_rng(0), np.zeros(len(microscopes))
    for at, name in enumerate(COMPARED):
        if name not in real:
            continue
        images, looks = real[name], microscopes[:, at]
        samples = [appearance(images[rng.choice(len(images), IMAGES)]) for _ in range(SAMPLES)]
        variance = np.var(samples, axis=0) + (LEAST_SPREAD * looks.std(axis=0)) ** 2
        total += ((looks - appearance(images)) ** 2 / variance).mean(axis=1)
    return total


def background_level(images: NDArray[np.uint8]) -> float:
    """Grey level around the particles of (n, H, W) images: the median of the outermost pixels.

    Raises:
        SettingsError: it is 0.
    """
    edges = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    if level := float(np.median(np.concatenate(edges, axis=1))):
        return level
    raise SettingsError(
        "The data have a black background; the simulator's images are bright field.",
        "Use an augmentation without simulated images, or import inverted images.",
    )
