"""How often do the 95 % intervals of one run hold the truth where a class is rare?

The truth is known: one number per image is normal with a standard deviation of 1, and the rare
class lies ``distance`` above the common one; the probabilities are exact. Each trial draws test
images and makes the intervals as a run does. Prints ``rare_classes.md``.

Usage:
    python experiments/interval_coverage/rare_classes.py [--trials 400]
"""

import argparse

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from svp_lightning.evaluation.counting import PRECISION_TARGET, Tally, within_reach
from svp_lightning.evaluation.intervals import confidence_intervals, wilson_interval

NAMES = ("protein", "silicone_oil")
RESAMPLES = 300
WORLDS = (
    (3.0, 1000, 50_000, 500),
    (4.0, 1000, 50_000, 500),
    (5.0, 1000, 50_000, 500),
    (3.0, 1000, 100_000, 2_000),
    (4.0, 1000, 100_000, 2_000),
    (5.0, 1000, 100_000, 2_000),
    (3.0, 27, 3_000, 110),
    (4.0, 27, 1_000, 50),
    (3.0, 3, 150, 50),
    (2.0, 1, 60, 12),
)
"""Distance, common particles for each rare one, and test images of both."""


def truths(distance: float, ratio: float) -> tuple[float, float]:
    """Area under the precision-recall curve, and recall at 95 % precision, of the rare class."""

    def precision(recall: float) -> float:
        return recall / (recall + ratio * norm.sf(norm.isf(recall) + distance))

    def short(recall: float) -> float:
        return precision(recall) - PRECISION_TARGET

    recall = brentq(short, 1e-12, 1 - 1e-12) if short(1e-12) > 0 > short(1 - 1e-12) else 0.0
    return quad(precision, 0, 1, limit=500)[0], recall


def trial(rng: np.random.Generator, world: tuple[float, float, int, int]) -> np.ndarray:
    """Ends (2, 2) of both metrics' intervals, and whether the recall is marked as not supported."""
    distance, ratio, *images = world
    labels = np.repeat([0, 1], images)
    score = rng.normal(distance * labels)
    rare = expit(distance * score - distance**2 / 2 - np.log(ratio))
    prevalence = dict(zip(NAMES, (ratio, 1.0), strict=True))
    tally = Tally(labels, np.stack([1 - rare, rare], axis=1), NAMES)
    recall = tally.metrics(prevalence)["per_class"]["silicone_oil"]["recall_at_precision_95"]
    redrawn = tally.redrawn(prevalence, resamples=RESAMPLES)
    ends = confidence_intervals(redrawn, tally, prevalence)
    own = ends["per_class"]["silicone_oil"]
    shares = np.array([ratio, 1.0]) / (ratio + 1)
    enough = within_reach(np.array([1.0, recall]), shares, np.array(images))[1]
    return np.array([own["auprc"], own["recall_at_precision_95"], [enough, enough]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    trials = parser.parse_args().trials
    columns = (
        "distance",
        "common : rare",
        "test images",
        "metric",
        "truth",
        "holds it",
        "above it",
    )
    print(f"| {' | '.join(columns)} | width |\n|---:|---:|---|---|---:|---:|---:|---:|")
    for world in WORLDS:
        distance, ratio, common, rare = world
        found = np.array([trial(np.random.default_rng([3, k]), world) for k in range(trials)])
        supported = found[:, 2, 0] == 1
        auprc, recall = truths(distance, ratio)
        for metric, at, truth, chosen in (
            ("AUPRC", 0, auprc, np.full(trials, True)),
            ("recall at 95 % precision", 1, recall, supported),
            ("the same, marked", 1, recall, ~supported),
        ):
            if not chosen.any():
                continue
            low, high = found[chosen, at].T
            held = (low <= truth) & (truth <= high)
            ends = wilson_interval(np.array(held.sum()), np.array(len(held)))
            print(
                f"| {distance:g} | {ratio:,} : 1 | {common:,} + {rare:,} | {metric} | {truth:.3f}"
                f" | {held.mean():.3f} ({ends[0]:.3f} to {ends[1]:.3f}, {len(held)} trials)"
                f" | {(low > truth).mean():.3f} | {(high - low).mean():.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
