"""Testing a classifier, and every part of ``results.json`` that is measured."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from svp_lightning.classifier.appearance import IMAGES as TRAIN_IMAGES
from svp_lightning.classifier.appearance import Appearance, fit_appearance
from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.network import Classifier
from svp_lightning.data.classes import display_name
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import Mixture
from svp_lightning.data.store import Store
from svp_lightning.evaluation.calibration import calibration_of
from svp_lightning.evaluation.counting import Tally, metric_names
from svp_lightning.evaluation.intervals import confidence_intervals
from svp_lightning.evaluation.predictions import (
    PREDICTIONS,
    RESAMPLES,
    Predictions,
    prevalence_table,
    write_predictions,
    write_resamples,
)
from svp_lightning.evaluation.redraws import images_of_runs
from svp_lightning.evaluation.reference import REFERENCE, Reference, write_reference
from svp_lightning.evaluation.slices import recall_slices
from svp_lightning.evaluation.working_points import working_points
from svp_lightning.runtime.artifacts import cost_of
from svp_lightning.runtime.clock import Clock
from svp_lightning.runtime.files import sha256_of_json, write_csv
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.environment import device_name
from svp_lightning.stages.joint_training import together
from svp_lightning.stages.predictor import predict_all
from svp_lightning.stages.run_folder import PREVALENCE, VALIDATION
from svp_lightning.stages.settings import EvaluationSettings
from svp_lightning.stages.trainers import Trainers

FEW_RUNS = 10
"""Runs with test images of a class, below which intervals of redrawn runs are too narrow; see
``experiments/interval_coverage``."""
RESAMPLED = {"images": "images", "groups": "groups with all their classes"}
"""What tells draws apart that are not paired with one another."""
DRAW_SEED = 0
"""The same for every run, so that all runs on one test set are redrawn alike."""
VAL_IMAGES = 5000
"""Validation images of a class that a reference keeps the numbers of, at most."""


@dataclass(frozen=True)
class Split:
    """A held-out split and what a classifier says about it.

    Attributes:
        found: its probabilities as trained.
        rows: (N,) the store's row of each image.
        particles: N rows of the store's table.
    """

    found: Predictions
    rows: NDArray[np.int64]
    particles: pd.DataFrame

    def groups(self, settings: EvaluationSettings) -> NDArray[np.intp] | None:
        """(N,) number of each image's run or vial, where the bootstrap redraws those."""
        if settings.resample == "images":
            return None
        return pd.factorize(self.particles["group"])[0]


def predict_splits(
    checkpoint: Path, store: Store, splits: Sequence[str], batch_size: int, trainers: Trainers
) -> tuple[list[Split], str]:
    """Predict every image of held-out splits exactly once, on any number of processes.

    Returns:
        The predictions of each split, the same on every process, and the device's name.
    """
    module, trainer = ClassifierModule.load(checkpoint), trainers.make("Testing")
    found = []
    for split in splits:
        datamodule = ParticleDataModule(
            None,
            heldout=store,
            batch_size=batch_size,
            num_workers=trainers.settings.num_workers,
            tested_split=split,
        )
        with together(trainer):
            trainer.test(module, datamodule=datamodule, verbose=False)
        tested = module.test_predictions
        assert tested is not None
        particles = store.particles.iloc[tested.index]
        ids, shares = particles["id"].to_numpy(dtype=object), module.trained_shares
        sizes = particles["ecd_um"].to_numpy(float) if "ecd_um" in particles else None
        said = Predictions(ids, tested.label, tested.probability, store.class_names, shares, sizes)
        found.append(Split(said, tested.index, particles))
    return found, device_name(trainer.strategy.root_device, trainer.world_size)


def store_reference(
    run_dir: Path,
    checkpoint: Path,
    store: Store,
    settings: EvaluationSettings,
    device: torch.device,
) -> None:
    """Write what new images are compared with; see :mod:`svp_lightning.evaluation.reference`.

    Every class of the store, which the classifier was trained on, has training and validation
    images.
    """
    module = Classifier.load(checkpoint)
    train, held = store.few_of_each("train", TRAIN_IMAGES), store.few_of_each("val", VAL_IMAGES)
    fitted = fit_appearance(module, np.asarray(store.images[train]), store.labels[train], device)
    seen = Appearance(module, fitted)
    found, strange = predict_all(seen, store, settings.batch_size, device, held)
    probability, strangeness = {}, {}
    for k, name in enumerate(store.class_names):
        own = store.labels[held] == k
        probability[name] = np.sort(found.probabilities[own, k])
        strangeness[name] = np.sort(strange[own, k])
    write_reference(run_dir / REFERENCE, Reference(probability, strangeness, fitted))


def measured_parts(
    settings: EvaluationSettings,
    store: Store,
    validated: Split,
    tested: Split,
    tally: Tally,
    prevalence: Mapping[str, float],
    redrawn: NDArray[np.float64],
) -> dict[str, Any]:
    """The parts of ``results.json`` that follow from predictions alone.

    ``tally`` and ``redrawn`` (:func:`redraw`) are of the test probabilities at ``prevalence``.
    """
    found = (validated.found, tested.found)
    groups = validated.groups(settings), tested.groups(settings)
    return {
        "trained_shares": tested.found.shares,
        "metrics": tally.metrics(prevalence),
        "ci95": confidence_intervals(redrawn, tally, prevalence),
        "metrics_as_trained": tested.found.tally().metrics(prevalence),
        "working_points": working_points(*found, prevalence, groups, settings.bootstrap_resamples),
        "calibration": calibration_of(*found, prevalence),
        "size_definition": store.manifest.made_by.get("size_definition"),
        "slices": recall_slices(tested.found.at(prevalence), tested.particles),
    }


def redraw(
    settings: EvaluationSettings, tested: Split, tally: Tally, prevalence: Mapping[str, float]
) -> tuple[NDArray[np.float64], str]:
    """(R, M) metrics of redrawn test sets, and what decides the draws."""
    groups = tested.groups(settings)
    if groups is not None:
        runs = (images_of_runs(groups, tested.found.labels) > 0).sum(axis=0)
        if runs.min() < FEW_RUNS:
            name = display_name(tested.found.class_names[int(runs.argmin())])
            say(
                f"Warning: the test images of {name} are of {runs.min()} runs. Below {FEW_RUNS}, "
                "intervals of redrawn runs hold the truth less often than in 95 % of cases."
            )
    values = tally.redrawn(
        prevalence,
        groups=groups,
        resamples=settings.bootstrap_resamples,
        seed=DRAW_SEED,
    )
    # Not the data's hash, which results.json holds and a comparison of runs looks at.
    images = pd.util.hash_pandas_object(tested.particles[["id", "label"]], index=False).to_numpy()
    draw = {
        "test": hashlib.sha256(images.astype("<u8").tobytes()).hexdigest(),
        "prevalence": dict(prevalence),
        "resample": RESAMPLED[settings.resample],
        "seed": DRAW_SEED,
    }
    return values, sha256_of_json(draw)


def image_counts(rows: Mixture, tested: Split) -> dict[str, dict[str, int]]:
    """The ``counts`` part."""
    store = rows.stores[0]
    test = np.bincount(tested.found.labels, minlength=len(store.class_names)).tolist()
    return {
        "train": rows.real,
        "synthetic": rows.added if any(rows.added.values()) else {},
        "test": dict(zip(store.class_names, test, strict=True)),
        "validation": store.counts("val"),
    }


def write_tables(
    settings: EvaluationSettings,
    run_dir: Path,
    common: str,
    validated: Split,
    tested: Split,
    redrawn: tuple[NDArray[np.float64], str],
) -> None:
    """Write both splits' predictions, the redrawn metrics, and metrics by prevalence.

    ``common`` is the class whose share ``prevalence.csv`` varies (:func:`~.classes.commonest`).
    """
    for file, split in ((PREDICTIONS, tested), (VALIDATION, validated)):
        write_predictions(run_dir / file, split.found)
    write_resamples(
        run_dir / RESAMPLES, redrawn[0], metric_names(tested.found.class_names), redrawn[1]
    )
    table = prevalence_table(tested.found, common, settings.prevalence_ratios)
    write_csv(run_dir / PREVALENCE, table, lineterminator="\n")


def costs(stages: Mapping[str, Path | Store | Clock | None]) -> dict[str, dict[str, Any]]:
    """The ``costs`` part: what each stage took, from its artifact's record or its clock.

    ``stages``: stage -> its artifact, the clock of work done now, or None for a stage this run does
    without. Artifacts without a record of costs are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for stage, source in stages.items():
        if isinstance(source, Clock):
            found[stage] = dict(source.read())
        elif source is not None:
            folder = source.path if isinstance(source, Store) else source
            cost = cost_of(folder)
            if cost is not None:
                found[stage] = cost | {"artifact": folder.name}
    return found
