"""MFI (5000 series) runs: a particle table and the frame images it refers to, into a store.

A run is a ``.csv`` or ``.txt`` table whose header holds ``Frame #``, with the frames in the
same folder or below it; a frame's number is the last number in its file name. Runs are the
groups of the split. Table intensities are 10 bit and are kept as 8 bit (divided by 4).
``ecd_um`` is the vendor's. Circularity there is 2 sqrt(pi A) / P; on FlowCam it is
4 pi A / P^2: do not compare the two.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.ingest.naming import class_name
from svp_lightning.data.ingest.pictures import SUFFIXES, bit_depth_of, read_picture, to_8_bit
from svp_lightning.data.ingest.runs import label_from_table, plan_runs, run_names
from svp_lightning.data.ingest.tables import numbers, read_rows, read_text, require_columns
from svp_lightning.data.ingest.writing import Cut, Plan, Progress, write_plan
from svp_lightning.data.settings import MfiSettings
from svp_lightning.errors import DataError

_CAMERA_BITS = 10
_BOX = ("x_left", "x_right", "y_top", "y_bottom")
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
_FLAGS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}


def ingest_mfi(path: Path, settings: MfiSettings, progress: Progress) -> None:
    """Write the store at ``path`` from the runs below ``settings.root``.

    Args:
        path: where to write.
        settings: see there.
        progress: called with the number of images just written.

    Raises:
        DataError: naming the file, row or particle that is wrong; nothing is left at
            ``path``.
    """
    write_plan(path, plan_mfi(settings), settings.num_threads, progress)


def plan_mfi(settings: MfiSettings) -> Plan:
    """Read all particle tables and decide what the store will hold."""
    if not settings.root.is_dir():
        raise DataError(
            f"data.root={settings.root} is not a folder.", "Give a run folder, or one of runs."
        )
    files = _run_files(settings.root)
    names = run_names(settings.root, files)
    tables = [
        _run_table(file, name, settings.pixel_size_um)
        for file, name in zip(files, names, strict=True)
    ]
    particles = pd.concat(tables, ignore_index=True)
    particles = particles.sort_values(["group", "frame", "particle_id"], ignore_index=True)
    particles["label"] = _labels(particles, settings)
    boxes = particles[list(_BOX)].to_numpy(np.int64)
    frames = [Path(name) for name in particles["frame_file"]]
    sides = np.maximum(boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2])
    sides = sides + 1 + 2 * settings.margin_px
    ids = particles["id"].tolist()
    return plan_runs(
        particles.drop(columns=[*_BOX, "frame_file"]).assign(
            frame_x_px=boxes[:, 0],
            frame_y_px=boxes[:, 2],
            source=[frame.name for frame in frames],
        ),
        lambda unit: _cut(
            frames[unit.start], boxes[unit.start : unit.stop], ids[unit.start : unit.stop], settings
        ),
        ["group", "source"],
        settings,
        pd.Series(sides),
        {"ecd_um": "vendor", "margin_px": settings.margin_px},
    )


def _run_files(root: Path) -> list[Path]:
    candidates = [p for p in sorted(root.rglob("*")) if p.suffix.lower() in (".csv", ".txt")]
    files = [p for p in candidates if p.stat().st_size and _is_particle_table(read_text(p))]
    if not files:
        raise DataError(
            f"{root} holds no MFI run (no .csv or .txt with a column Frame #).",
            "Give the folder with the exported table and the frame images.",
        )
    return files


def _is_particle_table(text: str) -> bool:
    return any("frame #" in line for line in text.lower().splitlines()[:50])


def _run_table(file: Path, run: str, pixel_size_um: float | None) -> pd.DataFrame:
    """One row per particle with the store's column names, the box and ``frame_file``."""
    rows = read_rows(file, header_holds="frame #")
    rows = rows.rename(columns=_column_name)
    require_columns(file, rows, ("frame", "particle_id", *_BOX))
    if rows.empty:
        raise DataError(f"{file} lists no particles.", "Remove this run or export it again.")
    text = {"label", "edge_of_frame"}
    known = [c for c in map(str, rows.columns) if c in _COLUMNS.values()]
    table = pd.DataFrame({c: rows[c] if c in text else numbers(file, rows, c) for c in known})
    whole = ["frame", "particle_id", *_BOX]
    if table[whole].isna().any(axis=None):
        raise DataError(f"{file}: a particle lacks its number, frame or box.", "Export it again.")
    table = table.astype(dict.fromkeys(whole, "int64"))
    for column in [c for c in known if c.startswith("intensity_")]:
        table[column] = table[column] / (1 << (_CAMERA_BITS - 8))
    table["edge_of_frame"] = (
        _flags(file, table["edge_of_frame"]) if "edge_of_frame" in table else None
    )
    return table.assign(
        id=_ids(file, run, table),
        group=run,
        pixel_size_um=pixel_size_um or _calibration(table),
        frame_file=_frame_files(file, table["frame"]),
    )


def _column_name(header: object) -> str:
    name = re.sub(r"\s+", "", str(header).lower()).replace("µ", "u").replace("μ", "u")
    return _COLUMNS.get(name, name)


def _flags(file: Path, cells: pd.Series) -> list[bool]:
    flags = cells.str.lower().map(_FLAGS)
    if flags.isna().any():
        number = int(flags.isna().to_numpy().argmax())
        raise DataError(
            f"{file}, row {number + 2}: Edge Particle is {cells.iloc[number]!r}.",
            "Use 0 and 1, or TRUE and FALSE.",
        )
    return [bool(flag) for flag in flags]


def _ids(file: Path, run: str, table: pd.DataFrame) -> list[str]:
    """Particle numbers may start anew in each frame; the frame then is part of the id."""
    if table.duplicated(["frame", "particle_id"]).any():
        row = table[table.duplicated(["frame", "particle_id"])].iloc[0]
        raise DataError(
            f"{file} lists particle {row['particle_id']} of frame {row['frame']} twice.",
            "Export it again.",
        )
    if table["particle_id"].duplicated().any():
        return [
            f"{run}/{f:06d}/{p:06d}"
            for f, p in zip(table["frame"], table["particle_id"], strict=True)
        ]
    return [f"{run}/{p:06d}" for p in table["particle_id"]]


def _calibration(table: pd.DataFrame) -> float:
    """µm/px, from ECD = 2 sqrt(A / pi) of particles large enough; NaN if not in the table."""
    if "ecd_um" not in table or "area_px" not in table:
        return float("nan")
    sized = table[(table["area_px"] > 0) & (table["ecd_um"] > 0)]
    return float((sized["ecd_um"] / (2 * np.sqrt(sized["area_px"] / np.pi))).median())


def _frame_files(file: Path, frames: pd.Series) -> list[str]:
    """The image of each particle's frame."""
    found: dict[int, Path] = {}
    for path in sorted(p for p in file.parent.rglob("*") if p.suffix.lower() in SUFFIXES):
        numbers_in_name = re.findall(r"\d+", path.stem)
        if not numbers_in_name:
            continue
        number = int(numbers_in_name[-1])
        if number in found:
            raise DataError(
                f"{found[number]} and {path} are both frame {number}.",
                "Keep each run, table and frames, in a folder of its own.",
            )
        found[number] = path
    missing = sorted(set(frames) - set(found))
    if missing:
        raise DataError(
            f"{file} refers to frame {missing[0]} ({len(missing)} such), but {file.parent} holds "
            f"{len(found)} frames.",
            "Put all frames of the run beside its table; both must be of the same run.",
        )
    return [str(found[number]) for number in frames]


def _labels(particles: pd.DataFrame, settings: MfiSettings) -> list[str | None]:
    if not settings.labelled:
        return [None] * len(particles)
    if settings.labels is not None:
        return label_from_table(particles, settings.root / settings.labels)
    if "label" not in particles:
        return [None] * len(particles)
    cells = particles["label"].fillna("")
    return [class_name(cell) if cell else None for cell in cells]


def _cut(frame: Path, boxes: NDArray[np.int64], ids: list[str], settings: MfiSettings) -> Cut:
    grey = read_picture(frame).grey
    picture = to_8_bit(grey, max(_CAMERA_BITS, bit_depth_of(int(grey.max()))))
    height, width = picture.shape
    images = []
    for (left, right, top, bottom), particle in zip(boxes.tolist(), ids, strict=True):
        if not (0 <= left <= right < width and 0 <= top <= bottom < height):
            raise DataError(
                f"Particle {particle} lies at x {left}..{right}, y {top}..{bottom}, outside "
                f"{frame} ({width} x {height} px).",
                "Table and frames must be of the same run.",
            )
        rows = slice(max(0, top - settings.margin_px), bottom + 1 + settings.margin_px)
        columns = slice(max(0, left - settings.margin_px), right + 1 + settings.margin_px)
        images.append(picture[rows, columns])
    return Cut(images)
