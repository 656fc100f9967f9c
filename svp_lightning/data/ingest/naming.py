"""Class and split names from whatever folders and tables call them."""

import re
from collections.abc import Iterable

from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def class_name(given: str) -> str:
    """``" Silicone Oil"`` -> ``"silicone_oil"``: lower case, words joined by underscores.

    Raises:
        DataError: nothing is left of the name.
    """
    name = re.sub(r"\W+", "_", given.strip().lower()).strip("_")
    if not name:
        raise DataError(f"{given!r} is no class name.", "Name classes with letters or digits.")
    return name


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: the paper's classes in its order, then the others by alphabet."""
    present = set(names)
    known = [name for name in PAPER_CLASSES if name in present]
    return (*known, *sorted(present - set(known)))
