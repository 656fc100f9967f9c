"""How often do the intervals of a study hold the true difference where a class is rare?

Two arms, five repetitions each, tested on the same images. One number per image is normal with a
standard deviation of 1; its parts are shared by all trainings, by those of an arm, or by none. The
rare class lies a distance above the common one that varies between trainings. Prints
``rare_differences.md``.

Usage:
    python experiments/interval_coverage/rare_differences.py --studies 100
"""

import argparse

import numpy as np
from coverage_of_intervals import ours
from rare_classes import NAMES, truths
from scipy.special import expit
from scipy.stats import norm

from svp_lightning.evaluation.counting import Tally, metric_names
from svp_lightning.evaluation.intervals import wilson_interval

RATIO = 1000.0
REPETITIONS = 5
PARTS = (0.8, 0.1, 0.1)
"""Share of an image's variance that all trainings, those of an arm, and one training know."""
BETWEEN = 0.1
"""Standard deviation of the distance between trainings."""
WORLDS = (
    ((3.0, 3.3), 50_000, 500),
    ((4.0, 4.0), 50_000, 500),
    ((4.0, 4.3), 50_000, 500),
    ((5.0, 5.3), 50_000, 500),
    ((4.0, 4.3), 100_000, 2_000),
)
"""Distances without and with the treatment, and test images of the common and the rare class."""
PLACE = metric_names(NAMES).index("silicone_oil/auprc")


def true_difference(distances: tuple[float, float]) -> float:
    """Of the arms' mean AUPRC over trainings."""
    quantiles = norm.ppf((np.arange(200) + 0.5) / 200)
    means = [np.mean([truths(d + BETWEEN * q, RATIO)[0] for q in quantiles]) for d in distances]
    return float(means[1] - means[0])


def study(
    rng: np.random.Generator, distances: tuple[float, float], images: list[int], resamples: int
) -> tuple[float, float]:
    """The 95 % interval of the difference that one study finds."""
    labels = np.repeat([0, 1], images)
    known, of_arm, of_training = np.sqrt(PARTS)
    shared = known * rng.normal(size=len(labels))
    values = []
    for distance in distances:
        arm = shared + of_arm * rng.normal(size=len(labels))
        for _ in range(REPETITIONS):
            own = distance + BETWEEN * rng.normal()
            score = arm + of_training * rng.normal(size=len(labels)) + own * labels
            rare = expit(own * score - own**2 / 2 - np.log(RATIO))
            tally = Tally(labels, np.stack([1 - rare, rare], axis=1), NAMES)
            prevalence = dict(zip(NAMES, (RATIO, 1.0), strict=True))
            observed = tally.metrics(prevalence)["per_class"]["silicone_oil"]["auprc"]
            redrawn = tally.redrawn(prevalence, resamples=resamples)[:, PLACE]
            values.append([observed, *redrawn])
    found = np.array(values).reshape(2, REPETITIONS, -1)
    difference = found[1] - found[0]
    return ours(difference[:, 0], difference[:, 1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=100)
    options = parser.parse_args()
    print("| distances | test images | true difference | holds it | above it | width |")
    print("|---|---|---:|---:|---:|---:|")
    for distances, *images in WORLDS:
        true = true_difference(distances)
        ends = np.array(
            [
                study(np.random.default_rng([5, k]), distances, images, options.resamples)
                for k in range(options.studies)
            ]
        )
        low, high = ends.T
        held = (low <= true) & (true <= high)
        sure = wilson_interval(np.array(held.sum()), np.array(len(held)))
        print(
            f"| {distances[0]:g} and {distances[1]:g} | {images[0]:,} + {images[1]:,} | {true:.3f}"
            f" | {held.mean():.3f} ({sure[0]:.3f} to {sure[1]:.3f})"
            f" | {(low > true).mean():.3f} | {(high - low).mean():.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
