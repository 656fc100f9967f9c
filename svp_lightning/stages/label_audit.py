"""Out-of-sample evidence on every label: classifiers trained on the other runs, fold by fold."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import Tensor, nn

from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.validation import BEST
from svp_lightning.data.mix import Mixture
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import apply_symmetry, to_model_range
from svp_lightning.errors import DataError
from svp_lightning.evaluation.label_issues import Evidence
from svp_lightning.evaluation.priors import corrected
from svp_lightning.runtime.files import sha256_of_json
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.settings import AuditSettings

LEAST_FOLDS = 3
"""One is judged, one chooses the checkpoint, and one trains at least."""
ROTATIONS = (0, 3, 5, 6)
"""By right angles, among the symmetries of :func:`apply_symmetry`."""
_ATTEMPTS = 10
_PAIRS = 2**25
"""Images compared at once, 128 MB of distances."""

Train = Callable[[Store], tuple[Path, Mixture]]
"""A classifier trained on the train split of a view of the store: its folder, and its rows."""


def examine_labels(
    settings: AuditSettings,
    store: Store,
    train: Train,
    batch_size: int,
    device: torch.device,
) -> tuple[NDArray[np.int64], Evidence]:
    """Judge every labelled image, whatever its split, by classifiers not trained on its run.

    ``train`` makes a fold's classifier. The probabilities are the mean of two of them: that which
    the image's fold tests, and that of which it has chosen the checkpoint. Neighbours are those in
    the features of the first.

    Returns:
        (N,) rows of the store that have a label, and the evidence on each.

    Raises:
        DataError: a class has fewer than three images.
    """
    rows = np.flatnonzero(store.labels >= 0)
    label = store.labels[rows]
    fold = assign_folds(settings, store, rows)
    count = int(fold.max()) + 1
    use = np.bincount(label, minlength=len(store.class_names)) / len(label)
    sizes = np.bincount(fold)
    most = min(settings.neighbours, int((len(rows) - sizes - np.roll(sizes, -1)).min()))
    probability, own_distance = np.zeros((len(rows), len(use))), np.empty(len(rows))
    neighbours = np.empty((len(rows), most), dtype=np.int64)
    for number in range(count):
        say(f"Fold {number + 1} of {count}")
        folder, mixture = train(fold_view(store, rows, fold, number))
        module = Classifier.load(folder / BEST).to(device).eval()
        vectors, raw = _describe(module, store, rows, batch_size, device)
        judged, next_one = fold == number, fold == (number + 1) % count
        unseen, known = np.flatnonzero(judged | next_one), np.flatnonzero(~judged & ~next_one)
        probability[unseen] += corrected(raw[unseen], mixture.trained_shares, use) / 2
        judged = np.flatnonzero(judged)
        neighbours[judged], own_distance[judged] = _compare(
            vectors, label, judged, known, most, device
        )
        del vectors  # before the next fold makes its own
    return rows, Evidence(label, probability, neighbours, own_distance)


def assign_folds(
    settings: AuditSettings, store: Store, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(N,) fold of each of the rows: whole groups, and every class in every fold.

    Where a class comes from too few groups for that, images are divided instead, and said so.

    Raises:
        DataError: a class has too few images for three folds.
    """
    label, groups = store.labels[rows], pd.factorize(store.particles["group"].iloc[rows])[0]
    for units, whole in ((groups, True), (np.arange(len(rows)), False)):
        # Of single images the quick one divides as well.
        alone = units.max() + 1 == len(units)
        splitter_of = StratifiedKFold if alone else StratifiedGroupKFold
        fewest = min(len(np.unique(units[label == k])) for k in np.unique(label))
        for count in range(min(settings.folds, fewest), LEAST_FOLDS - 1, -1):
            for attempt in range(_ATTEMPTS):
                splitter = splitter_of(
                    count, shuffle=True, random_state=(settings.seed + attempt) % 2**32
                )
                fold = np.empty(len(rows), dtype=np.int64)
                parts = splitter.split(rows, label, None if alone else units)
                for number, (_, held) in enumerate(parts):
                    fold[held] = number
                held_by = [set(fold[label == k]) for k in np.unique(label)]
                if all(len(held) == count for held in held_by):
                    if not whole:
                        say(
                            "Warning: the runs are too few to keep them apart, so images of one "
                            "run judge one another, and a label shared by a whole run looks right."
                        )
                    return fold
    raise DataError(
        f"{store.path} has a class of fewer than {LEAST_FOLDS} labelled images, which cannot be "
        "audited.",
        "Add images of it, or leave the class out.",
    )


def fold_view(store: Store, rows: NDArray[np.int64], fold: NDArray[np.int64], number: int) -> Store:
    """The store split for one fold: it tests, the next one validates, the others train."""
    count = int(fold.max()) + 1
    split = np.full(len(store), "", dtype=object)
    split[rows] = "train"
    split[rows[fold == number]] = "test"
    split[rows[fold == (number + 1) % count]] = "val"
    return store.changed({"split": split}, {"audit_split": sha256_of_json(split.tolist())})


def _describe(
    module: Classifier,
    store: Store,
    rows: NDArray[np.int64],
    batch_size: int,
    device: torch.device,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(N, D) unit vectors before the last linear layer, and (N, K) probabilities as trained.

    Both are means over rotations by right angles, as a particle has no preferred direction.
    """
    seen: list[Tensor] = []
    last = [layer for layer in module.network.modules() if isinstance(layer, nn.Linear)][-1]
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu()))
    # Filled and not joined: of millions of images two copies need not fit into memory.
    vectors = np.empty((len(rows), last.in_features), np.float32)
    probability = np.empty((len(rows), len(module.class_names)))
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                now = slice(start, start + batch_size)
                part = np.asarray(store.images[rows[now]])[:, None]
                images = to_model_range(torch.from_numpy(part).to(device))
                turned = [
                    module.probabilities(apply_symmetry(images, codes))
                    for codes in torch.tensor(ROTATIONS, device=device)[:, None]
                ]
                probability[now] = torch.stack(turned).mean(dim=0).cpu().numpy()
                mean = torch.stack(seen).mean(dim=0).flatten(1)
                vectors[now] = nn.functional.normalize(mean).numpy()
                seen.clear()
    finally:
        hook.remove()
    return vectors, probability


def _compare(
    vectors: NDArray[np.float32],
    label: NDArray[np.int64],
    judged: NDArray[np.int64],
    known: NDArray[np.int64],
    most: int,
    device: torch.device,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(J, M) nearest known images of each judged one, and (J,) distance to its own class."""
    references = torch.from_numpy(vectors[known]).to(device)
    label_of = torch.from_numpy(label[known]).to(device)
    near, own = np.empty((len(judged), most), np.int64), np.empty(len(judged))
    step = max(_PAIRS // len(known), 1)
    for start in range(0, len(judged), step):
        now = judged[start : start + step]
        distance = torch.cdist(torch.from_numpy(vectors[now]).to(device), references)
        found = distance.topk(most, largest=False).indices
        near[start : start + step] = known[found.cpu().numpy()]
        other = torch.from_numpy(label[now]).to(device)[:, None] != label_of
        own[start : start + step] = distance.masked_fill_(other, torch.inf).amin(1).cpu().numpy()
    return near, own
