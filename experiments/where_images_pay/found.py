"""Which rare particles more images find, and how many proteins pass with them.

    python experiments/where_images_pay/found.py outputs/where_images_pay artifacts/store/KEY

Prints one table an arm of the half-width cells with 100 real images: means over the repetitions.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.data.store import Store
from svp_lightning.evaluation.predictions import PREDICTIONS, read_predictions

PASSING = 50
"""Proteins of the 100,000 tested ones that pass where particles of each size are counted."""
SIZES_UM = (0.0, 3.0, 6.0, np.inf)
USE = {"protein": 1000.0, "silicone_oil": 1.0, "air_bubble": 1.0}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("store", type=Path)
    arguments = parser.parse_args()
    diameter = Store.open(arguments.store).particles.set_index("id")["ecd_um"]
    for arm in ("none", "simulated", "oracle"):
        files = sorted(arguments.study.glob(f"resnet18_half_100_real_{arm}_*/{PREDICTIONS}"))
        if files:
            tables = [found(file, diameter) for file in files]
            print(f"{arm}, {len(tables)} repetitions")
            print(pd.concat(tables).groupby(level=0, sort=False).mean().round(3).to_string(), "\n")


def found(file: Path, diameter: pd.Series) -> pd.DataFrame:
    """One row a rare class: what passes with its better half, and the shares found by size."""
    raw = read_predictions(file)
    names = raw.class_names
    scores = raw.at(USE).probabilities
    size, rows = diameter.loc[pd.Index(raw.ids)].to_numpy(), {}
    for at, name in enumerate(names[1:], start=1):
        score, own, protein = scores[:, at], raw.labels == at, raw.labels == 0
        passing = score >= np.median(score[own])
        limit = np.sort(score[protein])[-PASSING]
        rows[name] = {
            "proteins": (passing & protein).sum(),
            "other rare": (passing & ~own & ~protein).sum(),
        } | {
            f"{low:g} to {high:g} um": (score >= limit)[own & (size >= low) & (size < high)].mean()
            for low, high in pairwise(SIZES_UM)
        }
    return pd.DataFrame(rows).T


if __name__ == "__main__":
    main()
