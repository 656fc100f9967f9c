"""Particle classes: what may name one, the paper's three, which are rare, and which is common."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

PROTEIN = "protein"
SILICONE_OIL = "silicone_oil"
AIR_BUBBLE = "air_bubble"

PAPER_CLASSES = (PROTEIN, SILICONE_OIL, AIR_BUBBLE)
"""The classes of Ozbulak et al. (arXiv 2508.06021), in the order of its tables."""

_NAME = re.compile(r"[^\s./\\\x00-\x1f\ud800-\udfff][^/\\\x00-\x1f\ud800-\udfff]{0,99}")


def checked_class_name(name: str) -> str:
    """The name, if it can be part of a file's and leads nowhere else.

    Raises:
        ValueError: it is empty, too long, hidden, or holds a slash or a control character.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:100]!r} cannot name a class (1 to 100 characters, no slash, no dot or blank "
            "first)"
        )
    return name


ClassName = Annotated[str, AfterValidator(checked_class_name)]
"""A class name in a file, which may come from anyone: folders and pictures are named by it."""

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
