"""How often does a study of many arms without any effect find one?

Arms are compared with one control, and their p-values corrected for their number (Holm), which
should leave at most 5 % of studies with a false finding. Two ways of estimating how much trainings
vary are tried on the same made-up differences. Prints the table of the README.

Usage:
    python experiments/interval_coverage/many_arms.py [--studies 1000] [--arms 11]
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.comparison import holm, paired_over_seeds, shared_trainings

RATIOS = (0.3, 1, 2, 4, 10)
"""Standard deviation of a training over that of the test images, both of one difference."""
UNLIKE = (0.3, 1.0, 1.0, 2.0)
"""How much an arm's trainings vary, over the control's, where arms are unlike one another."""
SEEDS = (3, 5)
REDRAWS = 100
Array = NDArray[np.float64]


def study(
    rng: np.random.Generator, seeds: int, ratio: float, spreads: Array
) -> list[tuple[Array, Array]]:
    """(S,) observed and (S, R) redrawn differences of each arm from the control; no effect."""
    control = rng.normal(0, ratio, seeds)
    arms = []
    for spread in spreads:
        images = rng.normal(0, 1, 1 + REDRAWS)  # shared by the seeds
        trainings = rng.normal(0, ratio * spread, seeds) - control
        observed = trainings + images[0]
        arms.append((observed, observed[:, None] + images[1:]))
    return arms


def false_findings(seeds: int, ratio: float, spreads: Array, studies: int) -> tuple[float, float]:
    """Share of studies with a false finding: each arm's own spread, and ours."""
    found = np.zeros(2)
    for number in range(studies):
        arms = study(np.random.default_rng([seeds, number]), seeds, ratio, spreads)
        together = shared_trainings([observed for observed, _ in arms])
        for way, shared in enumerate((None, together)):
            p = [paired_over_seeds(*arm, shared=shared).p_value for arm in arms]
            found[way] += min(holm([one for one in p if one is not None])) <= 0.05
    own, ours = found / studies
    return float(own), float(ours)


def main() -> None:
    """Read the command line, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--arms", type=int, default=11)
    options = parser.parse_args()
    print("| seeds | arms | spread from | " + " | ".join(f"{ratio:g}" for ratio in RATIOS) + " |")
    print("|---|---|---|" + "---:|" * len(RATIOS))
    for seeds in SEEDS:
        for name, pattern in (("alike", (1.0,)), ("unlike", UNLIKE)):
            spreads = np.resize(pattern, options.arms)
            found = [false_findings(seeds, ratio, spreads, options.studies) for ratio in RATIOS]
            for way, words in enumerate(("each arm alone", "ours")):
                cells = " | ".join(f"{one[way]:.3f}" for one in found)
                print(f"| {seeds} | {name} | {words} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
