"""Measure the classifier of ``train_released.py``, package it, and show it real images.

    cd experiments/released_classifiers
    python release.py --to ../../svp_lightning/pretrained/flow_imaging_64px

Prints the tables of the README. ``--reference`` is a folder of real images that is not part of the
project: ``paper_crops/real_<class>/*.png`` and a FlowCam run, ``flowcam_run``.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from instruments import BASES, SIZE
from PIL import Image
from train_released import PREVALENCE, RECIPE, WORK, configuration, plan

from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.validation import BEST
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import to_model_range
from svp_lightning.evaluation.predictions import PREDICTIONS, Predictions, write_predictions
from svp_lightning.evaluation.priors import class_shares
from svp_lightning.evaluation.schema import RESULTS, SCHEMA, Results
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.clock import Clock
from svp_lightning.runtime.files import sha256_of_json, write_json
from svp_lightning.stages import measuring
from svp_lightning.stages.classifier_export import export_classifier
from svp_lightning.stages.classifier_training import RECORD
from svp_lightning.stages.environment import git_revision, package_versions
from svp_lightning.stages.preparation import PREPARATION, Preparation
from svp_lightning.stages.publishing import writing_whole
from svp_lightning.stages.real_store import build_store
from svp_lightning.stages.run_folder import CLASSIFIER, VALIDATION, copy

NAME = "flow_imaging_64px"
ORIGIN = (
    "Images of svp_lightning's physics-based simulator of flow-imaging microscopy: 64 instruments, "
    "drawn at random around a FlowCam with a 10X objective (32) and an MFI 5200 (32). Apertures, "
    "pixel, sensor, background, noise, contrast, sizes and depths vary; every third FlowCam cuts "
    "its images around the particle and stretches them. Four more instruments validate, six test. "
    "experiments/released_classifiers says how."
)


def main() -> None:
    """Evaluate into ``<work>/run``, package, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--reference", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run, tested, store = evaluated(arguments.work)
    with writing_whole(arguments.to) as folder:
        export_classifier(folder, run, None, "apache-2.0", ORIGIN)
    for ratio in (1000.0, 100.0, 1.0):
        by_instrument(tested, store, ratio)
    if arguments.reference is not None:
        real_images(Classifier.load(run / CLASSIFIER), arguments.reference, arguments.work)


def evaluated(work: Path) -> tuple[Path, measuring.Split, Store]:
    """A folder as ``task=evaluate`` leaves it: classifier, results, predictions."""
    changes = [*RECIPE, "evaluation.resample=groups", "evaluation.bootstrap_resamples=400"]
    pipeline = Pipeline(configuration(work, changes), work)
    config, trained, run = pipeline.config, (work / "classifier").resolve(), work / "run"
    store, clock = Store.open(work / "store"), Clock()
    run.mkdir(exist_ok=True)
    start = time.monotonic()
    (validated, tested), device = measuring.predict_splits(
        trained / BEST, store, ("val", "test"), 512, pipeline.trainers
    )
    names = store.class_names
    use = dict(zip(names, class_shares(PREVALENCE, names).tolist(), strict=True))
    tally = tested.found.at(use).tally()
    redrawn = measuring.redraw(config.evaluation, tested, tally, use)
    parts = measuring.measured_parts(
        config.evaluation, store, validated, tested, tally, use, redrawn[0]
    )
    record = json.loads((trained / RECORD).read_text())
    facts = {
        "schema": SCHEMA,
        "experiment": NAME,
        "study": "released_classifiers",
        "scale": "64 px",
        "seed": 0,
        "backbone": config.classifier.backbone,
        "augmentation": {"method": config.augmentation.method, "ratio": 0.0,
                         "parts": config.augmentation.parts},
        "prevalence": use,
        "prevalence_stated": True,
        "rare_classes": ["silicone_oil", "air_bubble"],
        "validation_score": record["validation_score"],
        "counts": {"train": record["real"], "synthetic": {}, "test": store.counts("test"),
                   "validation": store.counts("val")},
        "costs": measuring.costs({"classifier": trained, "test": clock}),
        "provenance": {
            "data": store.sha256,
            PREPARATION: preparation(config.data, store, work),
            "optimizer_steps": record["optimizer_steps"],
            "training_images_drawn": record["optimizer_steps"] * config.classifier.batch_size,
            "config": sha256_of_json(config.identity()),
            "git": git_revision(),
            "packages": package_versions(),
            "device": device,
            "wall_seconds": round(time.monotonic() - start, 1),
        },
    }  # fmt: skip
    results = Results.model_validate(facts | parts)
    write_json(run / RESULTS, results.model_dump(mode="json"))
    write_predictions(run / PREDICTIONS, tested.found)
    write_predictions(run / VALIDATION, validated.found)
    copy(trained / BEST, run / CLASSIFIER)
    measuring.store_reference(run, trained / BEST, store, config.evaluation, torch.device("cpu"))
    return run, tested, store


def preparation(data: Any, store: Store, work: Path) -> dict[str, Any]:
    """Backgrounds differ between the instruments, so none is what new images are compared with."""
    pixels = [one.instrument.field_of_view_um / SIZE for one in plan(work, list(BASES)).values()]
    found = Preparation.of(data, store).model_dump()
    return found | {"background_grey": None, "pixel_um": [min(pixels), max(pixels)]}


def by_instrument(tested: measuring.Split, store: Store, ratio: float) -> None:
    """Print recall, precision and AUPRC of each held-out instrument at ``ratio`` : 1 : 1."""
    use = {name: ratio if name == "protein" else 1.0 for name in store.class_names}
    which = tested.particles["group"].str.split("-").str[:2].str.join("-").to_numpy()
    print(f"\nAt {ratio:g} : 1 : 1\n| instrument | macro AUPRC |", end="")
    print(" | ".join(f" {n}: precision, recall, AUPRC" for n in store.class_names), "|")
    for one in [*sorted(set(which)), "flowcam", "mfi", ""]:
        rows = np.char.startswith(which.astype(str), one)
        found = part(tested.found, rows).at(use).tally().metrics(use)
        cells = [
            f"{own['precision']:.3f}, {own['recall']:.3f}, {own['auprc']:.3f}"
            for own in found["per_class"].values()
        ]
        print(f"| {one or 'all'} | {found['macro_auprc']:.3f} | {' | '.join(cells)} |")


def part(found: Predictions, rows: np.ndarray) -> Predictions:
    """Some of the images."""
    return replace(
        found,
        ids=found.ids[rows],
        labels=found.labels[rows],
        probabilities=found.probabilities[rows],
    )


def real_images(module: Classifier, reference: Path, work: Path) -> None:
    """Print what the classifier calls real images, at even class shares."""
    for folder in sorted((reference / "paper_crops").iterdir()):
        files = sorted(folder.glob("*.png"))
        pictures = [Image.open(file).convert("L").resize((SIZE, SIZE)) for file in files]
        said(module, folder.name, np.stack([np.asarray(one) for one in pictures]))
    changes = ["data=flowcam", f"data.root={(reference / 'flowcam_run').resolve()}",
               "data.labelled=false", f"data.image_size={SIZE}"]  # fmt: skip
    pipeline = Pipeline(configuration(work, changes), work)
    store = build_store(pipeline.config.data, pipeline.config.paths.own, pipeline.cache)
    said(module, "flowcam_run", np.asarray(store.images))


def said(module: Classifier, name: str, images: np.ndarray) -> None:
    """Print how many images go to each class, and how sure the classifier is of them."""
    with torch.inference_mode():
        raw = module.eval().probabilities(to_model_range(torch.from_numpy(images.copy())[:, None]))
    names = module.class_names
    found = Predictions(
        np.arange(len(images)).astype(object), np.full(len(images), -1), raw.numpy(), names,
        module.trained_shares,
    ).at(dict.fromkeys(names, 1.0)).probabilities  # fmt: skip
    counts = np.bincount(found.argmax(axis=1), minlength=len(names)).tolist()
    called = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
    sure = np.quantile(found.max(axis=1), (0.1, 0.5))
    print(f"{name}: {called} of {len(images)}; largest probability: median {sure[1]:.2f}, tenth "
          f"percentile {sure[0]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
