"""Particle lists of FlowCam (VisualSpreadsheet) and the pictures of their particles.

A list is a ``.lst`` or library (``.flb``), or the ``.csv`` exported from it. Fields are found
by name: the number and order of fields differ between versions (57 and 65 fields were seen).
Names used here are those of the ``.lst``; messages use the names of the file. Whatever bytes a
file holds, reading it gives a result or a :class:`~svp_lightning.errors.DataError`.
"""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd

from svp_lightning.data.importers.cutting import picture_sizes
from svp_lightning.data.importers.images import SUFFIXES
from svp_lightning.data.importers.tables import Skips, lines_of, read_rows, read_text, typed
from svp_lightning.errors import DataError

BOX_FIELDS = ("image_x", "image_y", "image_w", "image_h")
MAX_FIELDS = 1000
LIBRARY = ".flb"
_WHOLE = ("id", *BOX_FIELDS)
_TEXT = ("collage_file", "timestamp", "image_id")
_FIELDS = frozenset(
    {*_WHOLE, *_TEXT, "cal_const", "src_x", "src_y", "src_image", "fringe_size", "raw_area"}
    | {"raw_feret_mean", "raw_perimeter", "abd_area", "abd_diameter", "esd_diameter"}
    | {"length", "width", "perimeter", "aspect_ratio", "circularity", "intensity"}
    | {"sigma_intensity", "edge_gradient"}
)
_SIZES = ("abd_area", "abd_diameter", "esd_diameter", "length", "width", "raw_area")
_CSV_HEADERS = {
    "id": "Particle ID",
    "collage_file": "Image File",
    "image_x": "Image X",
    "image_y": "Image Y",
    "image_w": "Image Width",
    "image_h": "Image Height",
    "cal_const": "Calibration Factor",
    "src_x": "Capture X",
    "src_y": "Capture Y",
    "src_image": "Source Image",
    "abd_area": "Area (ABD)",
    "abd_diameter": "Diameter (ABD)",
    "esd_diameter": "Diameter (ESD)",
    "image_id": "Original Reference ID",
}
"""Field of the ``.lst`` -> header of a ``.csv``; others are alike (``length``, ``Length``)."""
_FIELD_OF_HEADER = {header.lower(): field for field, header in _CSV_HEADERS.items()}


class Siblings:
    """Finds files whatever the case of their names: Windows, where runs are made, has none."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, str]] = {}

    def __call__(self, folder: Path, name: str) -> Path:
        """The file ``name`` in ``folder``, in any case; the name as it is where there is none."""
        if folder not in self._names:
            there = sorted(os.listdir(folder))
            self._names[folder] = {n.lower(): n for n in there} | {n: n for n in there}
        names = self._names[folder]
        return folder / (names.get(name) or names.get(name.lower()) or name)

    def images(self, folder: Path) -> list[Path]:
        """Pictures directly in ``folder``, sorted."""
        self(folder, "")
        names = sorted(set(self._names[folder].values()))
        return [folder / n for n in names if n[0] != "." and Path(n).suffix.lower() in SUFFIXES]


def is_particle_table(header: str) -> bool:
    """Whether a line is the header of a list exported as ``.csv``."""
    fields = {_field_name(cell.strip('" ')) for cell in re.split(r"[,;\t|]", header)}
    return "collage_file" in fields or ("id" in fields and not fields.isdisjoint(_SIZES))


def read_particles(
    path: Path, skips: Skips | None = None, fields: Collection[str] = _FIELDS
) -> pd.DataFrame:
    """Particles of a list, or of its export with or without units in the header.

    Args:
        path: the file.
        skips: where rows left out go; None refuses the first that cannot be used.
        fields: those to read.

    Returns:
        One row per particle under the names of the ``.lst``, indexed by its row in the file;
        numbers as floats (NaN where unknown), box and ids as integers. Fields the file lacks
        are missing, and so is a calibration that is nowhere filled in.

    Raises:
        DataError: the file is no particle list, or has no ids.
    """
    skips = skips or Skips()
    is_csv = path.suffix.lower() == ".csv"
    rows = _read_csv(path, skips, fields) if is_csv else _read_lst(path, skips, fields)
    names = {header: _field_name(header) for header in rows.columns.tolist()}
    for name in names.values():
        same = [header for header in rows.columns.tolist() if names[header] == name]
        if len(same) > 1:
            both = f"{same[0]!r} twice" if len(set(same)) == 1 else " and ".join(map(repr, same))
            raise DataError(f"{path} has the column {both}.", "Rename or remove one.")
    require_fields(path, list(names.values()), ("id",))
    text = rows[[header for header, name in names.items() if name in _TEXT]]
    whole = [header for header, name in names.items() if name in _WHOLE]
    table = typed(path, rows.drop(columns=text.columns), whole, skips).join(text)
    table = table.rename(columns=names)
    if "cal_const" in table and table["cal_const"].isna().all():
        table = table.drop(columns="cal_const")
    return _usable(path, table, skips)


def require_fields(path: Path, there: Sequence[str], needed: Sequence[str]) -> None:
    """Refuse a list without the fields ``needed``, named as the file would name them."""
    if missing := [field for field in needed if field not in there]:
        names = [_CSV_HEADERS[f] if path.suffix.lower() == ".csv" else f for f in missing]
        raise DataError(
            f"{path} lacks the column{'s' * (len(names) > 1)} {', '.join(names)}.",
            "Export the list again with all its columns.",
        )


def _usable(path: Path, table: pd.DataFrame, skips: Skips) -> pd.DataFrame:
    sizes = table[[name for name in _SIZES if name in table]]
    problems = {
        "particle id listed twice": table["id"].duplicated(keep=False),
        "calibration is not above 0": ~(table.get("cal_const", pd.Series(1.0, table.index)) > 0),
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
    return table[~left_out].copy()


def _read_lst(path: Path, skips: Skips, fields: Collection[str]) -> pd.DataFrame:
    lines = lines_of(read_text(path))
    match = re.fullmatch(r"num-fields\|(\d+)", lines[1].strip(), re.ASCII) if lines[1:] else None
    if match is None:
        raise DataError(
            f"{path} is not a particle list: its second line is not num-fields|N.",
            "Copy the run folder again.",
        )
    names = _field_names(path, lines, match[1])
    wanted = [k for k, name in enumerate(names) if name in fields]
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


def _read_csv(path: Path, skips: Skips, fields: Collection[str]) -> pd.DataFrame:
    return read_rows(path, wanted=lambda name: _field_name(name) in fields, skips=skips)


def _field_name(header: str) -> str:
    """``"Diameter (ABD) (µm)"`` -> ``"abd_diameter"``: units dropped, names of the ``.lst``."""
    name = re.sub(r"\s*\((?:[µμu]m[²³23^]*|px|pixels|ml|%)\)\s*$", "", header.strip().lower())
    return _FIELD_OF_HEADER.get(name, name.replace(" ", "_"))


def more_in_export(lst: Path, table: pd.DataFrame, export: Path) -> int | None:
    """Particles of the ``.csv`` of a list, where it has some that the list lacks.

    Raises:
        DataError: list and export put one particle at two places: one was renumbered.
    """
    place = (*BOX_FIELDS, "image_id")  # names of pictures may have been changed with the files
    try:
        other = read_particles(export, Skips("skip"), ("id", *place))
    except DataError:
        return None
    shared = [name for name in place if name in table and name in other]
    both = table.merge(other, on="id", suffixes=("", "_export"))
    for name in shared:
        differs = (both[name] != both[f"{name}_export"]).to_numpy()
        if differs.any():
            one = both.iloc[int(differs.argmax())]
            raise DataError(
                f"{lst} and {export} disagree on particle {one['id']}: {name} is {one[name]} "
                f"and {one[name + '_export']}. One of them was edited or renumbered.",
                "Remove the one that is out of date, or export the run again.",
            )
    return len(other) if set(other["id"]) - set(table["id"]) else None


def with_pictures(
    table: pd.DataFrame, file: Path, siblings: Siblings, skips: Skips
) -> pd.DataFrame:
    """``collage_file`` becomes ``picture``, a path as text, and every particle gets its box.

    Pictures lie in the folder of the list: collages, or, where none of them is there, one image
    for each particle (``run_00001.png``, numbered by particle, or named by its ``image_id``).

    Raises:
        DataError: particles have no pictures, or images are not of the boxes' size (unless
            skipped).
    """
    if table.empty:
        return table.reindex(columns=table.columns.union(["picture", *BOX_FIELDS], sort=False))
    pictures = _named(table, file, siblings, skips)
    if not any(os.path.isfile(picture) for picture in pictures.unique()):
        if singles := _single_images(table, file, siblings.images(file.parent)):
            return _whole_images(_only(table, file, singles, skips), file, skips)
        if "collage_file" not in table:
            raise DataError(
                f"{file} names no collages (Image File), and no images such as "
                f"{file.stem}_{table['id'].iloc[0]:05d}.png lie in its folder.",
                "Put the images of the run into the folder of its table.",
            )
    table = table.loc[pictures.index].assign(picture=pictures)
    if pictures.is_unique and _all_of_box_size(table, file):
        return _whole_images(table, file, skips)
    require_fields(file, table.columns.tolist(), BOX_FIELDS)
    return table.drop(columns="collage_file", errors="ignore")


def _named(table: pd.DataFrame, file: Path, siblings: Siblings, skips: Skips) -> pd.Series:
    """Row -> the picture its list names; only the file name counts, whatever folder it had."""
    names = table.get("collage_file", pd.Series(dtype=object))
    known: dict[str, str] = {}
    for name in names.unique():
        plain = PureWindowsPath(name).name
        if plain and plain != os.pardir and "\0" not in plain and len(plain) <= 255:
            known[name] = str(siblings(file.parent, plain))
    for row, name in names[~names.isin(known)].items():
        error = DataError(
            f"{file}, row {row}: {name[:80]!r} is no name of a picture.", "Export the run again."
        )
        skips.add(f"{file.name}, row {row}", "its picture has no name", error)
    return names[names.isin(known)].map(known)


def _single_images(table: pd.DataFrame, file: Path, images: list[Path]) -> dict[int, str]:
    """Row -> its own image, of those named after the run (or of all, where none is)."""
    run = re.escape(file.stem)
    of_run = {p: re.sub(rf"^{run}[ _-]+", "", p.stem, flags=re.IGNORECASE) for p in images}
    of_run = {p: key for p, key in of_run.items() if key != p.stem}
    keys = of_run or {p: re.sub(r".*?(\d+)$", r"\1", p.stem) for p in images}
    by_key = {key.lstrip("0").lower(): str(p) for p, key in keys.items()}
    if len(by_key) < len(keys):
        return {}
    names = table["id"].astype(str)
    guids = table.get("image_id", names).str.lstrip("0").str.lower()
    found = names.map(by_key).fillna(guids.map(by_key)).dropna()
    return {int(str(row)): path for row, path in found.items()}


def _only(table: pd.DataFrame, file: Path, singles: dict[int, str], skips: Skips) -> pd.DataFrame:
    for row, particle in table.loc[~table.index.isin(list(singles)), "id"].items():
        error = DataError(
            f"{file.parent} holds no image of particle {particle} ({file.name}, row {row}).",
            "Export the images again; data.unreadable=skip leaves the particle out.",
        )
        skips.add(f"{file.stem}/{particle:06d}", "it has no image", error)
    return table.loc[list(singles)].assign(picture=list(singles.values()))


def _sizes_of(table: pd.DataFrame, file: Path) -> np.ndarray:
    """(n, 2) width and height of each picture; 0 where it cannot be read."""
    names = table["picture"].tolist()
    sizes = picture_sizes([Path(name) for name in names], file.parent, 1, decode=False)
    known = {n: size for n, size in sizes.items() if not isinstance(size, DataError)}
    return np.array([known.get(n, (0, 0))[::-1] for n in names], dtype=np.int64).reshape(-1, 2)


def _all_of_box_size(table: pd.DataFrame, file: Path) -> bool:
    """Whether each picture is one particle's, whatever place in a collage the list has."""
    if "image_w" not in table or "image_h" not in table:
        return True
    sizes = _sizes_of(table, file)
    return bool((sizes == table[["image_w", "image_h"]].to_numpy())[sizes[:, 0] > 0].all())


def _whole_images(table: pd.DataFrame, file: Path, skips: Skips) -> pd.DataFrame:
    """Boxes that hold all of each image; images larger than their box by another margin go."""
    sizes = _sizes_of(table, file)
    wrong = np.zeros(len(table), dtype=bool)
    if "image_w" in table and "image_h" in table and len(table):
        extra = sizes - table[["image_w", "image_h"]].to_numpy()
        usual = np.median(extra[sizes[:, 0] > 0], axis=0)
        wrong = (sizes[:, 0] > 0) & ((extra != usual).any(axis=1) | (usual < 0).any())
    for k in np.flatnonzero(wrong):
        one = table.iloc[k]
        error = DataError(
            f"{one['picture']} is {sizes[k][0]} x {sizes[k][1]} px, and particle {one['id']} of "
            f"{file.name} is {one['image_w']} x {one['image_h']} px.",
            "Table and images must be of the same run; export both again.",
        )
        skips.add(f"{file.stem}/{one['id']:06d}", "image of another size than its box", error)
    # An image that cannot be read gets any box here, and is reported when pictures are checked.
    width, height = np.maximum(sizes, 1).T
    table = table.assign(**dict(zip(BOX_FIELDS, (0, 0, width, height), strict=True)))
    return table[~wrong].drop(columns="collage_file", errors="ignore")
