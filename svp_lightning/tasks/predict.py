"""``task=predict``: classify a run of one's own and print the counts of each class."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from svp_lightning.classifier.module import ClassifierModule, load_classifier
from svp_lightning.config import Config, SimulatedData
from svp_lightning.data.loading import loader_of_rows
from svp_lightning.data.settings import VolumeSettings
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import CheckpointError, SettingsError
from svp_lightning.evaluation.particle_counts import samples_of
from svp_lightning.evaluation.predictions import Predictions, write_predictions
from svp_lightning.report.counts import count_table, notes, particle_table, readable, write_counts
from svp_lightning.runtime.files import sha256_of_file, write_json
from svp_lightning.tasks.devices import choose_device
from svp_lightning.tasks.evaluate import CLASSIFIER
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.preparation import (
    Preparation,
    differences,
    prepared_as_trained,
    trained_preparation,
)
from svp_lightning.tasks.progress import counting
from svp_lightning.tasks.session import Session, say


def run(config: Config, session: Session) -> None:
    """Write the predictions, the counts and how the images were prepared; print the counts."""
    module = load_classifier(_checkpoint(config))
    config = _prepared_alike(_unlabelled(config, module))
    store = ensure_store(config, session)
    if store.image_size != module.image_size:
        raise CheckpointError(
            f"The classifier reads images of {module.image_size} px, {store.path} holds "
            f"{store.image_size} px.",
            "Import the images at the classifier's size.",
        )
    given = config.data.volume_ml if isinstance(config.data, VolumeSettings) else None
    samples = samples_of(store, given)
    _compare(config, store, session)
    probabilities = predict(module, store, config)
    ids = store.particles["id"].to_numpy(dtype=object)
    found = Predictions(ids, np.full(len(store), -1), probabilities, module.class_names)
    write_predictions(session.run_dir / "predictions.parquet", found)
    particles = particle_table(found, store, config.predict.uncertain_below)
    counts = count_table(found, store, samples, config.predict.uncertain_below)
    write_counts(session.run_dir, store, particles, counts)
    Console().print(readable(store, counts, samples))
    for line in notes(store, counts, samples, config.predict.uncertain_below):
        say(line)
    say(f"Predictions: {session.run_dir}")


def predict(module: ClassifierModule, store: Store, config: Config) -> NDArray[np.float32]:
    """(N, K) class probabilities of every image of a store, in its order."""
    device = choose_device(config.trainer)
    module = module.to(device).eval()
    parts = [np.empty((0, len(module.class_names)), np.float32)]  # a blank has no image
    with torch.inference_mode(), counting("Classifying", len(store)) as progress:
        for batch in loader_of_rows(store, np.arange(len(store)), config.evaluation.batch_size):
            images = to_model_range(batch["image"].to(device))
            parts.append(module.probabilities(images).cpu().numpy())
            progress(len(images))
    return np.concatenate(parts)


def _checkpoint(config: Config) -> Path:
    run = config.predict.run
    if run is None:
        raise SettingsError(
            "predict.run is not set: no classifier to predict with.",
            "Give the folder of an evaluated run (predict.run=outputs/…).",
        )
    if not (run / CLASSIFIER).is_file():
        raise CheckpointError(
            f"{run} holds no {CLASSIFIER}.", "Give the folder of an evaluated run."
        )
    return run / CLASSIFIER


def _unlabelled(config: Config, module: ClassifierModule) -> Config:
    """The same data, imported without labels at the size the classifier reads."""
    if isinstance(config.data, SimulatedData):
        return config
    changes = {"labelled": False, "image_size": module.image_size}
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def _prepared_alike(config: Config) -> Config:
    """The same data, prepared as for training; says so where that is a change."""
    trained = _trained(config)
    if trained is None:
        return config
    data = prepared_as_trained(config.data, trained)
    if getattr(data, "fit", None) != getattr(config.data, "fit", None):
        say("Particles larger than the images are scaled down, as for the classifier's training.")
    if getattr(data, "background", None) != getattr(config.data, "background", None):
        done = "kept as recorded"
        if trained.background is not None:
            done = f"scaled to grey level {trained.background}"
        say(f"Backgrounds are {done}, as those of the classifier's training images.")
    return config.model_copy(update={"data": data})


def _compare(config: Config, store: Store, session: Session) -> None:
    """Say how the images differ from those trained on, and keep both as ``preparation.json``.

    With the hashes of the classifier and the images, for the record.
    """
    trained, found = _trained(config), Preparation.of(config.data, store)
    record = {
        "trained_on": trained and trained.model_dump(),
        "predicted": found.model_dump(),
        "classifier": sha256_of_file(_checkpoint(config)),
        "data": store.sha256,
    }
    write_json(session.run_dir / "preparation.json", record)
    if trained is None:
        say(
            f"Warning: {config.predict.run} does not record how its images were prepared: "
            "background and pixel size are not compared. Evaluate it again to have that checked."
        )
        return
    for line in differences(trained, found):
        say(line)


def _trained(config: Config) -> Preparation | None:
    assert config.predict.run is not None
    return trained_preparation(config.predict.run)
