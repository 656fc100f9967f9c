"""The pictures of FlowCam particles (collages, masks, single images), and sizes made from them.

The vendor's sizes and recomputed ones are both kept and never mixed. With the fringe
f = fringe_size * cal_const, the ABD diameter is max(D - f, D / 2) of
D = cal_const * sqrt(4 * raw_area / pi), and the ESD diameter is the same of
D = cal_const * mean Feret diameter. This rule reproduces the vendor's sizes of 12,937 particles.
"""

import os
import re
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.flowcam_lists import require_columns
from svp_lightning.data.importers.images import SUFFIXES, Header, read_picture
from svp_lightning.data.importers.pictures import BOX, Pictures, whole_pictures
from svp_lightning.data.importers.tables import Skips
from svp_lightning.errors import DataError


class Siblings:
    """Finds files whatever the case of their names: Windows, where runs are made, has none."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, str]] = {}

    def __call__(self, folder: Path, name: str) -> Path:
        """The file ``name`` in ``folder``, in any case; the name as it is where there is none."""
        names = self._in(folder)
        return folder / (names.get(name) or names.get(name.lower()) or name)

    def images(self, folder: Path) -> list[Path]:
        """Pictures directly in ``folder``, sorted."""
        names = sorted(set(self._in(folder).values()))
        return [folder / n for n in names if n[0] != "." and Path(n).suffix.lower() in SUFFIXES]

    def _in(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            there = sorted(os.listdir(folder))
            self._names[folder] = {n.lower(): n for n in there} | {n: n for n in there}
        return self._names[folder]


def with_pictures(
    table: pd.DataFrame, file: Path, siblings: Siblings, pictures: Pictures, skips: Skips
) -> pd.DataFrame:
    """``collage_file`` becomes ``picture``, a path as text, and every particle gets its box.

    Pictures lie in the folder of the list: collages, or, where none of them is there, one image
    for each particle (``run_00001.png``, numbered by particle, or named by its ``image_id``).

    Raises:
        DataError: particles have no pictures, or images are not of the boxes' size (unless
            skipped).
    """
    if table.empty:
        return table.reindex(columns=table.columns.union(["picture", *BOX], sort=False))
    named = _named(table, file, siblings, skips)
    if not any(os.path.isfile(picture) for picture in named.unique()):
        singles = _single_images(table, file, siblings.images(file.parent))
        if singles is not None:
            table = _only(table, file, singles, skips).drop(columns="collage_file", errors="ignore")
            return whole_pictures(table, pictures.shapes(table["picture"]), file, skips)
        if "collage_file" not in table:
            raise DataError(
                f"{file} names no collages (Image File), and no images such as "
                f"{file.stem}_{table['particle_id'].iloc[0]:05d}.png lie in its folder.",
                "Put the images of the run into the folder of its table.",
            )
    table = table.loc[named.index].assign(picture=named)
    table = table.drop(columns="collage_file", errors="ignore")
    if named.is_unique:
        shapes = pictures.shapes(named)
        if not {"w", "h"} <= set(table) or all(
            shapes.get(picture, box) == box
            for picture, *sides in table[["picture", "h", "w"]].itertuples(index=False, name=None)
            for box in [tuple(sides)]
        ):
            return whole_pictures(table, shapes, file, skips)
    require_columns(file, table, BOX)
    return table


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


def _single_images(table: pd.DataFrame, file: Path, images: list[Path]) -> pd.Series | None:
    """Row -> its own image, of those named after the run (or of all, where none is)."""
    run = re.escape(file.stem)
    of_run = {p: re.sub(rf"^{run}[ _-]+", "", p.stem, flags=re.IGNORECASE) for p in images}
    of_run = {p: key for p, key in of_run.items() if key != p.stem}
    keys = of_run or {p: re.sub(r".*?(\d+)$", r"\1", p.stem) for p in images}
    by_key = {key.lstrip("0").lower(): str(p) for p, key in keys.items()}
    names = table["particle_id"].astype(str)
    guids = table.get("image_id", names).str.lstrip("0").str.lower()
    found = names.map(by_key).fillna(guids.map(by_key)).dropna()
    return None if found.empty or len(by_key) < len(keys) else found


def _only(table: pd.DataFrame, file: Path, singles: pd.Series, skips: Skips) -> pd.DataFrame:
    missing = ~table.index.isin(singles.index)
    kept = skips.leave_out(
        table,
        missing,
        "it has no image",
        lambda row: (
            row.id,
            DataError(
                f"{file.parent} holds no image of particle {row.particle_id} ({file.name}, row "
                f"{row.Index}).",
                "Export the images again; data.unreadable=skip leaves the particle out.",
            ),
        ),
    )
    return kept.assign(picture=singles)


def usable_masks(
    particles: pd.DataFrame, siblings: Siblings, pictures: Pictures, skips: Skips
) -> dict[str, Path]:
    """Collage -> its mask, where there is a usable one."""
    collages = [Path(name) for name in particles["picture"].unique()]
    masks = {c: siblings(c.parent, f"{c.stem}_bin{c.suffix}") for c in collages}
    masks = {collage: mask for collage, mask in masks.items() if mask.is_file()}
    looks = pictures.looks([*masks, *masks.values()])
    usable = {}
    for collage, mask in masks.items():
        one, other = looks[str(mask)], looks[str(collage)]
        if isinstance(one, Header) and isinstance(other, Header) and one[:2] == other[:2]:
            usable[str(collage)] = mask
            continue
        error = DataError(f"{mask} is not of its collage's size.", "Copy the run again.")
        error = one if isinstance(one, DataError) else error
        skips.add(mask.name, "mask cannot be used", error, particle_lost=False)
    return usable


def touches_frame(table: pd.DataFrame, context: dict[str, float]) -> Any:
    """Whether a particle's box was cut by the camera frame; null where that is unknown."""
    if "frame_x_px" not in table or "frame_y_px" not in table:
        return None
    width = context.get("imagewidth", np.inf)
    height = context.get("imageheight", np.inf)
    low = (table["frame_x_px"] <= 0) | (table["frame_y_px"] <= 0)
    right, bottom = table["frame_x_px"] + table["w"], table["frame_y_px"] + table["h"]
    return low | (right >= width) | (bottom >= height)


def recomputed(rows: pd.DataFrame, mask_file: Path | None) -> dict[str, Any]:
    """Sizes of one collage's particles, from the mask if there is one."""
    raw_area = rows["raw_area_vendor_px"].to_numpy(float)
    edge = rows["edge_of_frame"].to_numpy()
    if mask_file is not None:
        mask = read_picture(mask_file).grey > 0
        boxes = rows[BOX].itertuples(index=False, name=None)
        tiles = [mask[y : y + h, x : x + w] for x, y, w, h in boxes]
        raw_area = np.array([tile.sum() for tile in tiles], dtype=float)
        # A box leaves a margin around its particle unless the frame ends there.
        edge = edge.astype(bool) | [_touches_own_box(tile) for tile in tiles]
    scale = rows["pixel_size_um"].to_numpy(float)
    fringe = scale * rows["fringe_size_px"].to_numpy(float)
    diameter = without_fringe(scale * np.sqrt(4 * raw_area / np.pi), fringe)
    return {"area_px": raw_area, "abd_diameter_recomputed_um": diameter, "edge_of_frame": edge}


def without_fringe(diameter_um: Any, fringe_um: Any) -> Any:
    """A diameter less the diffraction fringe, but at least half of it (arrays, µm)."""
    return np.maximum(diameter_um - fringe_um, diameter_um / 2)


def _touches_own_box(tile: NDArray[np.bool_]) -> bool:
    return bool(tile[[0, -1]].any() or tile[:, [0, -1]].any())
