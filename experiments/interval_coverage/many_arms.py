"""Many arms against one control: coverage, false findings, and what another arm changes.

Made-up studies without any effect: A arms and one control, S repetitions each. Three ways of
estimating how much repetitions vary are tried on the same differences. Prints ``many_arms.md``.

Usage:
    python experiments/interval_coverage/many_arms.py [--studies 1000]
"""

import argparse
import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.repetitions import ALPHA, Error, Spread, holm, moderated

Array = NDArray[np.float64]
REPETITIONS = (3, 5, 8)
ARMS = (2, 4, 11)
RATIOS = (0.5, 2.0, 10.0)
"""Standard deviation of a repetition over that of the test images, both of one arm."""
UNLIKE = {"alike": 0.0, "unlike": 0.5}
"""Standard deviation of the logarithm of how much the repetitions of an arm vary."""
WILD = 10
"""The wild arm varies so many times as much as another."""
WAYS = ("each alone", "at least the mean", "moderated")


def spreads(way: str, observed: Sequence[Array]) -> list[Spread]:
    """How much each comparison varies, by one of :data:`WAYS`."""
    if way == "moderated":
        return moderated(observed)
    own = [Spread(float(values.var(ddof=1)), len(values) - 1) for values in observed]
    if way == "each alone":
        return own
    mean, arms = float(np.mean([one.variance for one in own])), len(own)
    shared = Spread(mean, own[0].freedom * 4 * arms / (arms + 3))
    return [max(one, shared, key=lambda spread: spread.variance) for one in own]


def study(
    rng: np.random.Generator, repetitions: int, arms: int, ratio: float, unlike: float
) -> list[Array]:
    """(A + 2, S) differences from the control: the arms, another arm and a wild one."""
    scale = ratio * np.exp(rng.normal(0, unlike, arms + 3))
    scale[arms + 1] *= WILD
    control = rng.normal(0, scale[-1], repetitions)
    trainings = rng.normal(0, scale[:-1, None], (arms + 2, repetitions))
    return list(trainings + rng.normal(0, 1, (arms + 2, 1)) - control)


def judged(observed: Sequence[Array], found: Sequence[Spread]) -> tuple[Array, list[float]]:
    """Half-widths and p-values of some arms."""
    errors = [Error(1.0, one.variance / len(values), one.freedom)
              for values, one in zip(observed, found, strict=False)]  # fmt: skip
    p = []
    for error, values in zip(errors, observed, strict=True):
        value = error.p_value(float(values.mean()))
        assert value is not None  # the test images always vary
        p.append(value)
    return np.array([error.half_width(math.log(ALPHA)) for error in errors]), p


def measure(way: str, drawn: Sequence[Sequence[Array]]) -> dict[str, float]:
    """What one way gives on many studies."""
    held, widths, findings = [], [], []
    moved: list[float] = []
    wild: list[float] = []
    for study_ in drawn:
        arms = list(study_[:-2])
        half, p = judged(arms, spreads(way, arms))
        held += [a >= abs(v.mean()) for a, v in zip(half, arms, strict=True)]
        widths.append(2 * half.mean())
        findings.append(min(holm(p)) <= ALPHA)
        for more, changes in ((study_[-2], moved), (study_[-1], wild)):
            changes += np.abs(judged(arms, spreads(way, [*arms, more]))[0] / half - 1).tolist()
    return {
        "coverage": float(np.mean(held)),
        "width": float(np.mean(widths)),
        "any false finding": float(np.mean(findings)),
        "another arm moves": float(np.median(moved)),
        "95 % of them less than": float(np.quantile(moved, 0.95)),
        "a wild arm moves": float(np.median(wild)),
    }


def main() -> None:
    """Read the command line, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    heading = ""
    for at, (repetitions, arms, (name, unlike), ratio) in enumerate(
        product(REPETITIONS, ARMS, UNLIKE.items(), RATIOS)
    ):
        rng = np.random.default_rng(at)
        drawn = [study(rng, repetitions, arms, ratio, unlike) for _ in range(studies)]
        for way in WAYS:
            found = measure(way, drawn)
            if not heading:
                heading = "| repetitions | arms | they vary | ratio | way | "
                print(heading + " | ".join(found) + " |")
                print("|---|---|---|---|---|" + "---:|" * len(found))
            cells = [f"{value:.1f}" if key == "width" else f"{value:.3f}"
                     for key, value in found.items()]  # fmt: skip
            print(f"| {repetitions} | {arms} | {name} | {ratio:g} | {way} | {' | '.join(cells)} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
