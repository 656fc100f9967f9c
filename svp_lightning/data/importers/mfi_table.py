"""The particle table of an MFI run: its columns under many names, its rows, its law of size.

The instrument gives sizes by a straight line, ECD = a d + b, of the diameter d in px of a disc
of the particle's area. The ratio ECD / d drifts with size, so the pixel size is the slope a.
Intensities are 10 bit and are kept as 8 bit (divided by 4). Circularity is 2 sqrt(pi A) / P
here and 4 pi A / P^2 on FlowCam: do not compare the two.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from svp_lightning.data.importers.plain_text import lines_of, read_text
from svp_lightning.data.importers.tables import (
    Skips,
    read_table,
    squashed,
    without_problems,
)
from svp_lightning.errors import DataError

CAMERA_BITS = 10
EDGES = ["x_left", "x_right", "y_top", "y_bottom"]
_WHOLE = ("frame", "particle_id", *EDGES)
_NAMES = {
    "frame": ("Frame #", "frame num", "frame number", "frame no", "frame id", "frame"),
    "particle_id": (
        "Particle #",
        *("particle num", "particle number", "particle no", "particle id", "particle"),
    ),
    "time_s": ("Time Stamp(s)", "timestamp", "time s"),
    "ecd_um": ("ECD(um)", "ecd"),
    "area_px": ("Area(pixels)", "area px", "area pix", "pixel area"),
    "perimeter_vendor": ("Perimeter",),
    "circularity_vendor": ("Circularity",),
    "intensity_mean_vendor_grey": ("Intensity Mean", "mean intensity"),
    "intensity_std_vendor_grey": ("Intensity STD", "std intensity"),
    "intensity_min_vendor_grey": ("Intensity Min", "min intensity"),
    "intensity_max_vendor_grey": ("Intensity Max", "max intensity"),
    "max_feret_vendor_um": ("Max Feret Diameter(um)", "max feret um", "max feret diameter"),
    "aspect_ratio_vendor": ("Aspect Ratio",),
    "x_left": ("X Left", "left", "x min"),
    "x_right": ("X Right", "right", "x max"),
    "y_top": ("Y Top", "top", "y min"),
    "y_bottom": ("Y Bottom", "bottom", "y max"),
    "edge_of_frame": ("Edge Particle", "is edge", "edge"),
    "label": ("label", "class"),
}
"""Column of the store -> what tables call it, the vendor's header first."""
_TEXT = ("label", "edge_of_frame")
_SIZES = ("ecd_um", "area_px", "max_feret_vendor_um")
_FLAGS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}
_HEAD_LINES = 50
_NEARLY = 3
"""Known columns, the frame's among them, by which a table without others is one of particles."""

_LEAST_SIZES = 3
_MOST_SIZES = 500
"""Different areas that the law is fitted to; all pairs of them are compared."""
_MAX_SLOPE_ERROR = 0.02
"""Width of the slope's 95 % interval, as a share of it: pixel sizes are compared to 2 %."""

_SAME_LAW = 0.02
"""Pixel sizes of runs that differ by less (relative) are of one instrument."""


_KNOWN = {squashed(name): column for column, names in _NAMES.items() for name in names}


def _column(header: str) -> str | None:
    return _KNOWN.get(squashed(header))


def particle_header(file: Path) -> str:
    """The line of a file that names the columns of particles; "" where it holds no such table.

    A table that lacks a few of the needed columns counts, so that it can be named.

    Raises:
        DataError: the file may not be read.
    """
    found = ""
    for line in lines_of(read_text(file, head=True))[:_HEAD_LINES]:
        columns = set(map(_column, re.split(r"[,;\t|]", line))) - {None}
        nearly = "frame" in columns and len(columns) >= _NEARLY
        if nearly or len(columns.intersection(_WHOLE)) > _NEARLY:
            found = found or line
        if columns.issuperset(_WHOLE):
            return line
    return found


def read_mfi_table(file: Path, skips: Skips) -> pd.DataFrame:
    """One row per particle under the store's names, intensities in 8 bit, flags as booleans.

    Raises:
        DataError: columns are missing or twice, or a row cannot be used (unless skipped).
    """
    found = read_table(file, _column, skips, header_holds=particle_header(file))
    if missing := [_NAMES[name][0] for name in _WHOLE if name not in found.rows]:
        raise DataError(
            f"{file} is nearly an MFI table: it lacks the column{'s' * (len(missing) > 1)} "
            f"{', '.join(missing)} (it has {', '.join(found.header)}).",
            "Export the run with all columns, or rename those that are called otherwise.",
        )
    table = found.numbers(skips, _TEXT, _WHOLE)
    flags = table.get("edge_of_frame", pd.Series("0", table.index)).str.lower().map(_FLAGS)
    problems = {
        "particle listed twice": table.duplicated(["frame", "particle_id"], keep=False),
        "size below 0": (table[[name for name in _SIZES if name in table]] < 0).any(axis=1),
        "Edge Particle is neither yes nor no": flags.isna(),
    }
    flagged = "edge_of_frame" in table
    table = without_problems(
        table.assign(edge_of_frame=flags),
        file,
        problems,
        lambda row: f"particle {row.particle_id} of frame {row.frame}",
        skips,
    )
    table["edge_of_frame"] = table["edge_of_frame"].astype(bool) if flagged else None
    for column in [c for c in table if str(c).startswith("intensity_")]:
        table[column] = table[column] / (1 << (CAMERA_BITS - 8))
    return table


def size_law(particles: pd.DataFrame) -> tuple[float, float] | None:
    """Slope (µm/px) and offset (µm) of ECD over the diameter in px (Theil-Sen).

    None where the slope is not certain to 2 %, or ``ecd_um`` or ``area_px`` are not known.
    """
    # Imported when the data is known to be good: errors in it do not wait for the import.
    from scipy.stats import theilslopes

    if "ecd_um" not in particles or "area_px" not in particles:
        return None
    sized = particles[(particles["area_px"] > 0) & particles["ecd_um"].notna()]
    ecd = sized.groupby("area_px")["ecd_um"].median()
    ecd = ecd.iloc[np.linspace(0, len(ecd) - 1, min(len(ecd), _MOST_SIZES)).astype(int)]
    if len(ecd) < _LEAST_SIZES:
        return None
    diameter = 2 * np.sqrt(ecd.index.to_numpy(float) / np.pi)
    slope, offset, low, high = map(float, theilslopes(ecd.to_numpy(), diameter))
    certain = slope > 0 and high - low <= _MAX_SLOPE_ERROR * slope
    return (slope, offset) if certain else None


def pixel_sizes(particles: pd.DataFrame, given: float | None) -> dict[str, dict[str, Any]]:
    """Run -> pixel size, where it is from, and the line of the run's sizes.

    A run whose own sizes do not show it has the pixel size of the other runs, if these agree, or
    else that of all particles together, where no run shows one.
    """
    laws = {str(run): size_law(rows) for run, rows in particles.groupby("group")}
    sizes = [law[0] for law in laws.values() if law]
    shared, origin = None, "not known"
    if sizes and max(sizes) <= min(sizes) * (1 + _SAME_LAW):
        shared, origin = float(np.median(sizes)), "that of the other runs"
    elif not sizes and (of_all := size_law(particles)):
        shared, origin = of_all[0], "that of all runs together"
    facts: dict[str, dict[str, Any]] = {}
    for run, law in laws.items():
        slope, offset = law or (None, None)
        facts[run] = {
            "pixel_size_um": given or slope or shared,
            "pixel_size_from": "data.pixel_size_um" if given else "its sizes" if law else origin,
            "ecd_um_per_px": slope,
            "ecd_offset_um": offset,
            "notes": _remarks(slope, given, origin),
        }
    return facts


def _remarks(slope: float | None, given: float | None, origin: str) -> list[str]:
    if given is None and slope is None:
        return [f"its sizes are too few or too alike to show the pixel size, which is {origin}."]
    if given is None or slope is None or abs(given / slope - 1) <= _SAME_LAW:
        return []
    return [f"data.pixel_size_um is {given:g}, and its sizes follow {slope:.4g} µm/px."]
