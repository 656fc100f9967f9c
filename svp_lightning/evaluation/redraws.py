"""Redrawn test sets: single images within each class, or whole runs with all their classes.

Class sizes of a test set are chosen, not observed, so images are drawn within each class. A run or
vial is one observation: its images, of whatever class, are recognised well or badly together. So
runs are drawn once for all classes, and each class is then scaled to its size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.errors import DataError

Numbers = NDArray[np.integer[Any]]
Draw = Callable[[np.random.Generator], NDArray[np.float64]]
"""From random numbers to (P,) how often a redrawn test set holds an image of each place."""

ROUNDS = 1000
"""So often are runs drawn again that lack a class."""
REMEDY = "Validate and test on more runs, or set evaluation.resample=images."


def single_images(labels: Numbers, place: Numbers, size: int) -> Draw:
    """Draws of images within each class, given the class and place (N,) of each; P = ``size``."""
    parts = [place[labels == label].astype(np.int32) for label in np.unique(labels)]

    def draw(generator: np.random.Generator) -> NDArray[np.float64]:
        counts = np.zeros(size)
        for part in parts:
            rows = generator.integers(len(part), size=len(part), dtype=np.int32)
            counts += np.bincount(part[rows], minlength=size)
        return counts

    return draw


def whole_runs(labels: Numbers, place: Numbers, size: int, runs: Numbers) -> Draw:
    """Draws of runs, given class, place and run (N,) of each image; P = ``size``.

    Raises:
        DataError: a class has images of one run only.
    """
    held, run = images_of_runs(runs, labels), np.unique(runs, return_inverse=True)[1]
    if ((held > 0).sum(axis=0) < 2).any():
        raise DataError(
            "A class has test images of one run or vial only; whole groups cannot be redrawn.",
            REMEDY,
        )
    images = held.sum(axis=0)
    cell, count = np.unique((run * held.shape[1] + labels) * size + place, return_counts=True)
    own, where = np.divmod(cell, size)  # run and class in one number, and the place

    def draw(generator: np.random.Generator) -> NDArray[np.float64]:
        times = draw_runs(generator, held, len(held), 1)[0]
        of_each = times[:, None] * (images / (times @ held))
        weights = count * of_each.ravel()[own]
        return np.asarray(np.bincount(where, weights, size), dtype=np.float64)

    return draw


def images_of_runs(runs: Numbers, labels: Numbers) -> NDArray[np.intp]:
    """(U, K) images of each class in each of the U runs; ``runs`` and ``labels`` are (N,)."""
    found, run = np.unique(runs, return_inverse=True)
    held = np.zeros((len(found), int(labels.max()) + 1), dtype=np.intp)
    np.add.at(held, (run, labels), 1)
    return held


def draw_runs(
    generator: np.random.Generator, held: NDArray[np.intp], number: int, resamples: int
) -> NDArray[np.int64]:
    """(R, U) how often each run is drawn, ``number`` in all; drawn again where a class is missing.

    ``held`` (U, K) are the images of each class in each run. Some ``number`` of runs hold them all.

    Raises:
        DataError: hardly any draw has all classes.
    """
    even = np.full(len(held), 1 / len(held))
    times = generator.multinomial(number, even, resamples)
    for _ in range(ROUNDS):
        lacking = (times @ held == 0).any(axis=1)
        if not lacking.any():
            return times
        times[lacking] = generator.multinomial(number, even, lacking.sum())
    raise DataError("Hardly any redrawn runs or vials hold all classes.", REMEDY)
