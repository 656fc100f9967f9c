"""The text files of a FlowCam run (VisualSpreadsheet): particle lists, classes, settings.

The volumes are in :mod:`svp_lightning.data.importers.flowcam_volumes`.

Fields are found by name: the number and order of fields differ between versions (57 and 65
fields were seen). Names used here are those of the ``.lst``. Whatever bytes a file holds,
reading it gives a result or a :class:`~svp_lightning.errors.DataError`.
"""

import configparser
import re
from pathlib import Path

import pandas as pd

from svp_lightning.data.importers.cells import typed
from svp_lightning.data.importers.labels import class_name
from svp_lightning.data.importers.tables import (
    Skips,
    lines_of,
    read_rows,
    read_text,
    refuse_repeated_columns,
    require_columns,
)
from svp_lightning.errors import DataError

BOX_FIELDS = ("image_x", "image_y", "image_w", "image_h")
MAX_FIELDS = 1000
_NEEDED = ("id", "collage_file", "cal_const", *BOX_FIELDS)
_TEXT = ("collage_file", "timestamp", "image_id")
_FIELDS = frozenset(
    {*_NEEDED, *_TEXT, "src_x", "src_y", "src_image", "fringe_size", "raw_area"}
    | {"raw_feret_mean", "raw_perimeter", "abd_area", "abd_diameter", "esd_diameter"}
    | {"length", "width", "perimeter", "aspect_ratio", "circularity", "intensity"}
    | {"sigma_intensity", "edge_gradient"}
)
_SIZES = ("abd_area", "abd_diameter", "esd_diameter", "length", "width", "raw_area")
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


def read_particles(path: Path, skips: Skips | None = None) -> pd.DataFrame:
    """Particles of a ``.lst``, or of a ``.csv`` export with or without units in its header.

    Args:
        path: the file.
        skips: where rows left out go; None refuses the first that cannot be used.

    Returns:
        One row per particle under the names of the ``.lst``, indexed by its row in the file;
        numbers as floats (NaN where unknown), box and ids as integers. Fields the file lacks
        are missing.

    Raises:
        DataError: the file is no particle list, or lacks a needed field.
    """
    skips = skips or Skips()
    rows = _read_lst(path, skips) if path.suffix.lower() == ".lst" else _read_csv(path, skips)
    refuse_repeated_columns(path, rows)
    require_columns(path, rows, _NEEDED)
    text = rows[[name for name in _TEXT if name in rows]]
    table = typed(path, rows.drop(columns=text.columns), ["id", *BOX_FIELDS], skips)
    return _usable(path, table.join(text), skips)


def _usable(path: Path, table: pd.DataFrame, skips: Skips) -> pd.DataFrame:
    sizes = table[[name for name in _SIZES if name in table]]
    problems = {
        "particle id listed twice": table["id"].duplicated(keep=False),
        "calibration is not above 0": ~(table["cal_const"] > 0),
        "size below 0": (sizes < 0).any(axis=1),
    }
    left_out = pd.Series(False, index=table.index)
    for reason, wrong in problems.items():
        for row, particle in table.loc[wrong & ~left_out, "id"].items():
            error = DataError(
                f"{path}, row {row}: particle {particle}: {reason}.",
                "Export the run again; data.unreadable=skip leaves the particle out.",
            )
            skips.add(f"{path.stem}/{particle:06d}", reason, error)
        left_out |= wrong
    return table[~left_out]


def read_classes(path: Path) -> dict[int, str]:
    """Saved classification (``.cla``): particle id -> class name, spelled as in the file.

    The file is a list of lines: version, number of classifications, name, number of classes;
    then for each class its name, ``OR``, the number of filters, the filters, the number of
    particles, their ids.

    Raises:
        DataError: the file does not read like this, or puts a particle into two classes.
    """
    lines = iter(lines_of(read_text(path)))
    labels: dict[int, str] = {}
    try:
        version, _, _ = next(lines), next(lines), next(lines)
        if version.strip() != "v3":
            raise ValueError(f"version {version.strip()[:20]!r} where v3 is known")
        for _ in range(_count(next(lines))):
            spelled, _ = next(lines).strip(), next(lines)
            name = class_name(spelled)
            for _ in range(_count(next(lines))):
                next(lines)
            for _ in range(_count(next(lines))):
                particle = _count(next(lines))
                other = labels.setdefault(particle, spelled)
                if other != spelled and class_name(other) != name:
                    raise ValueError(f"particle {particle} is in {other} and {spelled}")
    except (ValueError, StopIteration) as error:
        why = str(error) or "it ends too early"
        raise DataError(
            f"The classification {path} cannot be read: {why}.",
            "Give the labels as a CSV (data.labels) or remove this file.",
        ) from error
    return labels


def _count(line: str) -> int:
    if not re.fullmatch(r"\d{1,9}", line.strip(), re.ASCII):
        raise ValueError(f"{line[:20]!r} where a number is expected")
    return int(line)


_CONTEXT = (
    *("imagewidth", "imageheight", "calibrationconstant", "fringesize"),
    *("flowcelldepth", "flowcellwidth"),
)


def read_context(path: Path) -> dict[str, float]:
    """Numbers from the ``.ctx`` under their names in lower case; empty if it is missing.

    Frame size in px, calibration in µm/px, fringe in px, flow cell in µm.
    """
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    remedy = "Remove or mend it."
    try:
        parser.read_string(read_text(path))
    except (configparser.Error, AttributeError) as error:
        # AttributeError: a continued line after a key without a value (CPython issue 51418).
        raise DataError(f"{path} is not a run context: {error}.", remedy) from error
    values = {key: text for section in parser.sections() for key, text in parser[section].items()}
    found = {key: values[key] for key in _CONTEXT if values.get(key)}
    rows = pd.DataFrame({key: [text] for key, text in found.items()}, index=[1], dtype=object)
    numbers = typed(path, rows, [], Skips())
    return {key: float(numbers[key].iloc[0]) for key in found}


def _read_lst(path: Path, skips: Skips) -> pd.DataFrame:
    lines = lines_of(read_text(path))
    match = re.fullmatch(r"num-fields\|(\d+)", lines[1].strip(), re.ASCII) if lines[1:] else None
    if match is None:
        raise DataError(
            f"{path} is not a particle list: its second line is not num-fields|N.",
            "Copy the run folder again.",
        )
    names = _field_names(path, lines, match[1])
    wanted = [k for k, name in enumerate(names) if name in _FIELDS]
    rows, index = [], []
    for number, line in enumerate(lines[2 + len(names) :], start=3 + len(names)):
        if not line.strip():
            continue
        cells = line.split("|")
        if len(cells) != len(names):
            error = DataError(
                f"{path}, line {number}: {len(cells)} values for {len(names)} fields.",
                "The file is cut short or damaged; copy the run folder again.",
            )
            skips.add(f"{path.name}, line {number}", "row of another length", error)
            continue
        rows.append([cells[k].strip() for k in wanted])
        index.append(number)
    columns = [names[k] for k in wanted]
    return pd.DataFrame(rows, columns=columns, index=pd.Index(index, dtype="int64"), dtype=object)


def _field_names(path: Path, lines: list[str], claimed: str) -> list[str]:
    names = [line.split("|")[0].strip() for line in lines[2 : 2 + MAX_FIELDS]]
    if len(claimed) > len(str(MAX_FIELDS)) or not 0 < int(claimed) <= min(MAX_FIELDS, len(names)):
        raise DataError(
            f"{path} claims {claimed[:20]} fields and has {len(lines) - 2} more lines.",
            f"Copy the run folder again (at most {MAX_FIELDS} fields are read).",
        )
    return names[: int(claimed)]


def _read_csv(path: Path, skips: Skips) -> pd.DataFrame:
    rows = read_rows(path, wanted=lambda name: _field_name(name) in _FIELDS, skips=skips)
    return rows.rename(columns=lambda name: _field_name(str(name)))


def _field_name(header: str) -> str:
    """``"Diameter (ABD) (µm)"`` -> ``"abd_diameter"``: units dropped, names of the ``.lst``."""
    name = re.sub(r"\s*\((?:[µμu]m[²³23^]*|px|pixels|ml|%)\)\s*$", "", header.strip().lower())
    return _CSV_NAMES.get(name, name.replace(" ", "_"))
