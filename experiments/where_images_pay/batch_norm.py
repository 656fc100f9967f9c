"""Should batch normalisation know the class shares in use instead of those of training?

    python experiments/where_images_pay/batch_norm.py outputs/longer artifacts/store/KEY

For the arms of repetition 9 the statistics of the batches are estimated again on real training
images, at the shares of the draws and at those in use, and the test images are classified with
each. Prints macro AUPRC at 1,000 : 1.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import nn

from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.packaged import open_classifier
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import to_model_range
from svp_lightning.evaluation.priors import class_shares, corrected, prevalence_weights
from svp_lightning.evaluation.schema import RESULTS, read_results

USE = {"protein": 1000.0, "silicone_oil": 1.0, "air_bubble": 1.0}
SHOWN = {
    "as drawn": {"protein": 8_000, "silicone_oil": 1_000, "air_bubble": 1_000},
    "in use": {"protein": 20_000, "silicone_oil": 20, "air_bubble": 20},
}
"""Which shares -> training images of each class."""
METHODS = ("none", "simulated", "diffusion_physics_simulated", "oracle")
BATCH = 512


def main() -> None:
    """Print one row an arm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--seed", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store, rows = Store.open(arguments.store), {}
    for file in sorted(arguments.study.glob(f"*_real_*_seed{arguments.seed}_*/{RESULTS}")):
        method = read_results(file).augmentation.method
        if method not in METHODS:
            continue
        classifier = open_classifier(file.parent)
        rows[method] = {"of training": macro_auprc(classifier, store)}
        for shares, counts in SHOWN.items():
            estimate_again(classifier, drawn(store, counts))
            rows[method][shares] = macro_auprc(classifier, store)
        print(pd.DataFrame(rows).T.round(4).to_string(), "\n", flush=True)


def drawn(store: Store, counts: Mapping[str, int]) -> NDArray[np.uint8]:
    """So many training images of each class, mixed."""
    of_class = [store.indices("train", store.class_names.index(n))[:most]
                for n, most in counts.items()]  # fmt: skip
    rows = np.random.default_rng(0).permutation(np.concatenate(of_class))
    return np.asarray(store.images[rows])


@torch.inference_mode()
def estimate_again(classifier: Classifier, images: NDArray[np.uint8]) -> None:
    """Mean and variance of every batch normalisation over ``images`` (n, H, W), in order."""
    layers = [m for m in classifier.modules() if isinstance(m, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
        layer.train()
    for part in torch.from_numpy(images)[:, None].split(BATCH):
        classifier(to_model_range(part))
    for layer in layers:
        layer.eval()


@torch.inference_mode()
def macro_auprc(classifier: Classifier, store: Store) -> float:
    """Mean over the classes of the average precision of the test images at 1,000 : 1."""
    rows = store.indices("test")
    names, labels = classifier.class_names, store.labels[rows]
    parts = np.array_split(rows, len(rows) // BATCH)
    found = np.concatenate(
        [
            classifier.probabilities(to_model_range(torch.from_numpy(store.images[p])[:, None]))
            for p in parts
        ]
    )
    trained = class_shares(classifier.trained_shares, names)
    score = corrected(found, trained, class_shares(USE, names))
    weight = prevalence_weights(labels, USE, names)
    each = [
        average_precision_score(labels == at, score[:, at], sample_weight=weight)
        for at in range(len(names))
    ]
    return float(np.mean(each))


if __name__ == "__main__":
    main()
