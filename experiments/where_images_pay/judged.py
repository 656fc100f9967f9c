"""How particle-like the added images are, to a classifier that has 2,000 more real ones.

    python experiments/where_images_pay/judged.py outputs/where_images_pay artifacts

The classifier of a repetition's oracle ranks the images that the other arms of that repetition
added, and real test images, among test proteins at 1,000 : 1. Added images that rank lower than
real ones look more like proteins; that rank higher, are easier than real ones.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.packaged import open_classifier
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import to_model_range
from svp_lightning.evaluation.schema import RESULTS, read_results

CLASSES = {"silicone_oil": 1, "air_bubble": 2}
PREVALENCE = 1000
PROTEINS, RARE = 20_000, 2_000
ARMS = ("simulated", "diffusion_physics")


def main() -> None:
    """Print one row a kind of image: means over the repetitions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("artifacts", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables = []
    for judge in sorted(arguments.study.glob(f"resnet18_half_100_real_oracle_seed*/{RESULTS}")):
        seed = read_results(judge).seed
        data = Store.open(next((arguments.artifacts / "store").glob("*/manifest.json")).parent)
        kinds = {"real, of the test": images_of(data, "test", RARE)}
        for arm in ARMS:
            for file in arguments.study.glob(
                f"resnet18_half_100_real_{arm}_seed{seed}_*/{RESULTS}"
            ):
                key = read_results(file).costs["synthetic"].artifact
                kinds[arm] = images_of(Store.open(next(arguments.artifacts.glob(f"*/{key}"))), "")
        tables.append(judged(open_classifier(judge.parent), kinds, proteins_of(data)))
        print(f"repetition {seed}\n{tables[-1].round(3).to_string()}\n", flush=True)
    print("mean\n" + pd.concat(tables).groupby(level=0, sort=False).mean().round(3).to_string())


def proteins_of(store: Store) -> NDArray[np.uint8]:
    """Test proteins, evenly over the instrument runs."""
    rows = store.indices("test", 0)
    return np.asarray(store.images[rows[:: len(rows) // PROTEINS]])


def images_of(store: Store, split: str, most: int | None = None) -> dict[str, NDArray[np.uint8]]:
    """Rare class -> its images."""
    return {
        n: np.asarray(store.images[store.indices(split, at)[:most]]) for n, at in CLASSES.items()
    }


def judged(
    classifier: Classifier,
    kinds: dict[str, dict[str, NDArray[np.uint8]]],
    proteins: NDArray[np.uint8],
) -> pd.DataFrame:
    """Kind of image x rare class -> AUPRC among proteins at 1,000 : 1."""
    common = scores(classifier, proteins)
    rows: dict[str, dict[str, float]] = {}
    for kind, images in kinds.items():
        rows[kind] = {}
        for name, at in CLASSES.items():
            own = scores(classifier, images[name])[:, at]
            truth = np.r_[np.ones(len(own)), np.zeros(len(common))]
            weight = np.where(truth, 1 / len(own), PREVALENCE / len(common))
            value = np.r_[own, common[:, at]]
            rows[kind][name] = average_precision_score(truth, value, sample_weight=weight)
    return pd.DataFrame(rows).T


@torch.inference_mode()
def scores(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Log odds of each class against protein, (n, 3), of (n, H, W) images."""
    parts = torch.from_numpy(images)[:, None].split(512)
    logits = torch.cat([classifier.network(to_model_range(part)).float() for part in parts])
    odds: NDArray[np.float32] = (logits - logits[:, :1]).numpy()
    return odds


if __name__ == "__main__":
    main()
