"""Class and split names from whatever folders and tables call them."""

import re
import unicodedata
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
    name = re.sub(r"\W+", "_", _written(given)).strip("_")
    if not name:
        raise DataError(f"{given!r} is no class name.", "Name classes with letters or digits.")
    return name


def class_names(given: Iterable[str], where: object) -> dict[str, str]:
    """The class name of every spelling in ``given``.

    Spellings that differ in case, blanks, hyphens or underscores are one class.

    Args:
        given: class names as folders or tables spell them; repeats are fine.
        where: the folder or table, for the message.

    Raises:
        DataError: two spellings that differ in more (``protein+``, ``protein-``) would become
            one class, or nothing is left of a name.
    """
    names: dict[str, str] = {}
    first: dict[str, str] = {}
    for spelling in dict.fromkeys(given):
        names[spelling] = name = class_name(spelling)
        other = first.setdefault(name, spelling)
        if _plain(spelling) != _plain(other):
            raise DataError(
                f"{where} names the classes {other!r} and {spelling!r}, which would both "
                f"become {name}.",
                "Rename one so that they differ in letters or digits, or both to the same.",
            )
    return names


def _written(given: str) -> str:
    # Systems store an accented letter as one character or as two.
    return unicodedata.normalize("NFC", given.strip().lower())


def _plain(given: str) -> str:
    return re.sub(r"[\s_\u2010-\u2015-]+", " ", _written(given)).strip()


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: the paper's classes in its order, then the others by alphabet."""
    present = set(names)
    known = [name for name in PAPER_CLASSES if name in present]
    return (*known, *sorted(present - set(known)))
