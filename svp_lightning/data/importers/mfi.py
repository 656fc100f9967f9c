"""MFI (5000 series) runs: a particle table with frames or crops, into a store.

A run is a ``.csv`` or ``.txt`` table whose header holds ``Frame #``, with its pictures in the
same folder or below it. Pictures are either the camera's frames, of which particles are cut
out at their boxes (a frame's number is the last number in its file name), or crops, one for
each particle (see :mod:`svp_lightning.data.importers.mfi_pictures`). Runs are the groups of the
split. Table intensities are 10 bit and are kept as 8 bit (divided by 4). ``ecd_um`` is the
vendor's. Circularity there is 2 sqrt(pi A) / P; on FlowCam it is 4 pi A / P^2: do not compare
the two.
"""

import re
from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.data.importers.cells import typed
from svp_lightning.data.importers.cutting import read_page
from svp_lightning.data.importers.labels import class_names
from svp_lightning.data.importers.mfi_pictures import with_pictures
from svp_lightning.data.importers.runs import Runs, gather, plan_runs, require_folder
from svp_lightning.data.importers.tables import (
    Skips,
    lines_of,
    read_head,
    read_rows,
    refuse_repeated_columns,
    require_columns,
    without_blanks,
)
from svp_lightning.data.importers.writer import Plan, Progress, write_plan
from svp_lightning.data.settings import MfiSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import visible_files

_CAMERA_BITS = 10
_EDGES = ("x_left", "x_right", "y_top", "y_bottom")
_COLUMNS = {
    "frame#": "frame",
    "particle#": "particle_id",
    "timestamp(s)": "time_s",
    "ecd(um)": "ecd_um",
    "area(pixels)": "area_px",
    "perimeter": "perimeter_vendor",
    "circularity": "circularity_vendor",
    "intensitymean": "intensity_mean_vendor_grey",
    "intensitystd": "intensity_std_vendor_grey",
    "intensitymin": "intensity_min_vendor_grey",
    "intensitymax": "intensity_max_vendor_grey",
    "maxferetdiameter(um)": "max_feret_vendor_um",
    "aspectratio": "aspect_ratio_vendor",
    "xleft": "x_left",
    "xright": "x_right",
    "ytop": "y_top",
    "ybottom": "y_bottom",
    "edgeparticle": "edge_of_frame",
    "label": "label",
}
_TEXT = ("label", "edge_of_frame")
_SIZES = ("ecd_um", "area_px", "max_feret_vendor_um")
_FLAGS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}


def ingest_mfi(
    path: Path, settings: MfiSettings, progress: Progress, left_out: Collection[Path] = ()
) -> None:
    """Write the store at ``path`` from the runs below ``settings.root``.

    Args:
        path: where to write.
        settings: see there.
        progress: called with the number of images just written.
        left_out: folders below the root that are none of the user's data.

    Raises:
        DataError: naming the file, row or particle that is wrong; nothing is left at
            ``path``.
    """
    write_plan(path, plan_mfi(settings, left_out), settings.num_threads, progress)


def plan_mfi(settings: MfiSettings, left_out: Collection[Path] = ()) -> Plan:
    """Read all particle tables and decide what the store will hold; see :func:`ingest_mfi`."""
    require_folder(settings.root)
    skips = Skips(settings.unreadable)
    particles, _ = gather(
        _run_files(settings.root, left_out),
        settings,
        lambda file, run: _read_run(file, run, settings, skips, left_out),
        skips,
    )
    if "label" in particles and settings.labelled:
        cells = particles["label"].fillna("")
        names = class_names(filter(None, cells), settings.root)
        particles["label"] = [names.get(cell) for cell in cells]
    found = Runs(
        particles,
        read=partial(read_page, least_bits=_CAMERA_BITS),
        made_by={"ecd_um": "vendor", "margin_px": settings.margin_px},
    )
    return plan_runs(found, settings, skips)


def _run_files(root: Path, left_out: Collection[Path]) -> list[Path]:
    found = visible_files(root, left_out)
    candidates = sorted(p for p in found if p.suffix.lower() in (".csv", ".txt"))
    files = [p for p in candidates if p.is_file() and _is_particle_table(read_head(p))]
    if not files:
        raise DataError(
            f"{root} holds no MFI run (no .csv or .txt with a column Frame #).",
            "Give the folder with the exported table and the frame images or crops.",
        )
    return files


def _is_particle_table(head: str) -> bool:
    return any("frame#" in without_blanks(line) for line in lines_of(head)[:50])


def read_table(file: Path, skips: Skips) -> pd.DataFrame:
    """One row per particle under the store's names, intensities in 8 bit, flags as booleans.

    Raises:
        DataError: the file is no particle table, or a row cannot be used (unless skipped).
    """
    rows = read_rows(file, "frame#", lambda name: _column_name(name) in _COLUMNS.values(), skips)
    rows = rows.rename(columns=_column_name)
    refuse_repeated_columns(file, rows)
    require_columns(file, rows, ("frame", "particle_id", *_EDGES))
    text = rows[[name for name in _TEXT if name in rows]]
    table = typed(
        file, rows.drop(columns=text.columns), ["frame", "particle_id", *_EDGES], skips
    ).join(text)
    table = _usable(file, table, skips)
    for column in [c for c in table if str(c).startswith("intensity_")]:
        table[column] = table[column] / (1 << (_CAMERA_BITS - 8))
    return table


def _usable(file: Path, table: pd.DataFrame, skips: Skips) -> pd.DataFrame:
    sizes = table[[name for name in _SIZES if name in table]]
    flags = table.get("edge_of_frame", pd.Series("0", table.index)).str.lower().map(_FLAGS)
    problems = {
        "particle listed twice": table.duplicated(["frame", "particle_id"], keep=False),
        "size below 0": (sizes < 0).any(axis=1),
        "Edge Particle is neither yes nor no": flags.isna(),
    }
    left_out = pd.Series(False, index=table.index)
    for reason, wrong in problems.items():
        for row, found in table[wrong & ~left_out].iterrows():
            name = f"particle {found['particle_id']} of frame {found['frame']}"
            error = DataError(
                f"{file}, row {row}, {name}: {reason}.",
                "Export the run again; data.unreadable=skip leaves the particle out.",
            )
            skips.add(f"{file.name}, {name}", reason, error)
        left_out |= wrong
    edge = flags[~left_out].astype(bool) if "edge_of_frame" in table else None
    return table[~left_out].assign(edge_of_frame=edge)


def _read_run(
    file: Path, run: str, settings: MfiSettings, skips: Skips, left_out: Collection[Path]
) -> pd.DataFrame:
    """One row per particle with the store's column names, its picture and box."""
    table = read_table(file, skips)
    if table.empty:
        return table
    size = settings.pixel_size_um or _calibration(file, table)
    table = table.assign(id=_ids(run, table), group=run, pixel_size_um=size)
    return with_pictures(file, table, settings.margin_px, skips, left_out)


def _column_name(header: object) -> str:
    name = re.sub(r"\s+", "", str(header).lower()).replace("µ", "u").replace("μ", "u")
    return _COLUMNS.get(name, name)


def _ids(run: str, table: pd.DataFrame) -> list[str]:
    """Particle numbers may start anew in each frame; the frame then is part of the id."""
    if table["particle_id"].duplicated().any():
        return [
            f"{run}/{f:06d}/{p:06d}"
            for f, p in zip(table["frame"], table["particle_id"], strict=True)
        ]
    return [f"{run}/{p:06d}" for p in table["particle_id"]]


def _calibration(file: Path, table: pd.DataFrame) -> float:
    """µm/px, from ECD = 2 sqrt(A / pi) of particles large enough; NaN if not in the table."""
    if "ecd_um" not in table or "area_px" not in table:
        return float("nan")
    sized = table[(table["area_px"] > 0) & table["ecd_um"].notna()]
    size = float((sized["ecd_um"] / (2 * np.sqrt(sized["area_px"] / np.pi))).median())
    if size <= 0:
        raise DataError(
            f"{file}: the calibration that follows from ECD and area is {size:g} µm/px.",
            "Export the run again, or give data.pixel_size_um.",
        )
    return size
