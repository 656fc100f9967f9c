"""Made-up results and a whole made-up study on disk, in the shape that real runs leave.

Numbers come from a random generator, so they mean nothing. ``python tests/report/made_up.py
FOLDER`` writes a study to look at.
"""

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from svp_lightning.evaluation.counting import MACRO_METRICS, metric_names, nested
from svp_lightning.evaluation.predictions import Predictions, write_predictions, write_resamples

CLASSES = ("protein", "silicone_oil", "air_bubble")
NAMES = metric_names(CLASSES)
TEST = {"protein": 2000, "silicone_oil": 150, "air_bubble": 150}
IN_USE = {"protein": 0.998, "silicone_oil": 0.001, "air_bubble": 0.001}
PARTS = {
    "none": (), "oracle_mixup": ("oracle", "mixup"), "simulated_mixup": ("simulated", "mixup"),
    "hard_negatives_classical": ("hard_negatives", "classical"),
}  # fmt: skip
RESAMPLES = 200
ARMS = (
    *(("none", 0.0), ("duplicate", 1.0), ("class_weights", 0.0), ("classical", 0.0)),
    *(("diffusion", ratio) for ratio in (0.5, 1.0, 2.0, 5.0)),
)


def made_up_results(
    class_names: tuple[str, ...] = CLASSES,
    *,
    seed: int = 1,
    backbone: str = "resnet50",
    method: str = "diffusion",
    ratio: float = 1.0,
    auprc: float = 0.9,
    half_width: float = 0.02,
    values: Any = None,
) -> dict[str, Any]:
    """A complete results.json; every metric is a different number unless ``values`` are given."""
    rng = np.random.default_rng([seed, len(backbone), int(ratio * 10), len(method)])
    if values is None:
        values = rng.uniform(0.5, 0.95, len(metric_names(class_names)))
        values[MACRO_METRICS.index("macro_auprc")] = auprc
    ends = np.clip(np.stack([values - half_width, values + half_width], axis=1), 0, 1)
    bins = {name: [[0.2, 0.1, 0.6], [0.9, 0.95, 0.4]] for name in class_names}
    calibrated = {"ece": 0.0321, "classwise_ece": 0.0123, "brier": 0.2, "reliability": bins}
    test = {name: 200 // (k + 1) for k, name in enumerate(class_names)}
    point = {
        "threshold": 0.9, "threshold_ci95": [0.8, 0.95], "validation_precision": 0.96,
        "validation_recall": 0.7, "precision": 0.93, "recall": 0.68, "precision_ci95": [0.88, 0.97],
        "recall_ci95": [0.6, 0.75],
    }  # fmt: skip
    return {
        "schema": 4,
        "task": "evaluate",
        "experiment": "made_up",
        "study": "",
        "scale": "tiny",
        "seed": seed,
        "backbone": backbone,
        "augmentation": {"method": method, "ratio": ratio, "parts": PARTS.get(method, (method,))},
        "prevalence": {name: n / sum(test.values()) for name, n in test.items()},
        "prevalence_stated": False,
        "trained_shares": dict.fromkeys(class_names, 1 / len(class_names)),
        "rare_classes": list(class_names[1:]),
        "counts": {
            "train": {name: 1000 // (k + 1) ** 2 for k, name in enumerate(class_names)},
            "synthetic": dict.fromkeys(class_names[1:], int(100 * ratio)),
            "test": test,
            "validation": dict.fromkeys(class_names, 200),
        },
        "validation_score": 0.8,
        "metrics": nested(values.tolist(), class_names),
        "ci95": nested(ends.tolist(), class_names),
        "metrics_as_trained": nested((values / 2).tolist(), class_names),
        "working_points": dict.fromkeys(class_names, point),
        "calibration": {
            "temperature": 1.7, "biases": dict.fromkeys(class_names, 0.0), "as_is": calibrated,
            "scaled": calibrated | {"ece": 0.01},
        },
        "slices": [],
        "costs": {},
        "provenance": {
            "data": "d" * 64, "config": "c" * 64, "packages": {"torch": "2.11"},
            "device": "cpu", "wall_seconds": 90.0,
        },
    }  # fmt: skip


def write_run(folder: Path, results: dict[str, Any], predictions: Predictions | None) -> Path:
    """The files of a run, without figures."""
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.yaml").write_text(f"seed: {results['seed']}\n")
    (folder / "command.txt").write_text(f"python -m svp_lightning seed={results['seed']}\n")
    if predictions is not None:
        write_predictions(folder / "predictions.parquet", predictions)
    return folder


def made_up_predictions(counts: dict[str, int], signal: float = 3.0, seed: int = 0) -> Predictions:
    """Predictions that are mostly right, the same for the same counts and seed."""
    rng, names = np.random.default_rng(seed), tuple(counts)
    labels = np.repeat(np.arange(len(names)), list(counts.values()))
    scores = rng.normal(size=(len(labels), len(names)))
    scores[np.arange(len(labels)), labels] += signal
    p = (np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)).astype(np.float32)
    ids = np.array([f"image-{i}" for i in range(len(labels))], dtype=object)
    return Predictions(ids, labels, p, names, dict.fromkeys(names, 1 / len(names)))


def made_up_study(
    folder: Path,
    *,
    arms: tuple[tuple[str, float], ...] = ARMS,
    backbones: tuple[str, ...] = ("resnet18", "resnet50"),
    seeds: tuple[int, ...] = (1, 2, 3),
    real_images: tuple[int, ...] = (1000,),
    gain: float = 0.03,
) -> Path:
    """Write one run folder per cell and seed; diffusion gains ``gain`` over all else."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.006, (RESAMPLES, len(NAMES)))  # what redrawn images do to all
    cost = {"wall_seconds": 120.0, "cpu_seconds": 200.0, "gpu_seconds": 120.0}
    for backbone, (method, ratio), images, seed in product(backbones, arms, real_images, seeds):
        level = 0.8 + 0.03 * (backbone == "resnet50") + 0.04 * np.log10(images / 1000)
        level += gain * (method == "diffusion") * np.sqrt(min(ratio, 2)) + 0.004 * (seed - 2)
        values = np.clip(level + rng.normal(0, 0.004, len(NAMES)), 0, 0.98)
        rare = dict.fromkeys(CLASSES[1:], images)
        generated = method == "diffusion" and ratio > 0
        results = made_up_results(
            seed=seed, backbone=backbone, method=method, ratio=ratio, half_width=0.015,
            values=values,
        )  # fmt: skip
        results |= {"study": "made_up", "prevalence": IN_USE, "prevalence_stated": True}
        results["counts"] |= {
            "train": {"protein": 10_000, **rare},
            "synthetic": {name: int(ratio * images) for name in rare} if generated else {},
            "test": TEST,
        }
        results["costs"] = {"classifier": cost, "test": cost}
        if generated:
            shared_cost = cost | {"wall_seconds": 900.0, "artifact": f"g{images}"}
            results["costs"]["generator"] = shared_cost
        if len(real_images) > 1:
            results["provenance"]["rare_images"] = images
        run = write_run(
            folder / f"{backbone}_{method}_{ratio:g}x_{images}_seed{seed}",
            results,
            made_up_predictions(TEST, 2.2 + 12 * (level - 0.8), seed),
        )
        redrawn = np.clip(values + shared + rng.normal(0, 0.003, shared.shape), 0, 1)
        write_resamples(run / "bootstrap.parquet", redrawn, NAMES, "one test set")
    return folder


def change_results(folder: Path, change: Any, pattern: str = "*") -> None:
    """Apply ``change`` to the content of each results.json below ``folder``."""
    for file in folder.glob(f"{pattern}/results.json"):
        values = json.loads(file.read_text())
        change(values)
        file.write_text(json.dumps(values))


def made_up_fidelity(**classes: Any) -> dict[str, Any]:
    """The content of fidelity.json; classes are of :func:`made_up_class`."""
    return {
        "schema": 1, "task": "assess", "scale": "tiny", "held_out_split": "test",
        "image_size": 16, "pixel_size_um": 0.5, "feature_network": {"backbone": "resnet18"},
        "settings": {}, "classes": classes or {"air_bubble": made_up_class()},
        "provenance": {"generator": "f00d", "filtered": False},
    }  # fmt: skip


def made_up_class() -> dict[str, Any]:
    """One class without a sign of copying."""
    from svp_lightning.evaluation.fidelity.measures import LIMITS
    from svp_lightning.evaluation.fidelity.morphology import MEASURES

    one = {
        "generated": {"value": 0.0123, "low": 0.01, "high": 0.015},
        "floor": {"value": 0.002, "low": 0.001, "high": 0.003},
    }
    tail = {
        "count": 9, "total": 300, "share": {"value": 0.03, "low": 0.01, "high": 0.05},
        "expected": 0.046, "p_value": 0.9, "threshold": 4.0,
    }  # fmt: skip
    sign = {"count": 0, "total": 300, "heldout_count": 0, "heldout_total": 150, "p_value": 1.0,
            "smallest_share": 0.05}  # fmt: skip
    space = {
        "closer": tail, "singular": tail, "copies": tail["share"], "both": sign,
        "identical": sign, "median_distance": 1.0, "heldout_median_distance": 1.0,
        "verdict": "novel",
    }  # fmt: skip
    distance = {"ks": one, "wasserstein": one, "real_mean": 1.0, "generated_mean": None}
    return {
        "counts": {"train": 300, "heldout": 150, "generated": 300}, "compared": 150,
        "features": dict.fromkeys(LIMITS, one), "recognised": one,
        "morphology": dict.fromkeys(MEASURES, distance),
        "memorisation": {"verdict": "novel", "pixel": space, "feature": space,
                         "duplicates": tail},
    }  # fmt: skip


if __name__ == "__main__":
    target = Path(sys.argv[1])
    made_up_study(target, real_images=(100, 300, 1000))
    broken = target / "resnet18_diffusion_10x_1000_seed1"
    broken.mkdir()
    (broken / "command.txt").write_text("python -m svp_lightning augmentation.ratio=10\n")
