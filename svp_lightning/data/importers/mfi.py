"""MFI (5000 series) runs: a particle table with frames or crops, into a store.

A run is a ``.csv`` or ``.txt`` table (see :mod:`svp_lightning.data.importers.mfi_table`) with
its pictures in the same folder or below it. Pictures are either the camera's frames, of which
particles are cut out at their boxes, or crops, one for each particle. Frames are recognised by
their size: they hold the boxes of the table. The last number in a frame's name is its own, that
in a crop's name its particle's; where particles are numbered from 1 in each frame, the last two
are the crop's frame and particle. Runs are the groups of the split.

Table and pictures must be of the same run: crops must be larger than their box by the same
margin, and the intensities of the table must be those of the pixels.
"""

import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.data.importers.cutting import BOX, page_reader, picture_sizes, read_page
from svp_lightning.data.importers.images import SUFFIXES
from svp_lightning.data.importers.labels import class_names
from svp_lightning.data.importers.mfi_table import (
    CAMERA_BITS,
    particle_header,
    pixel_sizes,
    read_table,
)
from svp_lightning.data.importers.runs import Runs, gather, plan_runs, require_folder
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.window import border
from svp_lightning.data.importers.writer import Plan
from svp_lightning.data.settings import MfiSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import visible_files

_DARKEST, _BRIGHTEST = "intensity_min_vendor_grey", "intensity_max_vendor_grey"
_FRAME = (1024, 1280)
"""Rows and columns of the camera."""
_SAME_RUN = "Table and pictures must be of the same run."

_LEAST_CONTRAST = 16.0
"""Grey levels from the background by which a particle is known from noise."""
_BLANK = 8.0
"""Grey levels from the background that noise alone does not reach."""
_LEAST_FITTING = 0.5
"""Share of a run's particles whose contrast in the pixels is that of the table."""
_LEAST_CORRELATION = 0.5
_LEAST_CORRELATED = 10
"""Particles of which a rank correlation tells anything."""
_LEAST_IN_PICTURE = 4
"""Particles of a picture, all of another contrast, by which it is of another run."""


def plan_mfi(settings: MfiSettings, left_out: Collection[Path] = ()) -> Plan:
    """Read all particle tables and decide what the store will hold.

    Args:
        settings: see there.
        left_out: folders below the root that are none of the user's data.

    Raises:
        DataError: naming the file, row or particle that is wrong.
    """
    require_folder(settings.root)
    skips = Skips(settings.unreadable)
    particles, facts = gather(
        _run_files(settings.root, left_out, skips),
        settings,
        lambda file, run: _read_run(file, run, settings, skips, left_out),
        skips,
    )
    sizes = pixel_sizes(particles, settings.pixel_size_um)
    size = particles["group"].map({run: fact["pixel_size_um"] for run, fact in sizes.items()})
    particles = particles.assign(pixel_size_um=size.astype(float))
    if "label" in particles and settings.labelled:
        cells = particles["label"].fillna("")
        names = class_names(filter(None, cells), settings.root)
        particles["label"] = [names.get(cell) for cell in cells]
    found = Runs(
        particles,
        read=page_reader(particles["picture"].unique(), settings.num_threads, CAMERA_BITS),
        facts={run: of.model_copy(update=sizes.get(run, {})) for run, of in facts.items()},
        made_by={"size_definition": "ECD (vendor)", "margin_px": settings.margin_px},
    )
    return plan_runs(found, settings, skips)


def _run_files(root: Path, left_out: Collection[Path], skips: Skips) -> list[Path]:
    def is_table(file: Path) -> bool:
        try:
            return file.is_file() and bool(particle_header(file))
        except DataError as error:
            skips.add(file.name, "file cannot be read", error, particle_lost=False)
            return False

    found = visible_files(root, left_out)
    candidates = sorted(p for p in found if p.suffix.lower() in (".csv", ".txt"))
    files = [file for file in candidates if is_table(file)]
    if not files:
        raise DataError(
            f"{root} holds no MFI run (no .csv or .txt with the columns Frame #, Particle #, "
            "X Left, X Right, Y Top, Y Bottom).",
            "Give the folder with the exported table and the frame images or crops.",
        )
    return files


def _read_run(
    file: Path, run: str, settings: MfiSettings, skips: Skips, left_out: Collection[Path]
) -> pd.DataFrame:
    """One row per particle with the store's column names, its picture and box."""
    table = read_table(file, skips)
    if table.empty:
        return table
    table = table.assign(id=_ids(run, table), group=run)
    table = _with_pictures(file, table, settings.margin_px, skips, left_out)
    return _of_their_pictures(file, table, settings, skips)


def _numbered_by(table: pd.DataFrame) -> list[str]:
    """Particle numbers may begin at 1 in each frame, which then is part of the name."""
    repeated = table["particle_id"].duplicated().any()
    return ["frame", "particle_id"] if repeated else ["particle_id"]


def _ids(run: str, table: pd.DataFrame) -> list[str]:
    numbers = table[_numbered_by(table)].itertuples(index=False, name=None)
    return [f"{run}/" + "/".join(f"{number:06d}" for number in key) for key in numbers]


def _with_pictures(
    file: Path, table: pd.DataFrame, margin_px: int, skips: Skips, left_out: Collection[Path]
) -> pd.DataFrame:
    """With ``picture``, the box ``x, y, w, h`` to cut from it, and the place in the frame."""
    files = visible_files(file.parent, left_out)
    pictures = sorted(p for p in files if p.suffix.lower() in SUFFIXES)
    if not pictures:
        raise DataError(
            f"{file.parent} holds no frames or crops for {file.name}.",
            "Put the pictures of the run into the folder of its table.",
        )
    x, y = table["x_left"], table["y_top"]
    w, h = table["x_right"] - x + 1, table["y_bottom"] - y + 1
    table = table.drop(columns=["x_left", "x_right", "y_top", "y_bottom"])
    table = table.assign(x=x, y=y, w=w, h=h, frame_x_px=x, frame_y_px=y)
    sizes = picture_sizes(pictures, file.parent, 1, decode=False)
    known = {name: size for name, size in sizes.items() if not isinstance(size, DataError)}
    if _are_crops(known, table):
        found = _found(file, table, pictures, _numbered_by(table), "particle", skips)
        return _whole_crops(file, found, known, skips)
    found = _found(file, table, pictures, ["frame"], "frame", skips)
    return _with_margin(found, known, margin_px)


def _are_crops(known: dict[str, tuple[int, int]], table: pd.DataFrame) -> bool:
    """Whether no picture is as large as the part of the frame that half of the boxes reach."""
    down, across = (table["y"] + table["h"]).median(), (table["x"] + table["w"]).median()
    return bool(known) and not any(h >= down and w >= across for h, w in known.values())


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
    of_number: dict[tuple[int, ...], Path] = {}
    for path in pictures:
        key = tuple(map(int, re.findall(r"[0-9]+", path.stem)[-len(columns) :]))
        if len(key) < len(columns):
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
                f"Put all {kind}s of the run into the folder of its table. {_SAME_RUN}",
            )
            skips.add(str(name), f"its {kind} picture is missing", error)
    table = table.assign(picture=[str(of_number.get(number, "")) for number in numbers])
    return table[table["picture"] != ""]


def _name(key: tuple[int, ...]) -> str:
    return "/".join(map(str, key))


def _with_margin(
    table: pd.DataFrame, known: dict[str, tuple[int, int]], margin_px: int
) -> pd.DataFrame:
    """Boxes enlarged as far as the frame goes; those beyond it are left for the check."""
    limits = np.array([known.get(name, (0, 0)) for name in table["picture"]]).reshape(-1, 2)
    corners = {}
    for start, length, limit in (("x", "w", limits[:, 1]), ("y", "h", limits[:, 0])):
        first, last = table[start].to_numpy(), (table[start] + table[length]).to_numpy()
        # An empty box (right of left) must stay empty.
        room = (np.minimum(first, limit - last) >= 0) & (last > first)
        before = np.clip(first, 0, margin_px) * room
        after = np.clip(limit - last, 0, margin_px) * room
        corners[start] = first - before
        corners[length] = last - first + before + after
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
    kept: pd.DataFrame = table.assign(x=0, y=0, h=shapes[:, 0], w=shapes[:, 1])[~odd]
    return kept


def _of_their_pictures(
    file: Path, table: pd.DataFrame, settings: MfiSettings, skips: Skips
) -> pd.DataFrame:
    """The particles whose intensities in the table are those of the pixels in their boxes.

    The contrast of each particle to its background is compared. The pictures are of another run
    if less than half of the particles fit, and intensities are not correlated either, as they
    are where pictures were made brighter. Otherwise, so is a picture without any that fits. A
    particle of a table without intensities fits if its box is not blank.
    """
    if table.empty:
        return table
    with ThreadPoolExecutor(settings.num_threads) as pool:
        seen = pd.concat(pool.map(_levels, [rows for _, rows in table.groupby("picture")]))
    seen = seen.join(table.reindex(columns=["picture", _DARKEST, _BRIGHTEST]))
    contrast = _contrast(seen["ground"], seen["low"], seen["high"])
    judged = seen.assign(fits=contrast >= _BLANK)
    if seen[_DARKEST].notna().any():
        stated = _contrast(seen["ground"], seen[_DARKEST], seen[_BRIGHTEST])
        judged = seen.assign(fits=(contrast / stated).between(0.5, 2))[stated >= _LEAST_CONTRAST]
    others: Collection[str] = []
    if judged.empty or judged["fits"].mean() >= _LEAST_FITTING:
        each = judged.groupby("picture")["fits"].agg(["size", "any"])
        others = each.index[(each["size"] >= _LEAST_IN_PICTURE) & ~each["any"].astype(bool)]
    elif not _correlated(seen):
        others = table["picture"].unique()
    wrong = table["picture"].isin(others)
    if wrong.any():
        _report_others(file, table[wrong], judged.loc[judged["picture"].isin(others)], skips)
    return table[~wrong]


def _levels(rows: pd.DataFrame) -> pd.DataFrame:
    """Grey levels in the boxes of one picture: darkest, brightest, and of the border.

    Without those of a picture that cannot be read and of boxes outside: these are reported
    when pictures are checked.
    """
    columns = ["low", "high", "ground"]
    try:
        page = read_page(Path(rows["picture"].iloc[0]), CAMERA_BITS).grey
    except DataError:
        return pd.DataFrame(columns=columns, dtype=float)
    boxes = rows[list(BOX)].clip(lower=0).itertuples(name=None)
    tiles = {row: page[y : y + h, x : x + w] for row, x, y, w, h in boxes}
    levels = {
        row: (tile.min(), tile.max(), np.median(border(tile)))
        for row, tile in tiles.items()
        if tile.size
    }
    return pd.DataFrame.from_dict(levels, orient="index", columns=columns, dtype=float)


def _contrast(ground: pd.Series, low: pd.Series, high: pd.Series) -> pd.Series:
    """Largest distance of a particle's grey levels from the background."""
    return pd.concat([ground - low, high - ground], axis=1).max(axis=1)


def _correlated(rows: pd.DataFrame) -> bool:
    if len(rows) < _LEAST_CORRELATED or rows[_DARKEST].isna().all():
        return False
    return bool(rows["low"].corr(rows[_DARKEST], method="spearman") >= _LEAST_CORRELATION)


def _report_others(file: Path, wrong: pd.DataFrame, judged: pd.DataFrame, skips: Skips) -> None:
    """Refuse, or list, particles whose pictures are of another run."""
    pictures = wrong["picture"].unique()
    more = f" and {len(pictures) - 1} more pictures" if len(pictures) > 1 else ""
    error = DataError(
        f"{file} and {pictures[0]}{more} are not of the same run: {(~judged['fits']).sum()} "
        f"of {len(judged)} particles are not in the pictures as the table says.",
        f"{_SAME_RUN} data.unreadable=skip leaves these particles out.",
    )
    for name in wrong["id"]:
        skips.add(str(name), "its picture is of another run", error)
