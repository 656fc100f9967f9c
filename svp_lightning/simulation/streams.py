"""Counter-based random streams: what an image looks like depends on its name alone."""

from zlib import crc32

import numpy as np


def stream(seed: int, purpose: str, *counter: int) -> np.random.Generator:
    """Independent generator for one purpose of one image or session.

    Philox takes the counter as part of its state, so streams need no common ancestor and
    any image can be drawn alone, in any order, on any process.

    Args:
        seed: of the data set, >= 0.
        purpose: for example a class name.
        counter: up to three non-negative numbers (index, attempt, ...).
    """
    words = [0, *counter, *([0] * (3 - len(counter)))]
    key = [seed & 0xFFFFFFFFFFFFFFFF, crc32(purpose.encode())]
    return np.random.Generator(
        np.random.Philox(counter=np.array(words, np.uint64), key=np.array(key, np.uint64))
    )


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A value whose logarithm is uniform over the range."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
