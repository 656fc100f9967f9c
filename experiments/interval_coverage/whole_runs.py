"""Do intervals hold the truth where the images of an instrument run resemble one another?

Three classes lie at the corners of a triangle; each instrument run has a blur of its own, which all
its images share and the classifier does not know. Prints ``whole_runs.md``.

Usage:
    python experiments/interval_coverage/whole_runs.py [--trials 300]
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.counting import Tally
from svp_lightning.evaluation.intervals import confidence_intervals

NAMES = ("protein", "silicone_oil", "air_bubble")
PREVALENCE = {"protein": 10.0, "silicone_oil": 1.0, "air_bubble": 1.0}
CENTRES = 3.5 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
IMAGES = (120, 30, 30)
"""Test images of each class, for each run."""
BLUR, RESAMPLES, TRUTH_RUNS = 0.15, 150, 3000
METRICS = ("macro_auprc", "macro_precision", "macro_recall", "macro_f1")
WORLDS = [(6, True), (12, True), (24, True), (48, True), (12, False), (24, False), (48, False)]
"""Runs, and whether each holds all classes or one."""


def tested(rng: np.random.Generator, runs: int, mixed: bool) -> tuple[Tally, NDArray[np.int64]]:
    """The tally of a test set, and the run of each image."""
    labels = np.tile(np.repeat([0, 1, 2], IMAGES), runs)
    run = np.repeat(np.arange(runs), sum(IMAGES))
    if not mixed:  # a third of the runs has the images of each class
        run = 3 * (run // 3) + labels
    blur = np.exp(rng.normal(0, BLUR, runs))[run]
    x = CENTRES[labels] + rng.normal(size=(len(labels), 2)) * blur[:, None]
    share = np.array(list(PREVALENCE.values())) / sum(PREVALENCE.values())
    weight = -((x[:, None] - CENTRES) ** 2).sum(axis=2) / 2 + np.log(share)
    p = np.exp(weight - weight.max(axis=1, keepdims=True))
    return Tally(labels, p / p.sum(axis=1, keepdims=True), NAMES), run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    trials = parser.parse_args().trials
    truth = tested(np.random.default_rng(0), TRUTH_RUNS, True)[0].metrics(PREVALENCE)
    print("| runs | classes of a run | metric | truth | images redrawn | runs redrawn |")
    print("|---:|---|---|---:|---:|---:|")
    for runs, mixed in WORLDS:
        ends = np.empty((trials, 2, len(METRICS), 2))
        for k in range(trials):
            tally, run = tested(np.random.default_rng([1, k]), runs, mixed)
            for way, groups in enumerate((None, run)):
                drawn = tally.redrawn(PREVALENCE, groups=groups, resamples=RESAMPLES)
                found = confidence_intervals(drawn, tally, PREVALENCE)
                ends[k, way] = [found[metric] for metric in METRICS]
        true = np.array([truth[metric] for metric in METRICS])
        held = ((ends[..., 0] <= true) & (true <= ends[..., 1])).mean(axis=0)
        width = 100 * (ends[..., 1] - ends[..., 0]).mean(axis=0)
        for at, metric in enumerate(METRICS):
            cells = [f"{held[way, at]:.3f} ({width[way, at]:.1f})" for way in (0, 1)]
            kinds = "all" if mixed else "one"
            print(f"| {runs} | {kinds} | {metric} | {true[at]:.3f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
