"""Particle lists and saved classifications of FlowCam (VisualSpreadsheet).

A list is a ``.lst`` or library (``.flb``), or the ``.csv`` exported from it. Fields are found
by name: the number and order of fields differ between versions (57 and 65 fields were seen).
Messages use the names of the file. Whatever bytes a file holds, reading it gives a result or a
:class:`~svp_lightning.errors.DataError`.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from svp_lightning.data.importers.labels import class_name
from svp_lightning.data.importers.pictures import BOX
from svp_lightning.data.importers.plain_text import lines_of, read_text
from svp_lightning.data.importers.tables import (
    Column,
    Skips,
    Table,
    header_of,
    read_table,
    table_of,
    without_problems,
)
from svp_lightning.errors import DataError

MAX_FIELDS = 1000
_FIELDS = {
    "particle_id": ("id", "Particle ID"),
    "x": ("image_x", "Image X"),
    "y": ("image_y", "Image Y"),
    "w": ("image_w", "Image Width"),
    "h": ("image_h", "Image Height"),
    "collage_file": ("collage_file", "Image File"),
    "image_id": ("image_id", "Original Reference ID"),
    "timestamp": ("timestamp",),
    "pixel_size_um": ("cal_const", "Calibration Factor"),
    "fringe_size_px": ("fringe_size",),
    "frame_x_px": ("src_x", "Capture X"),
    "frame_y_px": ("src_y", "Capture Y"),
    "frame": ("src_image", "Source Image"),
    "raw_area_vendor_px": ("raw_area",),
    "abd_area_vendor_um2": ("abd_area", "Area (ABD)"),
    "abd_diameter_vendor_um": ("abd_diameter", "Diameter (ABD)"),
    "esd_diameter_vendor_um": ("esd_diameter", "Diameter (ESD)"),
    **{name: (name,) for name in ("raw_feret_mean", "raw_perimeter")},
    **{f"{name}_vendor_um": (name,) for name in ("length", "width", "perimeter")},
    **{f"{name}_vendor": (name,) for name in ("aspect_ratio", "circularity", "edge_gradient")},
    **{f"{name}_vendor_grey": (name,) for name in ("intensity", "sigma_intensity")},
}
"""Column of the store -> its name in the ``.lst``, and in the ``.csv`` where that is not the same
with blanks (``length``, ``Length``)."""
_COLUMN_OF = {name.lower(): column for column, names in _FIELDS.items() for name in names}
_WHOLE = ("particle_id", *BOX)
_TEXT = ("collage_file", "timestamp", "image_id")
_SIZES = (
    *("abd_area_vendor_um2", "abd_diameter_vendor_um", "esd_diameter_vendor_um"),
    *("length_vendor_um", "width_vendor_um", "raw_area_vendor_px"),
)


def _column(header: str) -> str | None:
    """``"Diameter (ABD) (µm)"`` -> ``"abd_diameter_vendor_um"``; None where it is not known."""
    name = re.sub(r"\((?:[µμu]m[²³23^]*|px|pixels|ml|%)\)$", "", header.strip().lower()).strip()
    return _COLUMN_OF.get(name) or _COLUMN_OF.get(name.replace(" ", "_"))


def is_particle_table(file: Path) -> bool:
    """Whether a file is a list exported as ``.csv``, by its header.

    Raises:
        DataError: the file may not be read.
    """
    columns = set(map(_column, header_of(file))) if file.is_file() else set[str | None]()
    sized = "particle_id" in columns and not columns.isdisjoint(_SIZES)
    return sized or "collage_file" in columns


def read_particles(
    path: Path, skips: Skips | None = None, columns: Collection[str] = tuple(_FIELDS)
) -> pd.DataFrame:
    """Particles of a list, or of its export with or without units in the header.

    ``columns`` are those of the store to read; rows left out go to ``skips``, or are refused.

    Returns:
        One row per particle, indexed by its row in the file; numbers as floats (NaN where
        unknown), box (:data:`BOX`) and ``particle_id`` as integers. Columns the file lacks are
        missing, and so is a calibration that is nowhere filled in.

    Raises:
        DataError: the file is no particle list, or has no ids.
    """
    skips = skips or Skips()

    def wanted(header: str) -> str | None:
        return name if (name := _column(header)) in columns else None

    read = read_table if path.suffix.lower() == ".csv" else _read_lst
    found = read(path, wanted, skips)
    require_columns(path, found.rows, ["particle_id"])
    table = found.numbers(skips, _TEXT, _WHOLE)
    if "pixel_size_um" in table and table["pixel_size_um"].isna().all():
        table = table.drop(columns="pixel_size_um")
    calibration = table.get("pixel_size_um", pd.Series(1.0, table.index))
    problems = {
        "particle id listed twice": table["particle_id"].duplicated(keep=False),
        "calibration is not above 0": ~(calibration > 0),
        "size below 0": (table[[n for n in _SIZES if n in table]] < 0).any(axis=1),
    }
    return without_problems(table, path, problems, lambda row: f"particle {row.particle_id}", skips)


def require_columns(path: Path, table: pd.DataFrame, needed: Iterable[str]) -> None:
    """Refuse a list without columns, named as the file would name them."""
    spelling = -1 if path.suffix.lower() == ".csv" else 0
    if names := [_FIELDS[column][spelling] for column in needed if column not in table]:
        raise DataError(
            f"{path} lacks the column{'s' * (len(names) > 1)} {', '.join(names)}.",
            "Export the list again with all its columns.",
        )


def _read_lst(path: Path, column: Column, skips: Skips) -> Table:
    """Line 2 is ``num-fields|N``, N lines ``name|type`` follow, and then the rows."""
    lines = lines_of(read_text(path))
    match = re.fullmatch(r"num-fields\|(\d+)", lines[1].strip(), re.ASCII) if lines[1:] else None
    if match is None:
        raise DataError(
            f"{path} is not a particle list: its second line is not num-fields|N.",
            "Copy the run folder again.",
        )
    fields = int(match[1]) if len(match[1]) <= len(str(MAX_FIELDS)) else 0
    if not 0 < fields <= min(MAX_FIELDS, len(lines) - 2):
        raise DataError(
            f"{path} claims {match[1][:20]} fields and has {len(lines) - 2} more lines.",
            f"Copy the run folder again (at most {MAX_FIELDS} fields are read).",
        )
    header = [line.split("|")[0].strip() for line in lines[2 : 2 + fields]]
    rows = enumerate(lines[2 + fields :], start=3 + fields)
    cells = ((number, line.split("|")) for number, line in rows if line.strip())
    return table_of(path, header, cells, column, skips)


def more_in_export(lst: Path, table: pd.DataFrame, export: Path) -> int | None:
    """Particles of the ``.csv`` of a list, where it has some that the list lacks.

    Raises:
        DataError: list and export put one particle at two places: one was renumbered.
    """
    place = [*BOX, "image_id"]  # names of pictures may have been changed with the files
    try:
        other = read_particles(export, Skips("skip"), ("particle_id", *place))
    except DataError:
        return None
    both = table.merge(other, on="particle_id", suffixes=("", "_export"))
    for name in [name for name in place if name in table and name in other]:
        for _, one in both[both[name] != both[f"{name}_export"]].iterrows():
            raise DataError(
                f"{lst} and {export} disagree on particle {one['particle_id']}: {name} is "
                f"{one[name]} and {one[name + '_export']}. One of them was edited or renumbered.",
                "Remove the one that is out of date, or export the run again.",
            )
    return len(other) if set(other["particle_id"]) - set(table["particle_id"]) else None


Classes = dict[str, list[int]]
"""Class as spelled in a ``.cla`` -> ids of its particles."""


def read_classifications(path: Path) -> list[tuple[str, Classes]]:
    """Name and classes of all classifications saved with a run (``.cla``).

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
            name, classes = next(lines).strip(), Classes()
            for _ in range(_count(next(lines))):
                spelled, _ = next(lines).strip(), next(lines)
                for _ in range(_count(next(lines))):
                    next(lines)
                ids = [_count(next(lines)) for _ in range(_count(next(lines)))]
                classes[spelled] = classes.get(spelled, []) + ids
            found.append((name, classes))
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
    held = ", ".join(f"{name!r} (labels: {sum(map(len, c.values())):,})" for name, c in found)
    used = found if choice is None else [one for one in found if one[0] == str(choice)]
    if not used and str(choice).isdecimal():
        used = found[int(str(choice)) - 1 : int(str(choice))]
    if not used and choice is not None:
        raise DataError(
            f"{saved} has no classification {choice!r}; it has {held}.",
            "Set data.classification to a name or a number from 1, or leave it out.",
        )
    classified = {k for _, classes in used for ids in classes.values() for k in ids}
    _refuse_other_numbers(saved, classified, listed, last_id)
    notes, labels, several = [], dict[int, str](), set[int]()
    if len(found) > 1:
        which = "all are" if choice is None else f"{used[0][0]!r} is"
        notes.append(f"{saved.name} has {len(found)} classifications, {held}; {which} used.")
    for _, classes in used:
        more = _one_label_each(saved, classes, skips)
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
    what, highest = "", max(classified, default=0)
    if highest > last_id:
        what = f"particle {highest}, and the list of its run has particles up to {last_id}: the "
        what += "list was cut or renumbered"
    elif 0 in classified and 0 not in listed:
        what = "particle 0, and the list of its run begins at 1: they count differently"
    if what:
        raise DataError(
            f"{saved} classifies {what}, and labels would be wrong.",
            "Take both files from the same run, or give the labels as a CSV (data.labels).",
        )


def _one_label_each(saved: Path, classes: Classes, skips: Skips) -> dict[int, str]:
    labels: dict[int, str] = {}
    several: dict[int, str] = {}
    for spelled, ids in classes.items():
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
