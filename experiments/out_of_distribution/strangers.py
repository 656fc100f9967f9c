"""Are particles of no class flagged, and do the promises of ``task=predict`` hold on test images?

Usage:
    python strangers.py --runs outputs/out_of_distribution/*_seed* --store artifacts/store/<store>

Prints ``table.md``, means over the runs [lowest, highest], and writes ``examples.png``. Methods are
compared on made-up outliers (changed validation images); the shapes of ``shapes.py`` only measure.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from shapes import SHAPES, images_of
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from svp_lightning.classifier.appearance import Appearance, described
from svp_lightning.data.store import Store
from svp_lightning.evaluation.reference import lowest
from svp_lightning.stages.predictor import Predictor, load_predictor
from svp_lightning.stages.run_folder import data_of
from svp_lightning.stages.settings import SimulatedData

EPSILONS = (0.01, 0.02, 0.05)
COVERAGES = (0.9, 0.95, 0.99)
EACH = 200
MOST = {"train": 1000, "val": None, "test": 1000}
"""Images of a class, at most."""
BATCH = 256
Images = NDArray[np.uint8]
Array = NDArray[np.floating]
Row = tuple[str, str]


def outliers(images: Images, labels: NDArray[np.int64]) -> dict[str, Images]:
    """Validation images changed into what no class holds."""
    rng = np.random.default_rng(0)
    edge = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    back = np.median(np.concatenate(edge, axis=1), axis=1)[:, None, None]
    change, half = images - back, images.shape[1] // 2
    pick = rng.permutation(len(images))[:EACH]
    classes = [rng.choice(np.flatnonzero(labels == k), EACH // 3 + 1) for k in np.unique(labels)]
    one = np.concatenate(classes)
    other = np.roll(one, EACH // 3 + 1)
    quarters = np.roll(change, (half, half), axis=(1, 2))
    wide = np.repeat(change, 2, axis=2)[:, :, half : 3 * half]
    made = {
        "contrast inverted": (back - change)[pick],
        "quarters swapped": (back + quarters)[pick],
        "two classes on top of one another": (
            back[one] + change[one] + np.rot90(change[other], axes=(1, 2))
        ),
        "stretched twice": (back + wide)[pick],
    }
    return {k: np.clip(v.round(), 0, 255).astype(np.uint8) for k, v in made.items()}


class Features:
    """What methods see of a set of images."""

    def __init__(self, predictor: Predictor, images: Images) -> None:
        assert isinstance(predictor.seen, Appearance)
        seen, parts = predictor.seen, []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                batch = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH]))
                blocks, logits = described(seen.classifier, seen.look, batch[:, None])
                found = (torch.cat(blocks, dim=1) - seen.mean) @ seen.basis
                parts.append((torch.cat(blocks[:4], 1), blocks[3].square(), found, logits))
        joined = [torch.cat(part).double().numpy() for part in zip(*parts, strict=True)]
        self.stages, self.last, self.components, self.logits = joined


Score = Callable[[Features], Array]
"""(N, K): how far images are from each class; higher is farther."""


def methods(train: Features, labels: NDArray[np.int64], predictor: Predictor) -> dict[str, Score]:
    """Name -> score."""
    K = len(np.unique(labels))
    spread = np.mean([np.cov(train.last[labels == k].T) for k in range(K)], axis=0)
    inverse = np.linalg.inv(spread + 1e-6 * np.trace(spread) * np.eye(len(spread)))
    centres = [train.last[labels == k].mean(axis=0) for k in range(K)]
    unit = train.last / np.linalg.norm(train.last, axis=1, keepdims=True)
    near = [NearestNeighbors(n_neighbors=10).fit(unit[labels == k]) for k in range(K)]
    mean, deviation = train.stages.mean(axis=0), train.stages.std(axis=0) + 1e-3
    scaled = (train.stages - mean) / deviation
    mixtures = [
        GaussianMixture(1, reg_covar=0.05, random_state=0).fit(scaled[labels == k])
        for k in range(K)
    ]

    def softmax(seen: Features) -> Array:
        p = np.exp(seen.logits - seen.logits.max(axis=1, keepdims=True))
        return np.repeat(-p.max(axis=1, keepdims=True) / p.sum(axis=1, keepdims=True), K, axis=1)

    def shared(seen: Features) -> Array:
        away = [seen.last - centre for centre in centres]
        return np.stack([np.einsum("nd,de,ne->n", a, inverse, a) for a in away], axis=1)

    def neighbours(seen: Features) -> Array:
        own = seen.last / np.linalg.norm(seen.last, axis=1, keepdims=True)
        return np.stack([tree.kneighbors(own)[0][:, -1] for tree in near], axis=1)

    def stages(seen: Features) -> Array:
        own = (seen.stages - mean) / deviation
        return np.stack([-mixture.score_samples(own) for mixture in mixtures], axis=1)

    def ours(seen: Features) -> Array:
        network = predictor.seen
        assert isinstance(network, Appearance)
        away = torch.from_numpy(seen.components).float() - network.centres[:, :, None]
        squared = (away @ network.roots).square().sum(dim=3) / 2
        return -(network.weights[:, :, None] - squared).logsumexp(dim=1).T.numpy()

    return {
        "largest probability (Hendrycks and Gimpel 2017)": softmax,
        "last features, Mahalanobis, one covariance (Lee et al. 2018)": shared,
        "last features, 10th neighbour (Sun et al. 2022)": neighbours,
        "all stages, Gaussian of each class": stages,
        "all stages and look, Gaussian mixtures of each class (used)": ours,
    }


def flagged(val: Array, labels: NDArray[np.int64], of: Array, share: float) -> Array:
    """(N,) whether images are beyond what a share of each class's validation images is."""
    least = [lowest(np.sort(-val[labels == k, k]), share) for k in range(val.shape[1])]
    return np.asarray((-of < np.array(least)).all(axis=1))


def rows_of(store: Store, split: str) -> tuple[Images, NDArray[np.int64]]:
    """Images of a split and their labels."""
    held = [store.indices(split, k)[: MOST[split]] for k in range(len(store.class_names))]
    rows = np.concatenate(held)
    return np.asarray(store.images[rows]), store.labels[rows]


def detection(
    predictor: Predictor, store: Store, shapes: Mapping[str, Images]
) -> tuple[dict[Row, list[float]], Array]:
    """Shares flagged, by method and false alarms asked for, and the logits of the test images."""
    (train, train_labels), (val, labels), (test, tested) = (
        rows_of(store, split) for split in ("train", "val", "test")
    )
    made = outliers(val, labels)
    sets = {"val": val, "test": test, **made, **shapes}
    seen = {name: Features(predictor, images) for name, images in sets.items()}
    rows = {}
    for name, score in methods(Features(predictor, train), train_labels, predictor).items():
        found = {key: score(features) for key, features in seen.items()}
        for share in EPSILONS:
            flags = {k: flagged(found["val"], labels, v, share) for k, v in found.items()}
            sets_of = [flags["test"][tested == k] for k in range(len(store.class_names))]
            sets_of.append(np.concatenate([flags[key] for key in made]))
            sets_of += [flags[key] for key in shapes]
            rows[name, f"{share:.0%}"] = [float(own.mean()) for own in sets_of]
    return rows, seen["test"].logits


def coverage(predictor: Predictor, store: Store, logits: Array) -> dict[Row, list[float]]:
    """Of each class: the share of test images that their sets hold, and that of the uncertain."""
    _, tested = rows_of(store, "test")
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert predictor.reference is not None
    known, rows = predictor.reference.probability, {}
    for share in COVERAGES:
        sets = p >= np.array([lowest(known[name], 1 - share) for name in store.class_names])
        sets[np.arange(len(p)), p.argmax(axis=1)] = True
        for k, name in enumerate(store.class_names):
            own = sets[tested == k]
            several = own.sum(axis=1) > 1
            rows[f"{share:.0%}", name] = [float(own[:, k].mean()), float(several.mean())]
    return rows


def show(heads: Sequence[str], runs: Sequence[dict[Row, list[float]]]) -> None:
    """Print a table: mean over the runs [lowest, highest], %."""
    print(f"| {' | '.join(heads)} |\n|---|---|{'---:|' * (len(heads) - 2)}")
    for row in runs[0]:
        values = 100 * np.array([run[row] for run in runs]).T
        cells = [f"{own.mean():.1f} [{own.min():.1f}, {own.max():.1f}]" for own in values]
        print(f"| {' | '.join([*row, *cells])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="evaluated ones")
    parser.add_argument("--store", type=Path, required=True, help="of their images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    store, data = Store.open(options.store), data_of(options.runs[0])
    assert isinstance(data, SimulatedData)
    shapes = {
        name: images_of(name, data.simulation, data.image_size, EACH, data.seed) for name in SHAPES
    }
    found, held = [], []
    for run in options.runs:
        predictor = load_predictor(run)
        rows, logits = detection(predictor, store, shapes)
        found.append(rows)
        held.append(coverage(predictor, store, logits))
    named = [*store.class_names, "outliers", *shapes]
    show(["method", "false alarms", *named], found)
    print()
    show(["coverage", "class", "held", "uncertain"], held)
    rows_shown = [np.asarray(store.images[store.indices("test", k)[:16]]) for k in range(3)]
    rows_shown += [images[:16] for images in shapes.values()]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows_shown])
    Image.fromarray(sheet).save(Path(__file__).with_name("examples.png"), optimize=True)


if __name__ == "__main__":
    main()
