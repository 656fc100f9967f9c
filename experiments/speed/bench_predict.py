"""Time of ``task=predict`` for 100,000 particles, over the bare forward passes of its network.

The released classifier, on images of noise, which do not change the time. Bare passes (the network
as it was trained, in batches of 512 and in those that the program uses), classifying, and
classifying with flags take turns on the same images; what follows for each particle and for the run
(sets, tables, suspects, quality report) is timed for all of them at once. Importing the images is
left out. One thread. Prints one JSON line.

Usage:
    python experiments/speed/bench_predict.py [--images 5000] [--turns 5] [--particles 100000]
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from svp_lightning.classifier.appearance import Appearance
from svp_lightning.classifier.packaged import open_classifier
from svp_lightning.classifier.settings import RELEASED
from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.data.transforms import to_model_range
from svp_lightning.evaluation.particle_counts import samples_of
from svp_lightning.evaluation.predictions import PREDICTIONS, Predictions, write_predictions
from svp_lightning.evaluation.reference import judge
from svp_lightning.report.counts import count_table, write_counts
from svp_lightning.report.gallery import write_suspects
from svp_lightning.stages.lab_report import lab_report
from svp_lightning.stages.predictor import (
    IMAGES_PER_CORE,
    Predictor,
    load_predictor,
    predict_all,
)
from svp_lightning.stages.settings import LabReportSettings

BATCH, BLOCK = 512, 5000
CPU = torch.device("cpu")
SETTINGS = LabReportSettings(
    coverage=0.95,
    false_alarms=0.02,
    blank=None,
    compare=None,
    container_ml=1.0,
    product="injection",
)
Times = dict[str, tuple[float, float]]
"""What -> seconds of the processor, and of the clock."""


def store_of(folder: Path, images: int, size: int) -> Store:
    """Noise around grey level 170, of 1 to 20 µm."""
    table = pd.DataFrame({"id": [f"run/{k:06d}" for k in range(images)]})
    table = table.assign(label=None, split="", group="run", origin="real")
    table["ecd_um"] = np.random.default_rng(1).uniform(1, 20, images)
    noise = np.random.default_rng(0).integers(140, 200, (BLOCK, size, size), dtype=np.uint8)
    writer = StoreWriter(folder, images, size)
    for start in range(0, images, BLOCK):
        part = table[start : start + BLOCK]
        writer.write(start, noise[: len(part)], part)
    runs = {"run": {"volume_ml": 0.5, "particles": images}}
    writer.finish((), 0.5, {"source": "flowcam", "size_definition": "ECD", "runs": runs})
    return Store.open(folder)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor, and of the clock."""
    start = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def passes(seen: Appearance, store: Store, turns: int) -> list[Times]:
    """Each way, in turn; the order is reversed from turn to turn."""
    network = open_classifier(RELEASED).eval()

    def bare(size: int) -> None:
        with torch.inference_mode():
            for start in range(0, len(store), size):
                batch = torch.from_numpy(np.array(store.images[start : start + size]))
                network(to_model_range(batch[:, None]))

    ways: dict[str, Callable[[], object]] = {
        "bare, batches of 512": lambda: bare(BATCH),
        "bare": lambda: bare(IMAGES_PER_CORE),
        "classifier": lambda: predict_all(seen.classifier, store, BATCH, CPU),
        "with flags": lambda: predict_all(seen, store, BATCH, CPU),
    }
    for call in ways.values():  # imports and kernels
        call()
    order = list(ways.items())
    return [
        {name: timed(call) for name, call in (order, order[::-1])[turn % 2]}
        for turn in range(turns)
    ]


def rest(predictor: Predictor, store: Store, folder: Path) -> None:
    """What the command makes of probabilities and distances."""
    rng, known, reference = np.random.default_rng(2), predictor.results, predictor.reference
    assert isinstance(predictor.seen, Appearance)
    assert reference is not None
    names = predictor.seen.classifier.class_names
    p = rng.dirichlet([0.2] * len(names), len(store)).astype(np.float32)
    far = np.stack([rng.choice(reference.strangeness[name], len(store)) for name in names], axis=1)
    ids, sizes = store.particles["id"].to_numpy(object), store.particles["ecd_um"].to_numpy()
    shares = dict.fromkeys(names, 1 / len(names))
    raw = Predictions(ids, np.full(len(ids), -1), p, names, shares, sizes)
    write_predictions(folder / PREDICTIONS, raw)
    judged = judge(raw, raw, far, reference, SETTINGS.coverage, SETTINGS.false_alarms)
    samples = samples_of(store)
    write_counts(folder, store, judged, count_table(judged, store, samples))
    write_suspects(folder / "suspects.html", store, judged)
    hashes = dict.fromkeys(("classifier", "configuration"), "")
    lab_report(folder, RELEASED, store, samples, raw, judged, known, SETTINGS, [], hashes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--particles", type=int, default=100_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = load_predictor(RELEASED)
    seen = predictor.seen
    assert isinstance(seen, Appearance)
    size = seen.classifier.image_size
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name)
        turns = passes(seen, store_of(folder / "few", options.images, size), options.turns)
        everything = store_of(folder / "all", options.particles, size)
        rest(predictor, store_of(folder / "warm", 100, size), folder)  # imports and fonts
        after = np.array(timed(lambda: rest(predictor, everything, folder)))
    each = {way: np.array([turn[way] for turn in turns]) / options.images for way in turns[0]}
    bare, after = each["bare"], after / options.particles
    ratios = {
        "classifier / bare": each["classifier"] / bare,
        "with flags / bare": each["with flags"] / bare,
        "with flags and the rest / bare": (each["with flags"] + after) / bare,
    }
    found = {f"{way}, us an image": np.median(v, axis=0) * 1e6 for way, v in each.items()}
    found["rest, us a particle"] = after * 1e6
    found |= {name: np.median(v, axis=0) for name, v in ratios.items()}
    shown = {
        k: dict(zip(("cpu", "wall"), v.round(3).tolist(), strict=True)) for k, v in found.items()
    }
    print(json.dumps({**vars(options), **shown}))


if __name__ == "__main__":
    main()
