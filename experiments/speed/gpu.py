"""What only a GPU can show, at ``scale=paper``: three figures, a line of JSON each.

    python experiments/speed/gpu.py [--only test|train|simulate]

- ``test``: seconds of ``Trainer.test`` over 501,000 images with a ResNet-50, read from a
  memory-mapped store and collected (aim: 10 s on an H200). The first of two rounds warms up.
- ``train``: share of the time that kernels run while the classifier trains, from the trace of a
  profiler, and the images/s without one.
- ``simulate``: images/s into a store with the optics on the GPU and one drawing process per core,
  against one core of the same machine (aim: 25 times).

Network, image and batch sizes are those of ``scale=paper``; the images are noise and 3,600 train.
Not run on a GPU yet. On a machine without one the same runs with ``--images 512 --steps 12
--simulated 64`` and no kernels are counted.
"""

import argparse
import json
import logging
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from bench_pipeline import NAMES, now, write_store
from bench_pipeline import tested as seconds_of_test
from bench_simulator import images_per_second
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from svp_lightning.__main__ import configured
from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.settings import ClassifierSettings
from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import train_rows
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform
from svp_lightning.simulation.simulated_store import simulate_store
from svp_lightning.simulation.simulator import Simulator
from svp_lightning.stages.settings import SimulatedData

GPU = torch.cuda.is_available()
WARM_UP = 10
"""Training steps before the clock starts: algorithms are chosen, memory is taken."""


class Timed(pl.Callback):
    """Time, and if asked for a profiler's trace, of all steps after the first few."""

    def __init__(self, args: argparse.Namespace, profiled: bool) -> None:
        self.args = args
        activities = [ProfilerActivity.CUDA if GPU else ProfilerActivity.CPU]
        self.trace = profile(activities=activities) if profiled else None
        self.start = self.seconds = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == WARM_UP:
            if self.trace:
                self.trace.start()
            self.start = now(self.args)

    def on_train_end(self, *_: Any) -> None:
        self.seconds = now(self.args) - self.start
        if self.trace:
            self.trace.stop()

    def kernel_seconds(self) -> float:
        """Time in which at least one kernel or copy ran on the GPU."""
        assert self.trace is not None
        events = [
            event
            for event in self.trace.events() or []
            if event.device_type == DeviceType.CUDA and not event.is_user_annotation
        ]
        spans = np.array([(e.time_range.start, e.time_range.end) for e in events]).reshape(-1, 2)
        spans = spans[spans[:, 0].argsort()]
        reached = np.maximum.accumulate(np.concatenate([[0.0], spans[:, 1]]))[:-1]
        alone = spans[:, 1] - np.maximum(spans[:, 0], reached)
        return float(alone.clip(min=0).sum() / 1e6)


def tested(store: Store, settings: ClassifierSettings, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the test of a whole store."""
    rounds = []
    for _ in range(2):
        module = ClassifierModule(settings, NAMES, store.image_size)
        rounds.append(round(seconds_of_test(module, store, args), 2))
        assert module.test_predictions is not None
        assert len(module.test_predictions.index) == args.test_images
    return {"images": args.test_images, "seconds": rounds}


def trained(store: Store, settings: ClassifierSettings, args: argparse.Namespace) -> dict[str, Any]:
    """Images/s of the training loop, and how much of it the GPU works."""
    clocks = [Timed(args, profiled=False), Timed(args, profiled=True)]
    for clock in clocks:
        module = ClassifierModule(settings, NAMES, store.image_size)
        transform = TrainTransform(True, 0.1)
        data = ParticleDataModule(
            train_rows(store), None, args.batch_size, args.steps, 0, transform
        )
        pl.Trainer(
            callbacks=[clock],
            devices=1,
            max_epochs=1,
            precision="bf16-mixed" if args.bf16 else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        ).fit(module, datamodule=data)
    images = (args.steps - WARM_UP) * args.batch_size
    return {
        "images_per_second": round(images / clocks[0].seconds),
        "gpu_busy_percent": round(100 * clocks[1].kernel_seconds() / clocks[1].seconds, 1),
        "images_per_second_while_profiled": round(images / clocks[1].seconds),
    }


def simulated(folder: Path, count: int) -> dict[str, Any]:
    """Images/s with the optics on the GPU, start of the processes included."""
    torch.set_num_threads(1)
    counts = {"train": dict.fromkeys(PAPER_CLASSES, count // 3)}
    data = configured().data
    assert isinstance(data, SimulatedData)
    usual = data.simulation.model_copy(update={"counts": counts})
    on_gpu = {"device": "cuda", "chunk_size": 4096, "workers": os.cpu_count()}
    settings = usual.model_copy(update=on_gpu if GPU else {"workers": 0})
    start = time.perf_counter()
    simulate_store(folder / "simulated", settings, 64, 1, lambda _: None)
    rate = count // 3 * 3 / (time.perf_counter() - start)
    one = Simulator(usual, 64, seed=1)
    rates = [images_per_second(one, name, 120) for name in PAPER_CLASSES]
    core = len(rates) / sum(1 / each for each in rates)
    return {
        "images_per_second": round(rate),
        "one_core": round(core),
        "times": round(rate / core, 1),
        "cores": os.cpu_count(),
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("test", "train", "simulate"))
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--images", dest="test_images", type=int, default=501_000, help="tested")
    parser.add_argument("--test-batch-size", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=210, help="of training")
    parser.add_argument("--simulated", type=int, default=120_000)
    parser.set_defaults(bf16=GPU, clock="wall")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    args = parse()
    settings = configured(
        f"classifier={args.backbone}",
        "classifier.stem_stride=auto",
        f"classifier.batch_size={args.batch_size}",
    ).classifier
    device = torch.cuda.get_device_name() if GPU else "cpu"
    print(json.dumps({"device": device, "torch": torch.__version__}), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.only != "simulate":
            store = write_store(folder / "store", args.test_images, 64)
            for name, part in (("test", tested), ("train", trained)):
                if args.only in (None, name):
                    result = {"backbone": args.backbone, **part(store, settings, args)}
                    print(json.dumps({name: result}), flush=True)
        if args.only in (None, "simulate"):
            print(json.dumps({"simulate": simulated(folder, args.simulated)}), flush=True)


if __name__ == "__main__":
    main()
