"""The classifier that new images are judged with: of an evaluated run, or a packaged one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from svp_lightning.classifier.appearance import Appearance
from svp_lightning.classifier.backbones import fold_batch_norms
from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.packaged import open_classifier
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import CheckpointError
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.reference import REFERENCE, Reference, read_reference
from svp_lightning.evaluation.schema import RESULTS, Results, read_results
from svp_lightning.runtime.terminal import counting

IMAGES_PER_CORE = 64
"""Predicted at once on a CPU: memory for larger batches is asked of the system for each layer."""


@dataclass(frozen=True)
class Predictor:
    """A classifier and what is known of it.

    Attributes:
        seen: network (its batch norms folded), class names and trained shares; with a reference,
            also how far an image is from each class.
        reference: what prediction sets and flags come from; None: there are none.
        results: calibration and mistakes; None: it was not evaluated.
    """

    seen: Classifier | Appearance
    reference: Reference | None
    results: Results | None


def load_predictor(folder: Path) -> Predictor:
    """Read the folder of an evaluated run, or of a packaged classifier.

    Raises:
        ArtifactError: a file is broken or not the one that was recorded.
        CheckpointError: the weights cannot be used.
    """
    classifier, reference = open_classifier(folder), read_reference(folder / REFERENCE)
    fold_batch_norms(classifier.network)
    results = read_results(folder / RESULTS) if (folder / RESULTS).is_file() else None
    if reference is None:
        return Predictor(classifier, None, results)
    return Predictor(Appearance(classifier, reference.appearance), reference, results)


def predict_all(
    seen: Classifier | Appearance,
    store: Store,
    batch_size: int,
    device: torch.device,
    rows: NDArray[np.int64] | None = None,
) -> tuple[Predictions, NDArray[np.float32]]:
    """Predict ``rows`` (N,) of a store, or all, as if unlabelled, on one device.

    Returns:
        N predictions, and the strangeness (N, K) of each image to each class, or (N, 0) of a
        classifier alone.

    Raises:
        CheckpointError: the images are of another size than the classifier reads.
    """
    rows = np.arange(len(store)) if rows is None else rows
    ids, unknown = store.particles["id"].to_numpy(dtype=object)[rows], np.full(len(rows), -1)
    module = seen.classifier if isinstance(seen, Appearance) else seen
    if store.image_size != module.image_size:
        raise CheckpointError(
            f"The classifier reads images of {module.image_size} px, {store.path} holds "
            f"{store.image_size} px.",
            "Import the images at the classifier's size.",
        )
    if device.type == "cpu":
        batch_size = min(batch_size, IMAGES_PER_CORE * torch.get_num_threads())
    names, seen = module.class_names, seen.to(device).eval()
    strange_to = len(names) if isinstance(seen, Appearance) else 0
    probability = np.empty((len(rows), len(names)), np.float32)
    strangeness = np.empty((len(rows), strange_to), np.float32)
    with torch.inference_mode(), counting("Classifying", len(rows)) as progress:
        for start in range(0, len(rows), batch_size):
            now = slice(start, start + batch_size)
            images = torch.from_numpy(np.asarray(store.images[rows[now]])[:, None]).to(device)
            if isinstance(seen, Appearance):
                found, strange = seen(images)
                strangeness[now] = strange.cpu()
            else:
                found = seen.probabilities(to_model_range(images))
            probability[now] = found.cpu()
            progress(len(images))
    return Predictions(ids, unknown, probability, names, module.trained_shares), strangeness
