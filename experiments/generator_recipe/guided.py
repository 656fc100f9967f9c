"""Whether guidance away from a generator's start brings its images nearer to real ones.

    python experiments/generator_recipe/guided.py outputs/where_images_pay artifacts --seeds 6 7

Reads repetitions of ``experiments/where_images_pay``: the generator that a repetition trained on
its 100 real droplets, started from ``generator.initial=physics``. Droplets are drawn with

    f = f_start + w (f_trained - f_start)    where sigma / alpha is in an interval

(domain guidance, Zhong et al. 2025, arXiv 2504.01521; intervals, Kynkäänniemi et al. 2024,
arXiv 2404.07724). They are compared with the training droplets that no repetition uses, and ranked
by the oracle's classifiers of other repetitions among validation proteins at 1,000 : 1. Neither is
a test image. Images are kept in ``--work``; a stopped run resumes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.metrics import average_precision_score
from train_recipes import WORK, Guided, configuration

from svp_lightning.classifier.features import FeatureNetwork, describe, fit_features
from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.packaged import open_classifier
from svp_lightning.data.rarity import limit_rare
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import to_model_range
from svp_lightning.evaluation.fidelity.measures import (
    frechet_distance,
    manifold_coverage,
    two_sample_auc,
)
from svp_lightning.evaluation.fidelity.morphology import measure_morphology
from svp_lightning.evaluation.schema import RESULTS, read_results
from svp_lightning.generator.checkpoint import load_generator
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.settings import PHYSICS

DROPLETS = "silicone_oil"
REAL, PREVALENCE, JUDGES, PROTEINS = 100, 1000, 3, 600
COMPARED = 280
"""Images of each set that Fréchet distance and recall, which depend on the number, are taken of."""
SIZES = 10
"""Bins of the real droplets' diameters, equally full, by which made ones are weighted."""
GUIDANCE = [(1.0, 0.0, np.inf), (1.5, 0.0, np.inf), (1.5, 0.0, 2.0), (2.0, 0.0, np.inf)]
"""Weight, and ends of the interval."""
HEADER = (
    "| droplets | w | sigma / alpha | AUPRC | sizes as real | AUC | FD | recall | size KS | "
    "circularity |"
)
Images = NDArray[np.uint8]


class Judge:
    """Real droplets that no repetition uses, and classifiers that have 2,000 more of them."""

    def __init__(self, study: Path, store: Store, seeds: Sequence[int]) -> None:
        oracles = {
            read_results(f).seed: f.parent
            for f in study.glob(f"resnet18_half_{REAL}_real_oracle_seed*/{RESULTS}")
        }
        others = [seed for seed in sorted(oracles) if seed not in seeds][:JUDGES]
        self.label = store.class_names.index(DROPLETS)
        rows = store.indices("train", self.label)
        taken = [limit_rare(store, REAL, s).indices("train", self.label) for s in (*others, *seeds)]
        used = np.unique(np.concatenate(taken))
        self.known, self.unused = store.images[used], store.images[np.setdiff1d(rows, used)]
        self.judges = [open_classifier(oracles[seed]) for seed in others]
        proteins = store.images[store.indices("val", 0)]
        rare = [store.images[store.indices("val", k)] for k in range(1, len(store.class_names))]
        self.network: FeatureNetwork = fit_features(
            self.judges[0], np.concatenate([proteins[:PROTEINS], *rare]), 64
        )
        self.real = self.features(self.unused)
        self.sizes = measure_morphology(self.unused).ecd
        self.proteins = [self.odds(judge, proteins) for judge in self.judges]

    def row(self, images: Images, name: str, weight: str = "", interval: str = "") -> str:
        """One line of the table."""
        made, shapes = self.features(images), measure_morphology(images)
        pair = self.real[:COMPARED], made[:COMPARED]
        cells = [
            f"{self.ranked(images, np.ones(len(images))):.2f}",
            f"{self.ranked(images, self.as_real(shapes.ecd)):.2f}",
            f"{two_sample_auc(self.real, made):.2f}",
            f"{frechet_distance(*pair):.1f}",
            f"{100 * manifold_coverage(*pair)['recall']:.0f} %",
            f"{ks_2samp(self.sizes, shapes.ecd, nan_policy='omit').statistic:.2f}",
            f"{np.nanmean(shapes.circularity):.2f}",
        ]
        return f"| {' | '.join([name, weight, interval, *cells])} |"

    def as_real(self, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights (n,) that give droplets of (n,) diameters the sizes of the real ones."""
        bounds = np.nanquantile(self.sizes, np.arange(1, SIZES) / SIZES)
        real, own = (np.digitize(np.nan_to_num(x), bounds) for x in (self.sizes, sizes))
        counts = [np.bincount(bins, minlength=SIZES) for bins in (real, own)]
        weights: NDArray[np.float64] = (counts[0] / np.maximum(counts[1], 1))[own]
        return weights

    def ranked(self, images: Images, weights: NDArray[np.float64]) -> float:
        """AUPRC of weighted images among proteins at 1,000 : 1, the mean over the judges."""
        found = []
        for judge, common in zip(self.judges, self.proteins, strict=True):
            value = np.r_[self.odds(judge, images), common]
            truth = np.arange(len(value)) < len(images)
            weight = np.r_[weights / weights.sum(), np.full(len(common), PREVALENCE / len(common))]
            found.append(average_precision_score(truth, value, sample_weight=weight))
        return float(np.mean(found))

    def features(self, images: Images) -> NDArray[np.float32]:
        """Of the first judge, whitened on validation images."""
        return describe(self.network, images).features

    @torch.inference_mode()
    def odds(self, judge: Classifier, images: Images) -> NDArray[np.float32]:
        """Log odds of a droplet against a protein."""
        parts = torch.from_numpy(np.asarray(images))[:, None].split(512)
        logits = torch.cat([judge.network(to_model_range(part)).float() for part in parts])
        odds: NDArray[np.float32] = (logits[:, self.label] - logits[:, 0]).numpy()
        return odds


def main() -> None:
    """Draw what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("artifacts", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[6, 7])
    parser.add_argument(
        "--guidance", nargs=3, type=float, action="append", metavar=("W", "LOW", "HIGH")
    )
    parser.add_argument("--images", type=int, default=280)
    parser.add_argument("--work", type=Path, default=WORK / "guided")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = Store.open(next((arguments.artifacts / "store").glob("*/manifest.json")).parent)
    judge = Judge(arguments.study, store, arguments.seeds)
    print(HEADER + "\n" + "|---" * HEADER.count(" | ") + "|---|")
    print(judge.row(judge.known, "real (floor)"), flush=True)
    for seed in arguments.seeds:
        for weight, low, high in arguments.guidance or GUIDANCE:
            images = drawn(arguments, seed, weight, low, high)
            cells = f"{weight:g}", f"{low:g} to {high:g}"
            print(judge.row(images, f"repetition {seed}", *cells), flush=True)


def drawn(
    arguments: argparse.Namespace, seed: int, weight: float, low: float, high: float
) -> Images:
    """Droplets of a repetition's generator, drawn or found."""
    file = arguments.work / f"seed{seed}_w{weight:g}_{low:g}_{high:g}_{arguments.images}.npy"
    if file.is_file():
        return np.asarray(np.load(file))
    runs = arguments.study.glob(f"resnet18_half_{REAL}_real_diffusion_physics_*seed{seed}_*")
    key = read_results(sorted(runs)[0] / RESULTS).costs["generator"].artifact
    generator = load_generator(arguments.artifacts / "generator" / str(key))
    changes = ["trainer=cpu", "+experiment=where_images_pay", f"seed={seed}"]
    sampler = configuration(arguments.work, changes).sampler
    denoiser, label = generator.denoiser, generator.label_of(DROPLETS)
    ratio, guide = denoiser.schedule.noise_ratio, load_generator(PHYSICS).denoiser.network
    denoiser.network = Guided(denoiser.network, guide, ratio, weight, (low, high))
    labels = np.full(arguments.images, label)
    images = sample(denoiser, labels, image_seeds(sampler.seed, DROPLETS, 0, len(labels)), sampler)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, images)
    return images


if __name__ == "__main__":
    main()
