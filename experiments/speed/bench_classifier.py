"""Images per second of the classifier: Lightning against a bare loop over the same network.

Prints one line of JSON. Bare and Lightning take turns in one process, so that both see the
same machine; each figure is the median over the rounds::

    python experiments/speed/bench_classifier.py --backbone resnet18 --mode train
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from svp_lightning.__main__ import configured
from svp_lightning.classifier.module import ClassifierModule

NAMES = ("protein", "silicone_oil", "air_bubble")


class OneBatch(Dataset[dict[str, Tensor]]):
    """The same batch again and again, so that reading images costs nothing."""

    def __init__(self, size: int, batch_size: int, length: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batch = {
            "image": torch.rand(batch_size, 1, size, size, generator=generator) * 2 - 1,
            "label": torch.randint(3, (batch_size,), generator=generator),
            "index": torch.arange(batch_size),
        }
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= self.length:
            raise IndexError(index)
        return self.batch


class Clock(pl.Callback):
    """Time at the end of each batch."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(now(self.args))

    def on_test_batch_end(self, *_: Any) -> None:
        self.times.append(now(self.args))


def now(args: argparse.Namespace) -> float:
    """Seconds of the chosen clock, after the GPU has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() if args.clock == "cpu" else time.perf_counter()


def bare_batches(module: ClassifierModule, loader: DataLoader[Any], args: Any) -> Iterator[float]:
    """Time after each batch of a plain PyTorch loop."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module.to(device)
    network = module.network
    bf16 = torch.autocast(device, torch.bfloat16) if args.bf16 else nullcontext()
    configured: Any = module.configure_optimizers() if args.mode == "train" else {}
    network.train(args.mode == "train")
    for batch in loader:
        images = batch["image"].to(device).contiguous(memory_format=torch.channels_last)
        with bf16, torch.set_grad_enabled(args.mode == "train"):
            logits = network(images)
        if args.mode == "train":
            loss = torch.nn.functional.cross_entropy(logits.float(), batch["label"].to(device))
            configured["optimizer"].zero_grad()
            loss.backward()
            configured["optimizer"].step()
            configured["lr_scheduler"]["scheduler"].step()
        yield now(args)


def lightning_batches(module: ClassifierModule, loader: DataLoader[Any], args: Any) -> list[float]:
    """Time after each batch of the Lightning loop."""
    clock = Clock(args)
    trainer = pl.Trainer(
        callbacks=[clock],
        devices=1,
        max_epochs=1,
        precision="bf16-mixed" if args.bf16 else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if args.mode == "train":
        trainer.fit(module, loader)
    else:
        trainer.test(module, loader, verbose=False)
    return clock.times


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--mode", choices=("train", "test"), default="train")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--stem-stride", type=int, choices=(1, 2, 4), default=None)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=8, help="timed batches per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: seconds of this process, fair on a busy machine without a GPU",
    )
    return parser.parse_args()


def main() -> None:
    """Time both loops in turn and print the medians."""
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    args = parse()
    settings = configured(
        f"classifier={args.backbone}",
        f"classifier.stem_stride={args.stem_stride or 'auto'}",
        f"classifier.batch_size={args.batch_size}",
    ).classifier
    data = OneBatch(args.image_size, args.batch_size, args.batches + 1)
    loader: DataLoader[Any] = DataLoader(data, batch_size=None)
    rates: dict[str, list[float]] = {"bare": [], "lightning": []}
    for _ in range(args.rounds):
        for name, loop in (("bare", bare_batches), ("lightning", lightning_batches)):
            module = ClassifierModule(settings, NAMES, args.image_size)
            times = list(loop(module, loader, args))
            rates[name].append(args.batches * args.batch_size / (times[-1] - times[0]))
    bare, lightning = median(rates["bare"]), median(rates["lightning"])
    overhead = 100 * (bare / lightning - 1)
    print(
        json.dumps(
            {
                "bare": round(bare, 1),
                "lightning": round(lightning, 1),
                "overhead_percent": round(overhead, 2),
                "mode": args.mode,
                "backbone": args.backbone,
                "image_size": args.image_size,
                "batch_size": args.batch_size,
                "precision": "bf16" if args.bf16 else "float32",
                "device": "cuda" if torch.cuda.is_available() else "cpu",
                "clock": args.clock,
            }
        )
    )


if __name__ == "__main__":
    main()
