"""What only a GPU can show, at ``scale=paper``: three figures, a line of JSON each.

    python experiments/speed/gpu.py [--only test|train|simulate]

- ``test``: seconds of ``Trainer.test`` over 501,000 images with a ResNet-50, read from a
  memory-mapped store and collected (aim: 10 s on an H200). The first of two rounds warms up.
- ``train``: share of the time that kernels run while the classifier trains, from the trace of a
  profiler, and the images/s without one.
- ``simulate``: images/s into a store with the optics on the GPU and one drawing process per core,
  against one core of the same machine (aim: 25 times).

About five minutes on a GPU of that class, most of it for the first store. On a machine without
one the same runs with ``--images 512 --steps 12 --simulated 64`` and no kernels are counted.
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
from bench_pipeline import NAMES, write_store
from bench_simulator import images_per_second
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.settings import ClassifierSettings
from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.data.datamodule import ParticleDataModule
from svp_lightning.data.mix import Mixture, train_rows
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform
from svp_lightning.simulation.dataset import Simulator
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.write import simulate_store

GPU = torch.cuda.is_available()
WARM_UP = 10
"""Training steps before the clock starts: algorithms are chosen, memory is taken."""


class Timed(pl.Callback):
    """Time, and if asked for a profiler's trace, of all steps after the first few."""

    def __init__(self, profiled: bool) -> None:
        activities = [ProfilerActivity.CUDA if GPU else ProfilerActivity.CPU]
        self.trace = profile(activities=activities) if profiled else None
        self.start = self.seconds = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == WARM_UP:
            settle()
            if self.trace:
                self.trace.start()
            self.start = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        settle()
        self.seconds = time.perf_counter() - self.start
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


def settle() -> None:
    """Wait until the GPU has finished what it was given."""
    if GPU:
        torch.cuda.synchronize()


def trainer(**arguments: Any) -> pl.Trainer:
    """As a run has it, without its loggers and checkpoints."""
    return pl.Trainer(
        devices=1,
        precision="bf16-mixed" if GPU else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **arguments,
    )


def data(mixture: Mixture | None, store: Store | None, batch_size: int) -> ParticleDataModule:
    """Batches as a run has them."""
    return ParticleDataModule(mixture, store, batch_size, 10**6, 0, TrainTransform(True, 0.1))


def tested(store: Store, settings: ClassifierSettings, batch_size: int) -> dict[str, Any]:
    """Seconds of the test of a whole store."""
    rounds = []
    for _ in range(2):
        module = ClassifierModule(settings, NAMES, store.image_size)
        start = time.perf_counter()
        trainer().test(module, datamodule=data(None, store, batch_size), verbose=False)
        settle()
        rounds.append(time.perf_counter() - start)
        assert module.test_predictions is not None
        assert len(module.test_predictions.index) == len(store.indices("test"))
    return {"images": len(store.indices("test")), "seconds": [round(r, 2) for r in rounds]}


def trained(store: Store, settings: ClassifierSettings, steps: int) -> dict[str, Any]:
    """Images/s of the training loop, and how much of it the GPU works."""
    clocks = [Timed(profiled=False), Timed(profiled=True)]
    for clock in clocks:
        module = ClassifierModule(settings, NAMES, store.image_size)
        run = trainer(callbacks=[clock], max_steps=steps, max_epochs=1, limit_val_batches=0)
        run.fit(module, datamodule=data(train_rows(store), None, settings.batch_size))
    images = (steps - WARM_UP) * settings.batch_size
    return {
        "images_per_second": round(images / clocks[0].seconds),
        "gpu_busy_percent": round(100 * clocks[1].kernel_seconds() / clocks[1].seconds, 1),
        "images_per_second_while_profiled": round(images / clocks[1].seconds),
    }


def simulated(folder: Path, count: int) -> dict[str, Any]:
    """Images/s with the optics on the GPU, start of the processes included."""
    torch.set_num_threads(1)
    counts = {"train": dict.fromkeys(PAPER_CLASSES, count // 3)}
    settings = SimulationSettings(
        counts=counts,
        device="cuda" if GPU else "cpu",
        chunk_size=4096 if GPU else 256,
        workers=os.cpu_count() if GPU else 0,
    )
    start = time.perf_counter()
    simulate_store(folder / "simulated", settings, 64, 1, lambda _: None)
    rate = count // 3 * 3 / (time.perf_counter() - start)
    one = Simulator(SimulationSettings(counts=counts), 64, seed=1)
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
    parser.add_argument("--images", type=int, default=501_000, help="tested")
    parser.add_argument("--test-batch-size", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=210, help="of training")
    parser.add_argument("--simulated", type=int, default=120_000)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    args = parse()
    settings = ClassifierSettings(backbone=args.backbone, batch_size=args.batch_size)
    name = torch.cuda.get_device_name() if GPU else "cpu"
    print(json.dumps({"device": name, "torch": torch.__version__}), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parts = {
            "test": lambda store: tested(store, settings, args.test_batch_size),
            "train": lambda store: trained(store, settings, args.steps),
        }
        if args.only != "simulate":
            store = write_store(folder / "store", args.images, 64)
            for part in [args.only] if args.only else list(parts):
                result = {"backbone": args.backbone, **parts[part](store)}
                print(json.dumps({part: result}), flush=True)
        if args.only in (None, "simulate"):
            print(json.dumps({"simulate": simulated(folder, args.simulated)}), flush=True)


if __name__ == "__main__":
    main()
