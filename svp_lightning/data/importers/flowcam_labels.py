"""Labels from the classifications that VisualSpreadsheet saves with a FlowCam run (``.cla``)."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from svp_lightning.data.importers.labels import class_name
from svp_lightning.data.importers.tables import Skips, lines_of, read_text
from svp_lightning.errors import DataError


@dataclass(frozen=True)
class Classification:
    """One classification of a ``.cla``.

    Attributes:
        name: as saved.
        classes: class as spelled in the file -> ids of its particles.
    """

    name: str
    classes: dict[str, list[int]]

    def __str__(self) -> str:
        return f"{self.name!r} (labels: {sum(map(len, self.classes.values())):,})"


def read_classifications(path: Path) -> list[Classification]:
    """All classifications saved with a run (``.cla``).

    The file is a list of lines: version, number of classifications; for each of these its name
    and number of classes; for each class its name, ``OR``, the number of filters, the filters,
    the number of particles, their ids.

    Raises:
        DataError: the file does not read like this.
    """
    lines = iter(lines_of(read_text(path)))
    found = []
    try:
        version = next(lines).strip()
        if version != "v3":
            raise ValueError(f"version {version[:20]!r} where v3 is known")
        for _ in range(_count(next(lines))):
            name, classes = next(lines).strip(), dict[str, list[int]]()
            for _ in range(_count(next(lines))):
                spelled, _ = next(lines).strip(), next(lines)
                for _ in range(_count(next(lines))):
                    next(lines)
                ids = [_count(next(lines)) for _ in range(_count(next(lines)))]
                classes[spelled] = classes.get(spelled, []) + ids
            found.append(Classification(name, classes))
        if any(line.strip() for line in lines):
            raise ValueError("there is more in it than it announces")
    except (ValueError, StopIteration) as error:
        why = str(error) or "it ends too early"
        raise DataError(
            f"The classification {path} cannot be read: {why}.",
            "Give the labels as a CSV (data.labels) or remove this file.",
        ) from error
    return found


def _count(line: str) -> int:
    if not re.fullmatch(r"\d{1,9}", line.strip(), re.ASCII):
        raise ValueError(f"{line[:20]!r} where a number is expected")
    return int(line)


def saved_labels(
    saved: Path, choice: int | str | None, listed: Collection[int], last_id: int, skips: Skips
) -> tuple[dict[int, str], list[str]]:
    """Particle -> class as spelled, and what a user should know of the classifications used.

    Args:
        saved: the ``.cla``.
        choice: name of one classification, or its number from 1; None: all of them. Particles
            that these label differently get no label.
        listed: particles of the run.
        last_id: the highest that the list of the run can have.
        skips: where particles with several labels in one classification go.

    Raises:
        DataError: the file cannot be read, has no such classification, or is of another list.
    """
    found = read_classifications(saved)
    used = _chosen(saved, found, choice)
    classified = {k for one in used for ids in one.classes.values() for k in ids}
    _refuse_other_numbers(saved, classified, listed, last_id)
    notes, labels, several = [], dict[int, str](), set[int]()
    if len(found) > 1:
        which = "all are" if choice is None else f"{used[0].name!r} is"
        held = ", ".join(map(str, found))
        notes.append(f"{saved.name} has {len(found)} classifications, {held}; {which} used.")
    for more in (_one_label_each(saved, one, skips) for one in used):
        several |= {k for k, v in more.items() if not _same(labels.get(k, v), v)}
        labels = more | labels
    if several:
        notes.append(
            f"{len(several):,} particles have different labels in the classifications of "
            f"{saved.name} and stay without one; data.classification=<name> chooses."
        )
    if strangers := classified.difference(listed):
        notes.append(f"{saved.name} classifies {len(strangers):,} particles that are not imported.")
    return {particle: name for particle, name in labels.items() if particle not in several}, notes


def _refuse_other_numbers(
    saved: Path, classified: Collection[int], listed: Collection[int], last_id: int
) -> None:
    """Refuse labels by numbers that the list cannot have: each could be a neighbour's."""
    highest = max(classified, default=0)
    if highest > last_id:
        what = f"particle {highest}, and the list of its run has particles up to {last_id}: the "
        what += "list was cut or renumbered"
    elif 0 in classified and 0 not in listed:
        what = "particle 0, and the list of its run begins at 1: they count differently"
    else:
        return
    raise DataError(
        f"{saved} classifies {what}, and labels would be wrong.",
        "Take both files from the same run, or give the labels as a CSV (data.labels).",
    )


def _chosen(
    saved: Path, found: list[Classification], choice: int | str | None
) -> list[Classification]:
    if choice is None:
        return found
    chosen = [one for one in found if one.name == str(choice)]
    if not chosen and str(choice).isdecimal():
        chosen = [one for number, one in enumerate(found, start=1) if number == int(choice)]
    if not chosen:
        raise DataError(
            f"{saved} has no classification {choice!r}; it has {', '.join(map(str, found))}.",
            "Set data.classification to a name or a number from 1, or leave it out.",
        )
    return chosen


def _one_label_each(saved: Path, one: Classification, skips: Skips) -> dict[int, str]:
    labels: dict[int, str] = {}
    several: dict[int, str] = {}
    for spelled, ids in one.classes.items():
        for particle in ids:
            if not _same(labels.setdefault(particle, spelled), spelled):
                several[particle] = spelled
    for particle, other in several.items():
        error = DataError(
            f"The classification {saved}: particle {particle} is in {labels.pop(particle)} "
            f"and {other}.",
            "Correct it, or give the labels as a CSV (data.labels).",
        )
        what = f"{saved.stem}/{particle:06d}"
        skips.add(what, "label left out: it has several", error, particle_lost=False)
    return labels


def _same(one: str, other: str) -> bool:
    return one == other or class_name(one) == class_name(other)
