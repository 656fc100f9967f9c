"""Particle lists of FlowCam (VisualSpreadsheet).

A list is a ``.lst`` or library (``.flb``), or the ``.csv`` exported from it. Fields are found
by name: the number and order of fields differ between versions (57 and 65 fields were seen).
Messages use the names of the file. Whatever bytes a file holds, reading it gives a result or a
:class:`~svp_lightning.errors.DataError`.
"""

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from svp_lightning.data.importers.pictures import BOX
from svp_lightning.data.importers.tables import (
    Skips,
    Table,
    header_of,
    lines_of,
    read_table,
    read_text,
    table_of,
    without_problems,
)
from svp_lightning.errors import DataError

MAX_FIELDS = 1000
LIBRARY = ".flb"


class _Field(NamedTuple):
    """Names of a quantity: in the ``.lst``, in the store, and in the ``.csv``."""

    lst: str
    column: str
    csv: str = ""
    """Where it is not that of the ``.lst`` with blanks (``length``, ``Length``)."""


_FIELDS = (
    _Field("id", "particle_id", "Particle ID"),
    *(_Field(f"image_{axis}", axis, f"Image {axis.upper()}") for axis in "xy"),
    _Field("image_w", "w", "Image Width"),
    _Field("image_h", "h", "Image Height"),
    _Field("collage_file", "collage_file", "Image File"),
    _Field("image_id", "image_id", "Original Reference ID"),
    _Field("timestamp", "timestamp"),
    _Field("cal_const", "pixel_size_um", "Calibration Factor"),
    _Field("fringe_size", "fringe_size_px"),
    _Field("src_x", "frame_x_px", "Capture X"),
    _Field("src_y", "frame_y_px", "Capture Y"),
    _Field("src_image", "frame", "Source Image"),
    _Field("raw_area", "raw_area_vendor_px"),
    *(_Field(name, name) for name in ("raw_feret_mean", "raw_perimeter")),
    _Field("abd_area", "abd_area_vendor_um2", "Area (ABD)"),
    _Field("abd_diameter", "abd_diameter_vendor_um", "Diameter (ABD)"),
    _Field("esd_diameter", "esd_diameter_vendor_um", "Diameter (ESD)"),
    *(_Field(name, f"{name}_vendor_um") for name in ("length", "width", "perimeter")),
    *(_Field(name, f"{name}_vendor") for name in ("aspect_ratio", "circularity", "edge_gradient")),
    *(_Field(name, f"{name}_vendor_grey") for name in ("intensity", "sigma_intensity")),
)
_COLUMN_OF = {f.lst: f.column for f in _FIELDS} | {
    f.csv.lower(): f.column for f in _FIELDS if f.csv
}
_WHOLE = ("particle_id", *BOX)
_TEXT = ("collage_file", "timestamp", "image_id")
_SIZES = (
    *("abd_area_vendor_um2", "abd_diameter_vendor_um", "esd_diameter_vendor_um"),
    *("length_vendor_um", "width_vendor_um", "raw_area_vendor_px"),
)


def _column(header: str) -> str | None:
    """``"Diameter (ABD) (µm)"`` -> ``"abd_diameter_vendor_um"``; None where it is not known."""
    name = re.sub(r"\s*\((?:[µμu]m[²³23^]*|px|pixels|ml|%)\)\s*$", "", header.strip().lower())
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
    path: Path, skips: Skips | None = None, columns: Collection[str] | None = None
) -> pd.DataFrame:
    """Particles of a list, or of its export with or without units in the header.

    Args:
        path: the file.
        skips: where rows left out go; None refuses the first that cannot be used.
        columns: of the store, those to read; None: all.

    Returns:
        One row per particle, indexed by its row in the file; numbers as floats (NaN where
        unknown), box (:data:`BOX`) and ``particle_id`` as integers. Columns the file lacks are
        missing, and so is a calibration that is nowhere filled in.

    Raises:
        DataError: the file is no particle list, or has no ids.
    """
    skips = skips or Skips()

    def wanted(header: str) -> str | None:
        name = _column(header)
        return name if columns is None or name in columns else None

    if path.suffix.lower() == ".csv":
        found = read_table(path, wanted, skips)
    else:
        found = _read_lst(path, wanted, skips)
    require_columns(path, found.rows, ["particle_id"])
    table = found.numbers(_TEXT, _WHOLE, skips)
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
    is_csv = path.suffix.lower() == ".csv"
    lacking = [f for f in _FIELDS if f.column in needed and f.column not in table]
    if names := [f.csv if is_csv else f.lst for f in lacking]:
        raise DataError(
            f"{path} lacks the column{'s' * (len(names) > 1)} {', '.join(names)}.",
            "Export the list again with all its columns.",
        )


def _read_lst(path: Path, column: Callable[[str], str | None], skips: Skips) -> Table:
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
    for name in place:
        if name in table and name in other:
            for _, one in both[both[name] != both[f"{name}_export"]].iterrows():
                raise DataError(
                    f"{lst} and {export} disagree on particle {one['particle_id']}: {name} is "
                    f"{one[name]} and {one[name + '_export']}. One of them was edited or "
                    "renumbered.",
                    "Remove the one that is out of date, or export the run again.",
                )
    return len(other) if set(other["particle_id"]) - set(table["particle_id"]) else None
