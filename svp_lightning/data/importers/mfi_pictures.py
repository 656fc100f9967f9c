"""Which picture of an MFI run shows which particle: camera frames, or one crop for each.

Frames are recognised by their size: they hold the boxes of the table. Smaller pictures are
crops; the last number in a crop's name is its particle's, or the last two are its frame's and
its particle's where particles are numbered anew in each frame. All crops of a run must be
larger than their box by the same margin (or cut by the frame's edge): a table and crops of
different runs are refused.
"""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.data.importers.cutting import picture_sizes
from svp_lightning.data.importers.images import SUFFIXES
from svp_lightning.data.importers.tables import Skips
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import visible_files

_FRAME = (1024, 1280)
"""Rows and columns of the camera."""
_SAME_RUN = "Table and pictures must be of the same run."


def with_pictures(
    file: Path,
    table: pd.DataFrame,
    margin_px: int,
    skips: Skips,
    left_out: Collection[Path] = (),
) -> pd.DataFrame:
    """Add ``picture``, the box ``x, y, w, h`` to cut from it, and the place in the frame.

    Args:
        file: the particle table; pictures lie beside or below it.
        table: with ``frame``, ``particle_id``, ``x_left``, ``x_right``, ``y_top``,
            ``y_bottom`` (px of the frame, inclusive) and ``edge_of_frame`` (or null).
        margin_px: of the frame, kept around each box.
        skips: where particles without a picture go.
        left_out: folders that hold no pictures of the run.

    Raises:
        DataError: two pictures have the same number, or crops are not of the boxes' size.
    """
    files = visible_files(file.parent, left_out)
    pictures = sorted(p for p in files if p.suffix.lower() in SUFFIXES)
    if not pictures:
        raise DataError(
            f"{file.parent} holds no frames or crops for {file.name}.",
            "Put the pictures of the run beside its table.",
        )
    boxes = {
        "x": table["x_left"],
        "y": table["y_top"],
        "w": table["x_right"] - table["x_left"] + 1,
        "h": table["y_bottom"] - table["y_top"] + 1,
    }
    place = {"frame_x_px": table["x_left"], "frame_y_px": table["y_top"]}
    table = table.drop(columns=["x_left", "x_right", "y_top", "y_bottom"]).assign(**boxes, **place)
    sizes = picture_sizes(pictures, file.parent, 1, decode=False)
    known = {name: size for name, size in sizes.items() if not isinstance(size, DataError)}
    if _are_crops(known, table):
        repeated = table["particle_id"].duplicated().any()
        columns = ["frame", "particle_id"] if repeated else ["particle_id"]
        found = _found(file, table, pictures, columns, "particle", skips)
        return _whole_crops(file, found, known, skips)
    found = _found(file, table, pictures, ["frame"], "frame", skips)
    return _with_margin(found, known, margin_px)


def _are_crops(known: dict[str, tuple[int, int]], table: pd.DataFrame) -> bool:
    """Whether no picture is as large as the part of the frame that half of the boxes reach."""
    down, across = (table["y"] + table["h"]).median(), (table["x"] + table["w"]).median()
    return bool(known) and not any(h >= down and w >= across for h, w in known.values())


def _with_margin(
    table: pd.DataFrame, known: dict[str, tuple[int, int]], margin_px: int
) -> pd.DataFrame:
    """Boxes enlarged as far as the frame goes; those beyond it are left for the check."""
    limits = np.array([known.get(name, (0, 0)) for name in table["picture"]]).reshape(-1, 2)
    corners = {}
    for start, length, limit in (("x", "w", limits[:, 1]), ("y", "h", limits[:, 0])):
        first, last = table[start].to_numpy(), (table[start] + table[length]).to_numpy()
        room = np.minimum(first, limit - last)
        before = np.clip(first, 0, margin_px) * (room >= 0)
        after = np.clip(limit - last, 0, margin_px) * (room >= 0)
        # An empty box (right of left) must stay empty.
        proper = table[length].to_numpy() > 0
        corners[start] = first - before * proper
        corners[length] = last - first + (before + after) * proper
    return table.assign(**corners)


def _whole_crops(
    file: Path, table: pd.DataFrame, known: dict[str, tuple[int, int]], skips: Skips
) -> pd.DataFrame:
    """Boxes that hold all of each crop.

    A crop that cannot be read gets any box here, and is reported when pictures are checked.
    """
    readable = np.array([name in known for name in table["picture"]], dtype=bool)
    shapes = np.array([known.get(name, (1, 1)) for name in table["picture"]]).reshape(-1, 2)
    box = table[["h", "w"]].to_numpy()
    extra = shapes - box
    corner = table[["y", "x"]].to_numpy()
    usual = np.median(extra[readable], axis=0) if readable.any() else np.zeros(2)
    low, high = corner <= usual, corner + box >= np.array(_FRAME) - usual
    inner = readable & ~(low | high).any(axis=1)
    inner &= ~table["edge_of_frame"].astype(object).fillna(False).to_numpy(bool)
    odd = readable & ((extra > usual) | (extra < np.minimum(usual, 0))).any(axis=1)
    odd |= inner & (extra != usual).any(axis=1)
    for k in np.flatnonzero(odd):
        error = DataError(
            f"{table['picture'].iloc[k]} is {shapes[k][1]} x {shapes[k][0]} px, and the box of "
            f"particle {table['id'].iloc[k]} in {file.name} is {box[k][1]} x {box[k][0]} px; "
            f"most crops are larger than their box by {usual[1]:g} x {usual[0]:g} px.",
            _SAME_RUN,
        )
        skips.add(str(table["id"].iloc[k]), "crop of another size than its box", error)
    return table.assign(x=0, y=0, h=shapes[:, 0], w=shapes[:, 1])[~odd]


def _found(
    file: Path,
    table: pd.DataFrame,
    pictures: list[Path],
    columns: list[str],
    kind: str,
    skips: Skips,
) -> pd.DataFrame:
    """The particles of which there is a picture, with the column ``picture``.

    The last numbers in a picture's name are its ``columns``.
    """
    numbers = list(table[columns].itertuples(index=False, name=None))
    length = len(columns)
    of_number: dict[tuple[int, ...], Path] = {}
    for path in pictures:
        key = tuple(map(int, re.findall(r"[0-9]+", path.stem)[-length:]))
        if len(key) < length:
            continue
        if key in of_number:
            raise DataError(
                f"{of_number[key]} and {path} are both {kind} {_name(key)}.",
                "Keep each run, table and pictures, in a folder of its own.",
            )
        of_number[key] = path
    missing = set(numbers) - set(of_number)
    for name, number in zip(table["id"], numbers, strict=True):
        if number in missing:
            error = DataError(
                f"{file} refers to {kind} {_name(number)} ({len(missing)} such), but "
                f"{file.parent} holds {len(of_number)} {kind}s.",
                f"Put all {kind}s of the run beside its table; both must be of the same run.",
            )
            skips.add(str(name), f"its {kind} picture is missing", error)
    table = table.assign(picture=[str(of_number.get(number, "")) for number in numbers])
    return table[table["picture"] != ""]


def _name(key: tuple[int, ...]) -> str:
    return "/".join(map(str, key))
