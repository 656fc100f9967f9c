"""Classifiers: that of the study, and the feature network that generated images are judged with."""

import shutil
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from svp_lightning.classifier.backbones import fixed_stem_stride, load_pretrained
from svp_lightning.classifier.features import CLASSIFIER, fit_features, save_projection
from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.settings import ClassifierSettings, FeatureSettings
from svp_lightning.classifier.validation import (
    BEST,
    VALIDATION_LOSS,
    VALIDATION_SCORE,
    Collected,
    checkpoint_callbacks,
)
from svp_lightning.data.augmentation import AugmentationSettings
from svp_lightning.data.classes import rare_classes
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import Mixture, mix
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform
from svp_lightning.errors import DataError, SettingsError
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.priors import prevalence_weights
from svp_lightning.evaluation.schema import PRIMARY_METRIC
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import write_json
from svp_lightning.stages.environment import planned_processes
from svp_lightning.stages.joint_training import require_divisible
from svp_lightning.stages.resuming import require_finished
from svp_lightning.stages.settings import TrainerSettings
from svp_lightning.stages.trainers import Trainers, announce_training, fit

RECORD = "training.json"
FEATURE_ARM = AugmentationSettings(
    method="balanced_sampling",
    extra="none",
    microscopes=1,
    candidates=None,
    simulated_classes=(),
    ratio=0,
    plentiful_ratio=0,
    hard_negatives=0,
    hard_share=0.3,
    pool_share=None,
    sampling="balanced",
    loss="plain",
    tau=1,
    mixup=0,
    strength=0,
    symmetry=True,
    illumination=0.1,
    filter=None,
)
"""How the feature network is trained; all runs on one store share it, whatever their own arm."""
IMAGES_PER_CLASS = 2000
"""Training images of each class, at most, that the projection of features is found on."""


def build_classifier(
    settings: ClassifierSettings,
    augmentation: AugmentationSettings,
    seed: int,
    rows: Mixture,
    prevalence: Mapping[str, float],
    cache: ArtifactCache,
    trainers: Trainers,
    name: str = "classifier",
) -> Path:
    """The folder of the trained classifier (``best.ckpt``, ``training.json``).

    ``rows`` are those of the ``augmentation``, which decides on transforms and mixup besides. The
    validation score is that at ``prevalence`` (class name -> share in the field). ``name`` is that
    of the ``settings`` in messages.

    Raises:
        DataError: the validation or test split lacks a class.
    """
    store = rows.stores[0]
    require_heldout(store)
    identity: dict[str, Any] = {
        "classifier": settings.identity(),
        "augmentation": augmentation.identity(),
        "seed": seed,
        "prevalence": dict(prevalence),
        "data": store.sha256,
        "synthetic": rows.stores[1].sha256 if len(rows.stores) > 1 else None,
        **trainers.settings.identity(),
    }
    if augmentation.hard_negatives > 0:
        identity["rows"] = sha256(rows.row.tobytes()).hexdigest()
    if trainers.settings.accumulate > 1:  # statistics of batch normalisation are those of a part
        identity["accumulate"] = trainers.settings.accumulate
    make = partial(_train, name, settings, augmentation, seed, rows, prevalence, trainers)
    return cache.build("classifier", identity, make, every_rank=True)


def require_heldout(store: Store) -> None:
    """Refuse a store whose validation or test split lacks a class.

    Raises:
        DataError: naming split and class.
    """
    for split in ("val", "test"):
        lacking = [name for name, count in store.counts(split).items() if count == 0]
        if lacking:
            raise DataError(
                f"The {split} split of {store.path} has no images of {', '.join(lacking)}.",
                "Add images (of another run or vial) of that class, or raise data.fractions.",
            )


def require_trainable(
    settings: ClassifierSettings,
    features: FeatureSettings,
    augmentation: AugmentationSettings,
    store: Store,
    trainer: TrainerSettings,
) -> None:
    """Refuse what a classifier of an arm cannot be trained with, before its images are drawn.

    ``features`` is looked at where the arm needs them.

    Raises:
        SettingsError: classes or a network do not fit the data, or a batch is too small.
        DistributedError: a batch cannot be divided.
        DataError: a split lacks a class.
        CheckpointError: pretrained weights cannot be read, or are of another network.
    """
    require_heldout(store)
    if augmentation.hard_negatives > 0:
        from svp_lightning.stages.filtering import require_plentiful  # brings scikit-learn

        require_plentiful(store, rare_classes(store.counts("train")))
    mix(store, None, augmentation.model_copy(update={"extra": "none"}), seed=0)
    needed = {"classifier": settings}
    if augmentation.needs_features:
        needed["features.classifier"] = features.classifier
    for name, own in needed.items():
        _require_batches(name, own.batch_size, planned_processes(trainer), trainer.accumulate)
        fixed_stem_stride(own.backbone, store.image_size, own.stem_stride)
        if own.pretrained_weights is not None:
            network = Classifier(own, store.class_names, store.image_size).network
            load_pretrained(network, own.pretrained_weights)


def _require_batches(name: str, batch_size: int, processes: int, parts: int) -> None:
    require_divisible(f"{name}.batch_size", batch_size, processes, parts)
    if batch_size < 2 * parts:
        raise SettingsError(
            f"{name}.batch_size={batch_size} has one image in each of {parts} parts "
            "(trainer.accumulate), and batch normalisation needs two.",
            f"Choose {2 * parts} or more, or fewer parts.",
        )


def _train(
    name: str,
    settings: ClassifierSettings,
    augmentation: AugmentationSettings,
    seed: int,
    rows: Mixture,
    prevalence: Mapping[str, float],
    trainers: Trainers,
    folder: Path,
) -> None:
    shares = dict(zip(rows.class_names, rows.trained_shares.tolist(), strict=True))
    parts = trainers.settings.accumulate
    module = ClassifierModule(
        settings,
        rows.class_names,
        rows.stores[0].image_size,
        seed=seed,
        logit_shift=None if rows.logit_shift is None else rows.logit_shift.tolist(),
        mixup=augmentation.mixup,
        trained_shares=shares,
        score=partial(validation_score, rows.class_names, shares, prevalence),
        parts=parts,
    )
    datamodule = ParticleDataModule(
        rows,
        heldout=rows.stores[0],
        batch_size=settings.batch_size,
        steps_per_epoch=settings.validate_every,
        seed=seed,
        transform=TrainTransform.of(augmentation),
        num_workers=trainers.settings.num_workers,
    )
    callbacks = checkpoint_callbacks(folder, keep=settings.keep)
    trainer = trainers.make("Classifier", folder, callbacks, max_steps=settings.steps)
    _require_batches(name, settings.batch_size, trainer.world_size, parts)
    images = settings.steps * settings.batch_size
    announce = partial(announce_training, trainer, module.network, _loss, rows, images)
    if trainers.settings.compile:
        module.network.compile()
    fit(trainer, module, datamodule, folder, announce)
    require_finished(name, trainer.global_step, settings.steps)
    if is_main_process():
        record = {
            "validation_score": _score(module, trainer),
            "real": rows.real,
            "added": rows.added,
            "trained_shares": shares,
            "rare": list(rows.rare),
            "optimizer_steps": trainer.global_step,
        }
        write_json(folder / RECORD, record)
        for file in folder.glob("*.ckpt"):
            if file.name != BEST:
                file.unlink()


def validation_score(
    class_names: tuple[str, ...],
    trained_shares: Mapping[str, float],
    prevalence: Mapping[str, float],
    found: Collected,
) -> dict[str, float]:
    """The primary metric and the log loss (nats) of a split, corrected to a prevalence."""
    none = np.empty(0, object)
    raw = Predictions(none, found.label, found.probability, class_names, trained_shares)
    corrected = raw.at(prevalence)
    weights = prevalence_weights(found.label, prevalence, class_names)
    of_truth = corrected.probabilities[np.arange(len(found.label)), found.label]
    losses = -np.log(np.maximum(of_truth, np.finfo(np.float64).eps))
    return {
        VALIDATION_SCORE: corrected.tally().metrics(prevalence)[PRIMARY_METRIC],
        VALIDATION_LOSS: float(np.average(losses, weights=weights)),
    }


def _loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(network(images), labels)


def _score(module: ClassifierModule, trainer: pl.Trainer) -> float | None:
    """The validation score of the weights that are kept."""
    if module.settings.keep == "last":
        return module.newest_score
    score: Tensor | None = cast("Any", trainer.checkpoint_callbacks[0]).best_model_score
    return None if score is None else float(score)


def build_feature_classifier(
    settings: FeatureSettings,
    store: Store,
    prevalence: Mapping[str, float],
    cache: ArtifactCache,
    trainers: Trainers,
) -> Path:
    """The classifier behind the feature network: trained on real images, classes balanced.

    It depends on the data, the ``features`` settings, the prevalence that its checkpoint is chosen
    at, the parts of a batch (``trainer.accumulate``) and the arithmetic stated alone. So all runs
    on one store, whatever their generator, classifier and seed, are measured with the same network.
    """
    own, arm, rows = settings.classifier, FEATURE_ARM, mix(store, None, FEATURE_ARM, settings.seed)
    how = cache, trainers, "features.classifier"
    return build_classifier(own, arm, settings.seed, rows, prevalence, *how)


def build_features(
    settings: FeatureSettings,
    store: Store,
    classifier: Path,
    cache: ArtifactCache,
    device: torch.device,
) -> Path:
    """The folder of the feature network: a trained ``classifier`` and a projection."""

    def make(folder: Path) -> None:
        shutil.copyfile(classifier / BEST, folder / CLASSIFIER)
        trained = Classifier.load(folder / CLASSIFIER)
        images = np.asarray(store.images[store.few_of_each("train", IMAGES_PER_CLASS)])
        save_projection(folder, fit_features(trained, images, settings.components, device))

    # The name of the classifier's folder is the hash of its settings and data.
    identity = {"classifier": classifier.name, "components": settings.components}
    return cache.build("features", identity, make)
