"""How fine may the densities behind the flag ``unfamiliar`` be, with few rare images?

    python densities.py --runs outputs/out_of_distribution/*_seed* --store artifacts/store/<store>

Prints ``densities.md``: the made-up outliers of ``strangers.py`` that are flagged at 5 % of false
alarms, mean over the runs, whose classifiers are trained on all images.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from strangers import BATCH, Array, Images, flagged, outliers, rows_of

from svp_lightning.classifier import appearance
from svp_lightning.classifier.appearance import Appearance, fit_appearance
from svp_lightning.data.store import Store
from svp_lightning.stages.predictor import load_predictor

FEW = {30: 50, 60: 60, 150: 80, 300: 120}
"""Training images of each rare class -> validation images of it."""
VARIANTS = (
    (1, 150, 0.05),
    (1, 600, 0.01),
    (2, 600, 0.01),
    (3, 600, 0.01),
    (3, 600, 0.05),
    (6, 600, 0.01),
)
"""Images of the rarest class for a component, images for a Gaussian, least variance."""


def first(images: Images, labels: NDArray[np.int64], rare: int) -> tuple[Images, NDArray[np.int64]]:
    """All images of class 0, ``rare`` of each other."""
    kept = [np.flatnonzero(labels == k)[: rare if k else None] for k in np.unique(labels)]
    rows = np.concatenate(kept)
    return images[rows], labels[rows]


def strangeness(fitted: Appearance, images: Images) -> Array:
    """(N, K), higher is stranger."""
    with torch.inference_mode():
        batches = [
            fitted(torch.from_numpy(images[start : start + BATCH, None]))[1]
            for start in range(0, len(images), BATCH)
        ]
    return torch.cat(batches).double().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="evaluated ones")
    parser.add_argument("--store", type=Path, required=True, help="of their images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = Store.open(options.store)
    train, val = rows_of(store, "train"), rows_of(store, "val")
    made = np.concatenate(list(outliers(*val).values()))
    print("| images for a component | for a Gaussian | least variance | 30 | 60 | 150 | 300 |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for component, gaussian, variance in VARIANTS:
        appearance.IMAGES_PER_COMPONENT = component
        appearance.IMAGES_PER_GAUSSIAN = gaussian
        appearance.VARIANCE_FLOOR = variance
        cells = []
        for few, known in FEW.items():
            images, labels = first(*val, known)
            found = []
            for run in options.runs:
                seen = load_predictor(run).seen
                assert isinstance(seen, Appearance)
                fitted = Appearance(
                    seen.classifier, fit_appearance(seen.classifier, *first(*train, few))
                )
                of = strangeness(fitted, images), labels, strangeness(fitted, made)
                found.append(flagged(*of, 0.05).mean())
            cells.append(f"{100 * np.mean(found):.1f}")
        print(f"| {component} | {gaussian} | {variance} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
