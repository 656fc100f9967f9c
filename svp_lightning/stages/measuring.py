"""Testing a classifier, and every part of ``results.json`` that is measured."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from svp_lightning.classifier.module import ClassifierModule, load_classifier
from svp_lightning.classifier.validation import Collected
from svp_lightning.data.loading import ParticleDataModule, loader_of_rows
from svp_lightning.data.mix import Mixture
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import to_model_range
from svp_lightning.evaluation.calibration import calibration_of, working_points
from svp_lightning.evaluation.counting import Tally, metric_names, prevalence_table
from svp_lightning.evaluation.intervals import confidence_intervals
from svp_lightning.evaluation.predictions import (
    PREDICTIONS,
    RESAMPLES,
    Predictions,
    write_predictions,
    write_resamples,
)
from svp_lightning.evaluation.slices import recall_slices
from svp_lightning.runtime.artifacts import Clock, cost_of
from svp_lightning.runtime.files import replacing, sha256_of_json
from svp_lightning.runtime.terminal import counting
from svp_lightning.stages.environment import device_name
from svp_lightning.stages.run_folder import PREVALENCE, VALIDATION
from svp_lightning.stages.settings import EvaluationSettings
from svp_lightning.stages.trainers import Trainers

DRAW_SEED = 0
"""The same for every run, so that all runs on one test set are redrawn alike."""


def predict_splits(
    checkpoint: Path, store: Store, splits: Sequence[str], batch_size: int, trainers: Trainers
) -> tuple[list[Collected], str]:
    """Predict every image of held-out splits exactly once, on any number of processes.

    Returns:
        The predictions of each split, the same on every process, and the device's name.
    """
    module, trainer = load_classifier(checkpoint), trainers.make("Testing")
    found = []
    for split in splits:
        datamodule = ParticleDataModule(
            None,
            heldout=store,
            batch_size=batch_size,
            num_workers=trainers.settings.num_workers,
            tested_split=split,
        )
        trainer.test(module, datamodule=datamodule, verbose=False)
        assert module.test_predictions is not None
        found.append(module.test_predictions)
    return found, device_name(trainer.strategy.root_device, trainer.world_size)


def predict_all(
    module: ClassifierModule, store: Store, batch_size: int, device: torch.device
) -> NDArray[np.float32]:
    """(N, K) class probabilities of every image of a store, in its order, on one device."""
    if not len(store):  # a blank
        return np.empty((0, len(module.class_names)), np.float32)
    module, parts = module.to(device).eval(), []
    with torch.inference_mode(), counting("Classifying", len(store)) as progress:
        for batch in loader_of_rows(store, np.arange(len(store)), batch_size):
            images = to_model_range(batch["image"].to(device))
            parts.append(module.probabilities(images).cpu().numpy())
            progress(len(images))
    return np.concatenate(parts)


def measured_parts(
    store: Store,
    validated: Collected,
    tested: Collected,
    tally: Tally,
    prevalence: Mapping[str, float],
    redrawn: NDArray[np.float64],
) -> dict[str, Any]:
    """The parts of ``results.json`` that follow from predictions alone."""
    names = store.class_names
    splits = (validated.label, validated.probability), (tested.label, tested.probability)
    return {
        "metrics": tally.metrics(prevalence),
        "ci95": confidence_intervals(redrawn, tally.confusion, names, prevalence),
        "working_points": working_points(*splits, prevalence, names),
        "calibration": calibration_of(*splits, prevalence, names),
        "size_definition": store.manifest.made_by.get("size_definition"),
        "slices": recall_slices(
            tested.label,
            tested.probability.argmax(axis=1),
            store.particles.iloc[tested.index],
            names,
        ),
    }


def redraw(
    settings: EvaluationSettings,
    store: Store,
    tested: Collected,
    tally: Tally,
    prevalence: Mapping[str, float],
) -> tuple[NDArray[np.float64], str]:
    """(R, M) metrics of redrawn test sets, and what decides the draws."""
    rows = store.particles.iloc[tested.index]
    by_group = settings.resample == "groups"
    values = tally.redrawn(
        prevalence,
        groups=pd.factorize(rows["group"])[0] if by_group else None,
        resamples=settings.bootstrap_resamples,
        seed=DRAW_SEED,
    )
    # Not the data's hash, which results.json holds and a comparison of runs looks at.
    images = pd.util.hash_pandas_object(rows[["id", "label"]], index=False).to_numpy()
    draw = {
        "test": hashlib.sha256(images.astype("<u8").tobytes()).hexdigest(),
        "prevalence": dict(prevalence),
        "resample": settings.resample,
        "seed": DRAW_SEED,
    }
    return values, sha256_of_json(draw)


def image_counts(rows: Mixture, tested: Collected) -> dict[str, dict[str, int]]:
    """The ``counts`` part."""
    store = rows.stores[0]
    test = np.bincount(tested.label, minlength=len(store.class_names)).tolist()
    return {
        "train": rows.real,
        "synthetic": rows.added if len(rows.stores) > 1 else {},
        "test": dict(zip(store.class_names, test, strict=True)),
        "validation": store.counts("val"),
    }


def write_tables(
    settings: EvaluationSettings,
    run_dir: Path,
    store: Store,
    common: str,
    validated: Collected,
    tested: Collected,
    tally: Tally,
    redrawn: tuple[NDArray[np.float64], str],
) -> None:
    """Write both splits' predictions, the redrawn metrics, and metrics by prevalence.

    ``common`` is the class whose share ``prevalence.csv`` varies (:func:`commonest`).
    """
    names = store.class_names
    for file, part in ((PREDICTIONS, tested), (VALIDATION, validated)):
        ids = store.particles["id"].to_numpy(dtype=object)[part.index]
        write_predictions(run_dir / file, Predictions(ids, part.label, part.probability, names))
    write_resamples(run_dir / RESAMPLES, redrawn[0], metric_names(names), redrawn[1])
    table = prevalence_table(
        tally,
        common,
        settings.prevalence_ratios,
    )
    write_prevalence(run_dir, table)


def commonest(train: Mapping[str, int], stated: Mapping[str, float] | None = None) -> str:
    """The class whose share ``prevalence.csv`` varies: the one most common in use.

    Args:
        train: class name -> training images, which decide where nothing is stated.
        stated: class name -> prevalence, as ``data.prevalence`` gives it.
    """
    return max(train, key=lambda name: ((stated or {}).get(name, 0.0), train[name]))


def write_prevalence(run_dir: Path, table: pd.DataFrame) -> None:
    """Write ``prevalence.csv``, whole or not at all."""
    with replacing(run_dir / PREVALENCE) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def costs(stages: Mapping[str, Path | Clock | None]) -> dict[str, dict[str, Any]]:
    """The ``costs`` part: what each stage took, from its artifact's record or its clock.

    Args:
        stages: stage -> folder of its artifact, the clock of work done now, or None for a
            stage this run does without. Artifacts without a record of costs are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for stage, source in stages.items():
        if isinstance(source, Clock):
            found[stage] = dict(source.read())
        elif source is not None:
            cost = cost_of(source)
            if cost is not None:
                found[stage] = cost | {"artifact": source.name}
    return found
