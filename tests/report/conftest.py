"""Run folders with small made-up results, in the shape of DESIGN's contract."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

CLASSES = ("protein", "silicone_oil", "air_bubble")
METRICS = ("precision", "recall", "f1", "auprc", "recall_at_precision_95")

MakeRun = Callable[..., Path]


def results(
    class_names: tuple[str, ...] = CLASSES,
    *,
    seed: int = 1,
    backbone: str = "resnet50",
    method: str = "diffusion",
    ratio: float = 1.0,
    auprc: float = 0.9,
    half_width: float = 0.02,
) -> dict[str, Any]:
    """A complete results.json; every metric is a different number."""
    rng = np.random.default_rng([seed, len(backbone), int(ratio * 10), len(method)])

    def around(value: float) -> list[float]:
        return [max(0.0, value - half_width), min(1.0, value + half_width)]

    per_class = {
        name: dict(zip(METRICS, rng.uniform(0.5, 0.95, 5).tolist(), strict=True))
        for name in class_names
    }
    macro = dict(
        zip(
            ("macro_precision", "macro_recall", "macro_f1", "accuracy"),
            rng.uniform(0.5, 0.95, 4).tolist(),
            strict=True,
        )
    )
    macro["macro_auprc"] = auprc
    return {
        "schema": 1,
        "task": "evaluate",
        "seed": seed,
        "backbone": backbone,
        "augmentation": {"method": method, "ratio": ratio},
        "counts": {
            "train": {name: 1000 // (k + 1) ** 2 for k, name in enumerate(class_names)},
            "synthetic": dict.fromkeys(class_names[1:], int(100 * ratio)),
            "test": {name: 200 // (k + 1) for k, name in enumerate(class_names)},
        },
        "metrics": {**macro, "per_class": per_class},
        "ci95": {
            **{name: around(value) for name, value in macro.items()},
            "per_class": {
                name: {metric: around(value) for metric, value in own.items()}
                for name, own in per_class.items()
            },
        },
        "provenance": {
            "data": "d" * 64,
            "config": "c" * 64,
            "packages": {"torch": "2.11"},
            "device": "cpu",
            "wall_seconds": 90.0,
        },
        "something_new": {"threshold": 0.5},
    }


def predictions(counts: dict[str, int]) -> pd.DataFrame:
    """Predictions that are mostly right, the same for the same counts."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    scores = rng.normal(size=(len(labels), len(counts)))
    scores[np.arange(len(labels)), labels] += 3
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    names = list(counts)
    columns = {f"probability_{name}": probability[:, k] for k, name in enumerate(names)}
    ids = [f"image-{i}" for i in range(len(labels))]
    return pd.DataFrame({"id": ids, "label": [names[k] for k in labels], **columns})


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``make_run("name", seed=2, change={...})`` writes a run folder and returns it."""

    def make(
        name: str = "run",
        *,
        change: dict[str, Any] | None = None,
        with_predictions: bool = False,
        **kwargs: Any,
    ) -> Path:
        folder = tmp_path / "study" / name
        folder.mkdir(parents=True)
        values = results(**kwargs) | (change or {})
        (folder / "results.json").write_text(json.dumps(values))
        (folder / "config.yaml").write_text("seed: 1\n")
        (folder / "command.txt").write_text("python -m svp_lightning seed=1\n")
        if with_predictions:
            predictions(values["counts"]["test"]).to_parquet(folder / "predictions.parquet")
        return folder

    return make
