"""The text files of a FlowCam run (VisualSpreadsheet): particle lists, classes, settings.

Fields are found by name: the number and order of fields differ between versions (57 and 65
fields were seen). Names used here are those of the ``.lst``.
"""

import configparser
import re
from pathlib import Path

import pandas as pd

from svp_lightning.data.ingest.naming import class_name
from svp_lightning.data.ingest.tables import numbers, read_rows, read_text, require_columns
from svp_lightning.errors import DataError

BOX = ("image_x", "image_y", "image_w", "image_h")
_NEEDED = ("id", "collage_file", "cal_const", *BOX)
_TEXT = ("collage_file", "timestamp", "image_id")
_CSV_NAMES = {
    "particle id": "id",
    "image file": "collage_file",
    "image x": "image_x",
    "image y": "image_y",
    "image width": "image_w",
    "image height": "image_h",
    "calibration factor": "cal_const",
    "capture x": "src_x",
    "capture y": "src_y",
    "source image": "src_image",
    "area (abd)": "abd_area",
    "diameter (abd)": "abd_diameter",
    "diameter (esd)": "esd_diameter",
    "original reference id": "image_id",
}
"""CSV header (without units, lower case) -> ``.lst`` field; others are alike (``length``)."""


def read_particles(path: Path) -> pd.DataFrame:
    """Particles of a ``.lst``, or of a ``.csv`` export with or without units in its header.

    Returns:
        One row per particle under the names of the ``.lst``; numbers as floats, box and ids
        as integers. Fields the file lacks are missing.

    Raises:
        DataError: the file is no particle list, is cut short, or lacks a needed field.
    """
    rows = _read_lst(path) if path.suffix.lower() == ".lst" else _read_csv(path)
    require_columns(path, rows, _NEEDED)
    if rows.empty:
        raise DataError(f"{path} lists no particles.", "Remove this run or export it again.")
    known = [name for name in map(str, rows.columns) if name in _KNOWN]
    table = pd.DataFrame({c: rows[c] if c in _TEXT else numbers(path, rows, c) for c in known})
    whole = ["id", *BOX]
    if table[whole].isna().any(axis=None):
        raise DataError(f"{path}: a particle has no id or no box.", "Export the run again.")
    table = table.astype(dict.fromkeys(whole, "int64"))
    if table["id"].duplicated().any():
        twice = table.loc[table["id"].duplicated(), "id"].iloc[0]
        raise DataError(f"{path} lists particle {twice} twice.", "Export the run again.")
    return table


def read_classes(path: Path) -> dict[int, str]:
    """Saved classification (``.cla``): particle id -> class name.

    The file is a list of lines: version, number of classifications, name, number of classes;
    then for each class its name, ``OR``, the number of filters, the filters, the number of
    particles, their ids.

    Raises:
        DataError: the file does not read like this, or puts a particle into two classes.
    """
    lines = iter(read_text(path).splitlines())
    labels: dict[int, str] = {}
    try:
        version, _, _ = next(lines), next(lines), next(lines)
        if version.strip() != "v3":
            raise ValueError(f"version {version.strip()!r} where v3 is known")
        for _ in range(int(next(lines))):
            name, _ = class_name(next(lines)), next(lines)
            for _ in range(int(next(lines))):
                next(lines)
            for _ in range(int(next(lines))):
                particle = int(next(lines))
                if labels.setdefault(particle, name) != name:
                    raise ValueError(f"particle {particle} is in {labels[particle]} and {name}")
    except (ValueError, StopIteration) as error:
        why = str(error) or "it ends too early"
        raise DataError(
            f"The classification {path} cannot be read: {why}.",
            "Give the labels as a CSV (data.labels) or remove this file.",
        ) from error
    return labels


def read_context(path: Path) -> dict[str, float]:
    """Numbers from the ``.ctx`` (frame size, calibration, fringe size); empty if missing."""
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(read_text(path))
    except configparser.Error as error:
        raise DataError(f"{path} is not a run context: {error}.", "Remove or mend it.") from error
    wanted = ("imagewidth", "imageheight", "calibrationconstant", "fringesize")
    values = {key: text for section in parser.sections() for key, text in parser[section].items()}
    return {key: float(values[key]) for key in wanted if key in values}


def read_volumes(path: Path) -> dict[str, float]:
    """Volumes in mL from ``<run>_run_summary.txt``; a concentration is count / imaged volume."""
    if not path.is_file():
        return {}
    names = {
        "Fluid Volume Imaged": "volume_imaged_ml",
        "Sample Volume Aspirated": "volume_aspirated_ml",
        "Sample Volume Processed": "volume_processed_ml",
    }
    text = read_text(path)
    found = {key: re.search(rf"{label}:\s*([\d.]+)\s*ml", text) for label, key in names.items()}
    return {key: float(match[1]) for key, match in found.items() if match}


_KNOWN = frozenset(
    {*_NEEDED, *_TEXT, "src_x", "src_y", "src_image", "fringe_size", "raw_area"}
    | {"raw_feret_mean", "raw_perimeter", "abd_area", "abd_diameter", "esd_diameter"}
    | {"length", "width", "perimeter", "aspect_ratio", "circularity", "intensity"}
    | {"sigma_intensity", "edge_gradient"}
)


def _read_lst(path: Path) -> pd.DataFrame:
    lines = read_text(path).splitlines()
    match = re.fullmatch(r"num-fields\|(\d+)", lines[1].strip()) if len(lines) > 1 else None
    if match is None:
        raise DataError(
            f"{path} is not a particle list: its second line is not num-fields|N.",
            "Copy the run folder again.",
        )
    count = int(match[1])
    names = [line.split("|")[0].strip() for line in lines[2 : 2 + count]]
    cells = [line.split("|") for line in lines[2 + count :] if line.strip()]
    for number, row in enumerate(cells, start=3 + count):
        if len(row) != count:
            raise DataError(
                f"{path}, line {number}: {len(row)} values for {count} fields.",
                "The file is cut short or damaged; copy the run folder again.",
            )
    return pd.DataFrame(cells, columns=names, dtype=object)


def _read_csv(path: Path) -> pd.DataFrame:
    rows = read_rows(path)
    return rows.rename(columns=lambda name: _field_name(str(name)))


def _field_name(header: str) -> str:
    """``"Diameter (ABD) (µm)"`` -> ``"abd_diameter"``: units dropped, names of the ``.lst``."""
    name = re.sub(r"\s*\((?:[µμu]m[²³23^]*|px|pixels|ml|%)\)\s*$", "", header.strip().lower())
    return _CSV_NAMES.get(name, name.replace(" ", "_"))
