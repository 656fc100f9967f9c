"""Do the 95 % intervals of corrected counts hold the particles that there are?

Runs are made up whose particles are known, with a classifier whose mistakes are known by its test
images alone. Prints ``table.md``.

Usage:
    python experiments/count_intervals/count_coverage.py [--runs 150] [--worlds 0 1 2]
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.corrected_counts import Confusion, Corrector, at_least, count_by_bin
from svp_lightning.evaluation.particle_counts import poisson_interval
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.priors import estimated_shares
from svp_lightning.evaluation.quality_table import call

CLASSES = ("protein", "silicone oil", "air bubble")
MEANS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
"""Of the classes, in units of the distance between two of them."""
DISTANCE = np.array([3.5, 5.0])
"""Between classes of the larger two size bins, standard deviations of an image."""
SIZES = np.array([[0.8, 0.15, 0.05], [0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
"""Share of each class's particles in each size bin, in the runs."""
TEST_SIZES = np.array([[0.6, 0.25, 0.15]] * 3)
"""As :data:`SIZES`, of the test images: other than in the runs."""
EQUAL = np.full(3, 1 / 3)
WAYS = ("counted, Poisson", "corrected, Poisson", "corrected, with test error")
Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """Expected particles of each class in a run, and test images of each class."""

    name: str
    particles: tuple[float, float, float]
    images: tuple[int, int, int]
    small: float = 2.5
    """Distance between the classes' smallest particles, standard deviations of an image."""


WORLDS = (
    World("1 : 1 : 1", (700, 700, 700), (1000, 300, 300)),
    World("10 : 1 : 1", (2000, 200, 200), (1000, 300, 300)),
    World("100 : 1 : 1", (5000, 50, 50), (1000, 300, 300)),
    World("1,000 : 1 : 1", (10_000, 10, 10), (1000, 300, 300)),
    World("1,000 : 1 : 1, 4,000 test images", (10_000, 10, 10), (4000, 150, 150)),
    World("protein alone", (3000, 0, 0), (1000, 300, 300)),
    World("oil droplets alone", (0, 500, 0), (1000, 300, 300)),
    World("few particles", (30, 15, 5), (1000, 300, 300)),
    World("few test images", (2000, 200, 200), (60, 30, 30)),
    World("small ones nearly alike", (2000, 200, 200), (1000, 300, 300), 1.5),
    World("small ones alike", (2000, 50, 50), (1000, 300, 300), 0.5),
)


def probabilities(rng: np.random.Generator, world: World, given: Ints, bins: Ints) -> Array:
    """(N, 3) exact posteriors at equal shares, of images drawn around the classes' means."""
    distance = np.array([world.small, *DISTANCE])
    means = MEANS[None] * distance[bins - 1][:, None, None]
    image = means[np.arange(len(given)), given] + rng.normal(size=(len(given), 2))
    scores = -((image[:, None] - means) ** 2).sum(axis=2) / 2
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def drawn_bins(rng: np.random.Generator, given: Ints, sizes: Array) -> Ints:
    """(N,) size bin, 1 to 3."""
    edges = sizes.cumsum(axis=1)[given]
    return np.asarray(1 + (rng.random(len(given))[:, None] > edges[:, :2]).sum(axis=1))


def one_run(rng: np.random.Generator, world: World) -> Iterator[tuple[Array, Array]]:
    """(low, high), each (B, 3), of each of :data:`WAYS`: particles ≥ each bin."""
    given = np.repeat(np.arange(3), rng.poisson(world.particles))
    bins = drawn_bins(rng, given, SIZES)
    found = probabilities(rng, world, given, bins)
    test = np.repeat(np.arange(3), world.images)
    test_bins = drawn_bins(rng, test, TEST_SIZES)
    # As the program does: images are called at the shares that they are estimated to have.
    shares = dict(zip(CLASSES, estimated_shares(found, EQUAL).tolist(), strict=True))
    called = call(as_predictions(found), shares, None)
    tested = call(as_predictions(probabilities(rng, world, test, test_bins)), shares, None)
    counts = count_by_bin(bins, called, 4, 3)
    yield poisson_interval(at_least(counts))
    confusion = Confusion.measured(test, tested, test_bins, 4, 3)
    yield Corrector(without_error(confusion)).interval([(counts, 1.0)])
    yield Corrector(confusion).interval([(counts, 1.0)])


def as_predictions(p: Array) -> Predictions:
    """Probabilities as a classifier gives them that was trained at equal shares."""
    none = np.empty(0, dtype=object)
    return Predictions(none, np.empty(0, np.int64), p, CLASSES, dict.fromkeys(CLASSES, 1 / 3))


def without_error(confusion: Confusion) -> Confusion:
    """The same shares, as if from endlessly many test images."""
    return Confusion(confusion.images * 10**9, confusion.group)


def coverage(world: World, runs: int, seed: int) -> tuple[Array, Array]:
    """(3, B, 3) share of intervals that hold the truth, and mean relative width."""
    rng = np.random.default_rng([seed, len(world.name)])
    truth = at_least((np.array(world.particles)[:, None] * np.insert(SIZES, 0, 0, axis=1)).T)
    held, width = np.zeros((len(WAYS), *truth.shape)), np.zeros((len(WAYS), *truth.shape))
    for _ in range(runs):
        for way, (low, high) in enumerate(one_run(rng, world)):
            # An expected count of 0 is held by intervals that begin there.
            held[way] += (low <= truth + 1e-9) & (truth <= high)
            width[way] += (high - low) / np.maximum(truth, 1)
    return held / runs, width / runs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--worlds", type=int, nargs="*", default=range(len(WORLDS)))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sizes = {"all": 0, "largest": 3}
    print("Share of the 95 % intervals that hold the true number (mean width over that number).\n")
    print(f"| run, protein : oil : air | sizes | class | {' | '.join(WAYS)} |")
    print(f"|---|---|---|{'---:|' * len(WAYS)}")
    for world in (WORLDS[at] for at in arguments.worlds):
        held, width = coverage(world, arguments.runs, arguments.seed)
        for size, at in sizes.items():
            for k, name in enumerate(CLASSES):
                ways = [f"{held[w, at, k]:.3f} ({width[w, at, k]:.2f})" for w in range(len(WAYS))]
                print(f"| {world.name} | {size} | {name} | {' | '.join(ways)} |", flush=True)


if __name__ == "__main__":
    main()
