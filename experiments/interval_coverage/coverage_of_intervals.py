"""Do the 95 % intervals of a study hold the true difference 95 % of the time?

Studies are made up whose true difference is known: two arms, S training seeds each, one shared
test set. Each way of making an interval is tried on the same studies. Prints ``table.md``.

Usage:
    python experiments/interval_coverage/coverage_of_intervals.py [--studies 400] [--resamples 200]
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from svp_lightning.evaluation.counting import Tally, metric_names
from svp_lightning.evaluation.repetitions import ALPHA, error_of, moderated

CLASSES = ("protein", "silicone_oil", "air_bubble")
COUNTS = (150, 50, 50)
SIGNAL = (2.0, 2.3)
"""Mean of the true class's score above the others, without and with the treatment."""
METRICS = ("macro_auprc", "macro_recall")
SEEDS = (1, 3, 5, 8)
Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class World:
    """How much trainings differ.

    Attributes:
        seed: standard deviation of a training's signal (a seed that is good on every image).
        image: standard deviation of a training's score of one image.
    """

    name: str
    seed: float
    image: float


WORLDS = (
    World("seeds hardly differ", 0.02, 0.2),
    World("seeds differ somewhat", 0.08, 0.5),
    World("seeds differ much", 0.3, 0.8),
)


def predictions(rng: np.random.Generator, world: World, seeds: int) -> tuple[Labels, Array]:
    """(N,) labels and (2, seeds, N, 3) probabilities of one made-up study."""
    labels = np.repeat(np.arange(3), COUNTS)
    shared = rng.normal(size=(len(labels), 3))
    own = rng.normal(scale=world.image, size=(2, seeds, len(labels), 3))
    signal = np.array(SIGNAL)[:, None] + rng.normal(scale=world.seed, size=(2, seeds))
    scores = shared + own
    scores[..., np.arange(len(labels)), labels] += signal[..., None]
    exp = np.exp(scores)
    return labels, exp / exp.sum(axis=-1, keepdims=True)


def differences(
    labels: Labels, probabilities: Array, resamples: int, places: list[int]
) -> tuple[Array, Array]:
    """(M, S) observed and (M, S, R) redrawn differences of the metrics at ``places``."""
    observed, redrawn = [], []
    for before, after in zip(*probabilities, strict=True):
        whole = [_plain(labels, p)[places] for p in (before, after)]
        drawn = [
            Tally(labels, p, CLASSES).redrawn(resamples=resamples)[:, places]
            for p in (before, after)
        ]
        observed.append(whole[1] - whole[0])
        redrawn.append((drawn[1] - drawn[0]).T)
    return np.stack(observed, axis=1), np.stack(redrawn, axis=1)


def _plain(labels: Labels, probabilities: Array) -> Array:
    metrics = Tally(labels, probabilities, CLASSES).metrics()
    per_class = [value for own in metrics.pop("per_class").values() for value in own.values()]
    return np.array([*metrics.values(), *per_class])


def ours(observed: Array, redrawn: Array) -> Interval:
    spread = moderated([observed])[0] if len(observed) > 1 else None
    half = error_of(redrawn, spread).half_width(np.log(ALPHA))
    return float(observed.mean()) - half, float(observed.mean()) + half


def hierarchical_percentiles(observed: Array, redrawn: Array) -> Interval:
    """Redraw seeds, then images, and take percentiles: the usual hierarchical bootstrap."""
    seeds, resamples = redrawn.shape
    picked = np.random.default_rng(0).integers(seeds, size=(resamples, seeds))
    means = redrawn[picked, np.arange(resamples)[:, None]].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def images_only(observed: Array, redrawn: Array) -> Interval:
    """Percentiles over redrawn images, trainings taken as they are."""
    low, high = np.quantile(redrawn.mean(axis=0), (0.025, 0.975))
    return float(low), float(high)


def seeds_only(observed: Array, redrawn: Array) -> Interval:
    """Student's t over seeds, the test images taken as they are."""
    if len(observed) == 1:
        return -np.inf, np.inf
    half = stats.t.ppf(0.975, len(observed) - 1) * stats.sem(observed)
    return float(observed.mean() - half), float(observed.mean() + half)


WAYS: dict[str, Callable[[Array, Array], Interval]] = {
    "ours": ours,
    "hierarchical bootstrap, percentiles": hierarchical_percentiles,
    "Student's t over seeds": seeds_only,
    "bootstrap of images": images_only,
}


def coverage(world: World, studies: int, resamples: int) -> dict[tuple[str, str, int], Interval]:
    """(metric, way, seeds) -> share of intervals that hold the truth, and their mean width."""
    places = [metric_names(CLASSES).index(metric) for metric in METRICS]
    truth = true_difference(world, places)
    held: dict[tuple[str, str, int], list[Interval]] = {}
    for study in range(studies):
        rng = np.random.default_rng([1, study])
        found = differences(*predictions(rng, world, max(SEEDS)), resamples, places)
        for metric, true, observed, redrawn in zip(METRICS, truth, *found, strict=True):
            for seeds in SEEDS:
                for name, way in WAYS.items():
                    low, high = way(observed[:seeds], redrawn[:seeds])
                    held.setdefault((metric, name, seeds), []).append(
                        (low <= true <= high, high - low)
                    )
    return {key: tuple(np.mean(values, axis=0)) for key, values in held.items()}


def true_difference(world: World, places: list[int], studies: int = 3000) -> Array:
    """(M,) mean difference over many studies of one seed each."""
    found = []
    for study in range(studies):
        labels, p = predictions(np.random.default_rng([2, study]), world, 1)
        found.append(_plain(labels, p[1, 0])[places] - _plain(labels, p[0, 0])[places])
    return np.asarray(np.mean(found, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    print(f"| world | metric | way | {' | '.join(f'S = {s}' for s in SEEDS)} |")
    print(f"|---|---|---|{'---:|' * len(SEEDS)}")
    for world in WORLDS:
        found = coverage(world, options.studies, options.resamples)
        for metric in METRICS:
            for name in WAYS:
                cells = [found[metric, name, seeds] for seeds in SEEDS]
                words = [f"{share:.3f} ({100 * width:.1f})" for share, width in cells]
                print(f"| {world.name} | {metric} | {name} | {' | '.join(words)} |", flush=True)


if __name__ == "__main__":
    main()
