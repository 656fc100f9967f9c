"""Particle classes: the names of the paper's three, which count as rare, and which is common."""

from collections.abc import Mapping

PROTEIN = "protein"
SILICONE_OIL = "silicone_oil"
AIR_BUBBLE = "air_bubble"

PAPER_CLASSES = (PROTEIN, SILICONE_OIL, AIR_BUBBLE)
"""The classes of Ozbulak et al. (arXiv 2508.06021), in the order of its tables."""

RARE_BELOW = 0.5
"""A class is rare when it has fewer than this share of the largest class's images."""


def rare_classes(train_counts: Mapping[str, int]) -> tuple[str, ...]:
    """Classes worth augmenting, in the order given, by the number of training images of each.

    A class is rare when it has fewer than :data:`RARE_BELOW` times the images of the
    largest one. In a balanced set none is, and every class counts as rare: each could use
    more images, and a ratio then enlarges the set as a whole.
    """
    limit = RARE_BELOW * max(train_counts.values())
    rare = tuple(name for name, count in train_counts.items() if count < limit)
    return rare or tuple(train_counts)


def commonest(train: Mapping[str, int], stated: Mapping[str, float] | None = None) -> str:
    """The class most common in use: as a prevalence states it, or else by its training images."""
    return max(train, key=lambda name: ((stated or {}).get(name, 0.0), train[name]))


def display_name(class_name: str) -> str:
    """``"silicone_oil"`` -> ``"Silicone oil"``, for figures and reports."""
    return class_name.replace("_", " ").strip().capitalize()
