"""Random reads per second from a store, as whole batches; prints one JSON line.

Usage:
    python experiments/speed/bench_store.py [--images 100000] [--image-size 64] [--seconds 5]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from svp_lightning.data.batches import StepBatchSampler
from svp_lightning.data.dataset import ParticleDataset
from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.data.transforms import TrainTransform

BATCH_SIZE = 256
CHUNK = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        start = time.perf_counter()
        write_store(path, options.images, options.image_size)
        written = options.images / (time.perf_counter() - start)
        start = time.perf_counter()
        store = Store.open(path)
        opened = time.perf_counter() - start
        reads = reads_per_second(store, options.seconds, None)
        transformed = reads_per_second(store, options.seconds, TrainTransform(True, 0.1))
    result = {
        "images": options.images,
        "image_size": options.image_size,
        "batch_size": BATCH_SIZE,
        "threads": 1,
        "reads_per_second": round(reads),
        "reads_and_transforms_per_second": round(transformed),
        "writes_per_second": round(written),
        "open_seconds": round(opened, 3),
    }
    print(json.dumps(result))


def write_store(path: Path, images: int, image_size: int) -> None:
    rng = np.random.default_rng(0)
    writer = StoreWriter(path, images, image_size)
    for chunk in writer.pending(CHUNK):
        table = pd.DataFrame({"id": [f"{n:09d}" for n in chunk]})
        table = table.assign(label="protein", split="train", group=table["id"], origin="real")
        shape = (len(chunk), image_size, image_size)
        writer.write(chunk.start, rng.integers(0, 256, shape, dtype=np.uint8), table)
    writer.finish(("protein",), None, {})


def reads_per_second(store: Store, seconds: float, transform: TrainTransform | None) -> float:
    """Images per second in the order training asks for, after a short warm-up."""
    dataset = ParticleDataset.of_rows(store, store.indices(split="train"))
    sampler = StepBatchSampler(np.zeros(len(dataset), int), np.ones(1), BATCH_SIZE, 1, seed=0)
    generator = torch.Generator().manual_seed(0)
    for step in range(20):
        dataset[sampler.global_batch(step)]
    start, step = time.perf_counter(), 20
    while time.perf_counter() - start < seconds:
        batch = dataset[sampler.global_batch(step)]
        if transform is not None:
            transform(batch["image"], generator)
        step += 1
    return (step - 20) * BATCH_SIZE / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
