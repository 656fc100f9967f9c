"""The feature network of a store: trained on its real training images, nothing downloaded."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svp_lightning.classifier.features import (
    CLASSIFIER,
    FeatureNetwork,
    fit_features,
    load_features,
    save_projection,
)
from svp_lightning.classifier.module import load_classifier
from svp_lightning.classifier.validation import BEST
from svp_lightning.config import Config
from svp_lightning.data.mix import mix
from svp_lightning.data.settings import AugmentationSettings
from svp_lightning.data.store import Store
from svp_lightning.tasks.devices import choose_device
from svp_lightning.tasks.fit_classifier import ensure_classifier
from svp_lightning.tasks.session import Session

IMAGES_PER_CLASS = 2000
"""Training images of each class, at most, that the projection is found on."""


def ensure_features(config: Config, session: Session, store: Store) -> Path:
    """The folder of this store's feature network, trained if missing.

    It depends on the data and the ``features`` settings alone, so all runs on one store,
    whatever their generator, classifier and seed, are measured with the same network.
    """
    return feature_stages(config, session, store)["features"]


def feature_stages(config: Config, session: Session, store: Store) -> dict[str, Path]:
    """Stage -> artifact, made if missing: the ``network`` as trained, and the ``features``.

    The latter is fitted to the former in little time; what a feature network takes is both.
    """
    augmentation = AugmentationSettings(method="balanced_sampling", sampling="balanced")
    settings = config.features
    own = config.model_copy(
        update={
            "classifier": settings.classifier,
            "augmentation": augmentation,
            "seed": settings.seed,
        }
    )
    rows = mix(store, None, augmentation, settings.seed)
    trained = ensure_classifier(own, session, store, rows)
    # The name of the classifier's folder is the hash of its settings and data.
    identity = {"classifier": trained.name, "components": settings.components}
    make = partial(_fit, config, store, trained)
    return {"network": trained, "features": session.artifacts.build("features", identity, make)}


def feature_network(config: Config, session: Session, store: Store) -> FeatureNetwork:
    """The feature network itself, on the CPU."""
    return load_features(ensure_features(config, session, store))


def _fit(config: Config, store: Store, trained: Path, folder: Path) -> None:
    shutil.copyfile(trained / BEST, folder / CLASSIFIER)
    classifier = load_classifier(folder / CLASSIFIER)
    device = choose_device(config.trainer)
    rows = np.sort(np.concatenate([_some(store, k) for k in range(len(store.class_names))]))
    network = fit_features(
        classifier, np.asarray(store.images[rows]), config.features.components, device
    )
    save_projection(folder, network)


def _some(store: Store, label: int) -> NDArray[np.int64]:
    """Training rows of a class, spread over all of them."""
    rows = store.indices("train", label)
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), IMAGES_PER_CLASS)).round()
    return rows[chosen.astype(np.int64)]
