"""A whole made-up study on disk: seeds, backbones, controls, learning curve, costs, failures.

Numbers come from a random generator, so they mean nothing; the files are those that real runs
leave. ``python tests/report/made_up.py FOLDER`` writes one to look at.
"""

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from svp_lightning.evaluation.predictions import write_resamples

CLASSES = ("protein", "silicone_oil", "air_bubble")
CLASS_METRICS = ("precision", "recall", "f1", "auprc", "recall_at_precision_95")
MACRO_METRICS = ("macro_precision", "macro_recall", "macro_f1", "macro_auprc", "accuracy")
NAMES = (*MACRO_METRICS, *(f"{c}/{m}" for c in CLASSES for m in CLASS_METRICS))
TEST = {"protein": 2000, "silicone_oil": 150, "air_bubble": 150}
RESAMPLES = 200
ARMS = (
    *(("none", 0.0), ("duplicate", 1.0), ("class_weights", 0.0), ("classical", 0.0)),
    *(("diffusion", ratio) for ratio in (0.5, 1.0, 2.0, 5.0)),
)


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
    for backbone, (method, ratio), images, seed in product(backbones, arms, real_images, seeds):
        level = 0.8 + 0.03 * (backbone == "resnet50") + 0.04 * np.log10(images / 1000)
        level += gain * (method == "diffusion") * np.sqrt(min(ratio, 2)) + 0.004 * (seed - 2)
        values = np.clip(level + rng.normal(0, 0.004, len(NAMES)), 0, 0.98)
        run = folder / f"{backbone}_{method}_{ratio:g}x_{images}_seed{seed}"
        run.mkdir(parents=True)
        facts = _results(backbone, method, ratio, images, seed, values)
        if len(real_images) > 1:  # as data.rare_images leaves it
            facts["provenance"]["rare_images"] = images
        (run / "results.json").write_text(json.dumps(facts))
        (run / "config.yaml").write_text(f"seed: {seed}\n")
        (run / "command.txt").write_text(f"python -m svp_lightning seed={seed}\n")
        own = rng.normal(0, 0.003, shared.shape)
        redrawn = np.clip(values + shared + own, 0, 1)
        write_resamples(run / "bootstrap.parquet", redrawn, NAMES, "one test set")
        _predictions(rng, 2.2 + 12 * (level - 0.8)).to_parquet(run / "predictions.parquet")
    return folder


def _results(
    backbone: str, method: str, ratio: float, images: int, seed: int, values: Any
) -> dict[str, Any]:
    metrics = _nested(values.tolist())
    near = [[max(0.0, v - 0.015), min(1.0, v + 0.015)] for v in values.tolist()]
    rare = dict.fromkeys(CLASSES[1:], images)
    generated = method == "diffusion" and ratio > 0
    cost = {"wall_seconds": 120.0, "cpu_seconds": 200.0, "gpu_seconds": 120.0}
    generator = {"generator": cost | {"wall_seconds": 900.0, "artifact": f"g{images}"}}
    return {
        "schema": 2,
        "task": "evaluate",
        "study": "made_up",
        "seed": seed,
        "backbone": backbone,
        "augmentation": {"method": method, "ratio": ratio},
        "rare_classes": list(CLASSES[1:]),
        "prevalence": {"protein": 0.98, "silicone_oil": 0.01, "air_bubble": 0.01},
        "counts": {
            "train": {"protein": 10_000, **rare},
            "synthetic": {name: int(ratio * images) for name in rare} if generated else {},
            "test": TEST,
            "validation": dict.fromkeys(CLASSES, 200),
        },
        "metrics": metrics,
        "ci95": _nested(near),
        "costs": {"classifier": cost, "test": cost} | (generator if generated else {}),
        "working_points": {
            name: {
                "threshold": 0.9,
                "validation_precision": 0.96,
                "validation_recall": 0.7,
                "precision": 0.93,
                "recall": 0.68,
                "precision_ci95": [0.88, 0.97],
                "recall_ci95": [0.6, 0.75],
            }
            for name in CLASSES
        },
        "provenance": {"data": "d" * 64, "wall_seconds": 240.0, "device": "made up"},
    }


def _nested(flat: list[Any]) -> dict[str, Any]:
    given = dict(zip(NAMES, flat, strict=True))
    return {name: given[name] for name in MACRO_METRICS} | {
        "per_class": {c: {m: given[f"{c}/{m}"] for m in CLASS_METRICS} for c in CLASSES}
    }


def _predictions(rng: np.random.Generator, signal: float) -> pd.DataFrame:
    labels = np.repeat(np.arange(3), list(TEST.values()))
    scores = rng.normal(size=(len(labels), 3))
    scores[np.arange(len(labels)), labels] += signal
    p = (np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)).astype(np.float32)
    columns = {f"probability_{name}": p[:, k] for k, name in enumerate(CLASSES)}
    ids = [f"image-{i}" for i in range(len(labels))]
    return pd.DataFrame({"id": ids, "label": np.array(CLASSES)[labels], **columns})


if __name__ == "__main__":
    target = Path(sys.argv[1])
    made_up_study(target, real_images=(100, 300, 1000))
    broken = target / "resnet18_diffusion_10x_1000_seed1"
    broken.mkdir()
    (broken / "command.txt").write_text("python -m svp_lightning augmentation.ratio=10\n")
