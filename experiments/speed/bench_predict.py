"""Processor time of ``task=predict`` for each image, over the bare forward passes of the network.

Prints one JSON line. Images are noise and the network is untrained: neither matters for the time.

Usage:
    python experiments/speed/bench_predict.py [--images 20000] [--backbone resnet18_quarter]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from svp_lightning.classifier.appearance import Appearance, fit_appearance
from svp_lightning.classifier.packaged import empty_module
from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.data.transforms import to_model_range
from svp_lightning.evaluation.reference import Reference, judge
from svp_lightning.stages.measuring import predict_all

CLASSES = ("protein", "silicone_oil", "air_bubble")
SIZE, BATCH, FITTED = 64, 512, 900
CPU = torch.device("cpu")


def store_of(folder: Path, images: int) -> Store:
    """Noise around grey level 170."""
    ids = pd.DataFrame({"id": [f"{k:08d}" for k in range(images)]})
    table = ids.assign(label=None, split="", group=ids["id"], origin="real")
    writer, rng = StoreWriter(folder, images, SIZE), np.random.default_rng(0)
    for start in range(0, images, 5000):
        part = table[start : start + 5000]
        noise = rng.integers(140, 200, (len(part), SIZE, SIZE), dtype=np.uint8)
        writer.write(start, noise, part)
    writer.finish((), 0.5, {"source": "folder"})
    return Store.open(folder)


def seconds(call: Callable[[], object]) -> float:
    """Of processor time."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--backbone", default="resnet18_quarter")
    options = parser.parse_args()
    shares = dict.fromkeys(CLASSES, 1 / len(CLASSES))
    module = empty_module(options.backbone, 2, False, SIZE, CLASSES, shares).eval()
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder) / "store", options.images)
        labels = np.arange(FITTED) % len(CLASSES)
        fitted = fit_appearance(module, np.asarray(store.images[:FITTED]), labels)
        seen = Appearance(module, fitted)

        def bare() -> None:
            with torch.inference_mode():
                for start in range(0, options.images, BATCH):
                    batch = torch.from_numpy(np.array(store.images[start : start + BATCH]))
                    module(to_model_range(batch[:, None]))

        def whole() -> None:
            raw, strange = predict_all(seen, store, BATCH, CPU)
            order = {name: np.sort(strange[:FITTED, k]) for k, name in enumerate(CLASSES)}
            known = {name: np.sort(raw.probabilities[:FITTED, k]) for k, name in enumerate(CLASSES)}
            judge(raw, raw, strange, Reference(known, order, fitted), 0.95, 0.02)

        predict_all(seen, store, BATCH, CPU, np.arange(BATCH))  # imports and kernels
        alone = seconds(lambda: predict_all(module, store, BATCH, CPU))
        found = {"bare": seconds(bare), "classifier": alone, "with flags": seconds(whole)}
    each = {
        f"{k}, microseconds an image": round(v / options.images * 1e6) for k, v in found.items()
    }
    ratios = {f"{k} / bare": round(v / found["bare"], 3) for k, v in found.items() if k != "bare"}
    print(json.dumps({"images": options.images, "backbone": options.backbone, **each, **ratios}))


if __name__ == "__main__":
    main()
