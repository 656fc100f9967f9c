"""What batches consist of: class shares, the share of added images, weights in the loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from svp_lightning.data.augmentation import AugmentationSettings
from svp_lightning.errors import SettingsError


@dataclass(frozen=True, eq=False)
class Composition:
    """What batches consist of, and how much each image counts.

    Attributes:
        shares: (2, K) share of the draws of the real images of each class, and of those that
            were added to them; they sum to 1.
        weights: (K,) weight of the images of each class in the loss.
    """

    shares: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """(K,) share of each class in what the loss sees, summing to 1."""
        seen = self.shares.sum(axis=0) * self.weights
        return np.asarray(seen / seen.sum())


def real_only(real: NDArray[Any]) -> Composition:
    """Real images alone, their classes drawn in proportion to (K,) ``real``."""
    shares = np.stack([real / real.sum(), np.zeros(len(real))])
    return Composition(shares, np.ones(len(real)))


def compose(
    counts: NDArray[np.int64],
    class_names: tuple[str, ...],
    settings: AugmentationSettings,
    hard: NDArray[np.bool_],
) -> Composition:
    """The batches of an arm.

    Args:
        counts: (2, K) rows that are real images of each class, and rows added to it.
        class_names: K names.
        settings: shares of the classes and of added images in the draws, and the loss.
        hard: (K,) whether the rows added to a class are its hard negatives, which have a share of
            their own.

    Raises:
        SettingsError: ``augmentation.sampling`` names other classes.
    """
    added = counts[1] / counts.sum(axis=0)
    if settings.pool_share is not None:
        added = np.where(counts[1] > 0, settings.pool_share, 0.0)
    added = np.where(hard, settings.hard_share, added)
    within = np.stack([1 - added, added])
    of_classes = _class_shares(counts.sum(axis=0), class_names, settings.sampling)
    weights = np.ones(len(of_classes))
    if settings.loss == "class_weights":  # mean 1 over the draws
        weights /= len(of_classes) * of_classes
    return Composition(of_classes * within, weights)


def _class_shares(
    counts: NDArray[np.int64],
    class_names: tuple[str, ...],
    sampling: Literal["natural", "balanced"] | Mapping[str, float],
) -> NDArray[np.float64]:
    """(K,) share of each class in the draws."""
    if isinstance(sampling, str):
        even = np.full(len(counts), 1 / len(counts))
        return even if sampling == "balanced" else np.asarray(counts / counts.sum())
    if set(sampling) != set(class_names):
        raise SettingsError(
            f"augmentation.sampling names {', '.join(sampling)}; the data has the classes "
            f"{', '.join(class_names)}.",
            "Give one relative frequency for each class, or natural or balanced.",
        )
    stated = np.array([sampling[name] for name in class_names])
    return np.asarray(stated / stated.sum())
