"""Where the classifier's time goes: reading, transforming, network; prints one JSON line.

Training: the parts of a step, each timed alone on the batches that training would draw. Test:
``Trainer.test`` over a store against the bare forward passes of the same images. Both at the
demo's size unless options say otherwise::

    python experiments/speed/bench_pipeline.py --backbone resnet50
"""

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from svp_lightning.__main__ import configured
from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.data.batches import StepBatchSampler
from svp_lightning.data.dataset import ParticleDataset
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.data.transforms import TrainTransform, to_model_range

NAMES = ("protein", "silicone_oil", "air_bubble")
TRAIN = 3600


def write_store(path: Path, test_images: int, size: int) -> Store:
    """Random images of the demo's training size, and ``test_images`` to test on."""
    count = TRAIN + test_images
    table = pd.DataFrame({"id": [f"{n}" for n in range(count)]})
    table["label"] = [NAMES[n % 3] for n in range(count)]
    table["split"] = ["train"] * TRAIN + ["test"] * test_images
    table = table.assign(group=table["id"], origin="real")
    writer = StoreWriter(path, count, size)
    images = np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)
    writer.write(0, images, table)
    writer.finish(NAMES, None, {})
    return Store.open(path)


def now(args: argparse.Namespace) -> float:
    """Seconds of the chosen clock, after the GPU has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() if args.clock == "cpu" else time.perf_counter()


def milliseconds(work: Callable[[int], Any], args: argparse.Namespace) -> float:
    """Median time of ``work(step)``, the first call left out."""
    times = []
    for step in range(args.batches + 1):
        start = now(args)
        work(step)
        times.append(1000 * (now(args) - start))
    return median(times[1:])


def train_step_parts(module: ClassifierModule, store: Store, args: Any) -> dict[str, float]:
    """Milliseconds of the parts of one training step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device).train()
    dataset = ParticleDataset.of_rows(store, store.indices("train"))
    sampler = StepBatchSampler(np.zeros(len(dataset), int), np.ones(1), args.batch_size, 1, seed=0)
    transform, generator = TrainTransform(True, 0.1), torch.Generator(device).manual_seed(0)
    batch = dataset[sampler.global_batch(0)]
    images = to_model_range(batch["image"].to(device))
    configured: Any = module.configure_optimizers()

    def network(step: int) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            logits = module(images)
        loss = cross_entropy(logits.float(), batch["label"].to(device))
        configured["optimizer"].zero_grad()
        loss.backward()
        configured["optimizer"].step()

    return {
        "read_ms": milliseconds(lambda step: dataset[sampler.global_batch(step)], args),
        "transform_ms": milliseconds(
            lambda step: transform(batch["image"].to(device), generator), args
        ),
        "network_ms": milliseconds(network, args),
    }


def bare_forward(module: ClassifierModule, images: Tensor, args: Any) -> float:
    """Seconds of the forward passes of ``images`` (N, 1, H, W) alone, in batches."""
    module.eval()
    start = now(args)
    with torch.inference_mode():
        for batch in images.split(args.test_batch_size):
            module.network(batch)
    return now(args) - start


def tested(module: ClassifierModule, store: Store, args: Any) -> float:
    """Seconds of ``Trainer.test`` on the same images, read from the store, collected."""
    trainer = pl.Trainer(
        devices=1,
        precision="bf16-mixed" if torch.cuda.is_available() and args.bf16 else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    data = ParticleDataModule(None, store, args.test_batch_size, 1, 0, TrainTransform())
    start = now(args)
    trainer.test(module, datamodule=data, verbose=False)
    return now(args) - start


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--stem-stride", type=int, choices=(1, 2, 4), default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--test-batch-size", type=int, default=512)
    parser.add_argument("--test-images", type=int, default=2048)
    parser.add_argument("--batches", type=int, default=10, help="timed training batches")
    parser.add_argument("--rounds", type=int, default=3, help="of the test comparison")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    return parser.parse_args()


def main() -> None:
    """Time training and test, and print shares and ratio."""
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    args = parse()
    torch.set_num_threads(args.threads)
    settings = configured(
        f"classifier={args.backbone}",
        f"classifier.stem_stride={args.stem_stride}",
        f"classifier.batch_size={args.batch_size}",
    ).classifier
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store", args.test_images, args.image_size)
        parts = train_step_parts(ClassifierModule(settings, NAMES, args.image_size), store, args)
        module = ClassifierModule(settings, NAMES, args.image_size)
        rows = store.indices("test")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        images = to_model_range(torch.from_numpy(store.images[rows])[:, None])
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        bare, full = [], []
        for _ in range(args.rounds):
            bare.append(bare_forward(module.to(device), images, args))
            full.append(tested(module, store, args))
    data = parts["read_ms"] + parts["transform_ms"]
    result = {
        "backbone": args.backbone,
        **{name: round(value, 2) for name, value in parts.items()},
        "data_percent_of_step": round(100 * data / (data + parts["network_ms"]), 1),
        "train_images_per_second": round(1000 * args.batch_size / (data + parts["network_ms"])),
        "bare_forward_images_per_second": round(len(rows) / median(bare)),
        "test_images_per_second": round(len(rows) / median(full)),
        "test_to_bare": round(median(full) / median(bare), 3),
        "precision": "bf16" if args.bf16 else "float32",
        "threads": args.threads,
        "clock": args.clock,
        "device": device,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
