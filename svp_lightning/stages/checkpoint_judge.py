"""Judging a generator in training by the validation split: fidelity, and no copies."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from svp_lightning.classifier.features import FeatureNetwork, describe, load_features
from svp_lightning.data.mix import Mixture
from svp_lightning.errors import DataError
from svp_lightning.evaluation.fidelity.copies import (
    SYMMETRIES,
    closeness,
    pixel_closeness,
    symmetric_images,
)
from svp_lightning.evaluation.fidelity.measures import kernel_distance
from svp_lightning.evaluation.fidelity.morphology import shows_something
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import Check
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.settings import SamplerSettings

FIRST_SEED = 2**30
"""Images are drawn from seeds far from those of any pool and of the pictures."""
SPLIT = "val"
MIN_REAL = 2
"""Images of a class in each split that distances need at least."""
VERSION = 2
"""Raised when the same images are judged otherwise than before."""
MAX_REAL = 1000
"""Validation images of a class that are compared with, at most."""


def require_comparable(rows: Mixture) -> None:
    """Refuse data on which no generator can be judged, before anything is trained.

    Args:
        rows: what the generator trains on; decides which classes are rare.

    Raises:
        DataError: a rare class has fewer than two training or validation images.
    """
    store = rows.stores[0]
    for split in ("train", SPLIT):
        counts = store.counts(split)
        lacking = [name for name in rows.rare if counts[name] < MIN_REAL]
        if lacking:
            held = ", ".join(f"{name} ({counts[name]})" for name in lacking)
            raise DataError(
                f"generator.selection.method=fidelity needs {MIN_REAL} {split} images of each rare "
                f"class or more; {store.path} has fewer of {held}.",
                "Add images, raise data.fractions, or set generator.selection.method=last.",
            )


@dataclass(frozen=True)
class _Reference:
    """Real images of a class: trained on, and held out."""

    train: NDArray[np.uint8]
    train_features: NDArray[np.float32]
    heldout: NDArray[np.uint8]
    heldout_features: NDArray[np.float32]
    """(8, n, D), under the symmetries."""


class Judge:
    """From a denoiser to its check on the validation split; reads nothing before the first call.

    Args:
        rows: what the generator trains on; decides its labels and which classes are rare.
        features: folder of the feature network.
        images: drawn of each rare class.
        sampler: how to draw them.
        device: where to draw and compare.
    """

    def __init__(
        self,
        rows: Mixture,
        features: Path,
        images: int,
        sampler: SamplerSettings,
        device: torch.device,
    ) -> None:
        self.store = rows.stores[0]
        self.features = features
        self.images = images
        self.sampler = sampler
        self.device = device
        self.labels = {
            name: label for label, name in enumerate(rows.class_names) if name in rows.rare
        }

    def __call__(self, denoiser: Denoiser) -> Check:
        """Draw and compare, class by class."""
        found = [self._judge(denoiser, name) for name in self.labels]
        return Check(
            distance=float(np.mean([check.distance for check in found])),
            copies=max(check.copies for check in found),
            novel=all(check.novel for check in found),
        )

    def _judge(self, denoiser: Denoiser, name: str) -> Check:
        real = self._references[name]
        seeds = image_seeds(self.sampler.seed, name, FIRST_SEED, FIRST_SEED + self.images)
        labels = np.full(self.images, self.labels[name])
        drawn = sample(denoiser, labels, seeds, self.sampler, self.device)
        features = self._symmetric_features(drawn)
        size = min(len(real.heldout), len(drawn))
        shown = shows_something(drawn), shows_something(real.heldout)
        spaces = (
            pixel_closeness(real.train, real.heldout, drawn, self.device).found,
            closeness(
                real.train_features, real.heldout_features, features, self.device, shown
            ).found,
        )
        return Check(
            distance=kernel_distance(real.heldout_features[0, :size], features[0, :size]),
            copies=max(space.copies.value or 0.0 for space in spaces),
            novel=all(space.verdict != "copies" for space in spaces),
        )

    @cached_property
    def _network(self) -> FeatureNetwork:
        return load_features(self.features)

    @cached_property
    def _references(self) -> dict[str, _Reference]:
        references = {}
        for name in self.labels:
            label = self.store.class_names.index(name)
            train = np.asarray(self.store.images[self.store.indices("train", label)])
            heldout = np.asarray(self.store.images[self.store.indices(SPLIT, label)[:MAX_REAL]])
            references[name] = _Reference(
                train=train,
                train_features=describe(self._network, train, self.device).features,
                heldout=heldout,
                heldout_features=self._symmetric_features(heldout),
            )
        return references

    def _symmetric_features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        turned = symmetric_images(images).reshape(-1, *images.shape[1:])
        features = describe(self._network, turned, self.device).features
        return features.reshape(SYMMETRIES, len(images), -1)
