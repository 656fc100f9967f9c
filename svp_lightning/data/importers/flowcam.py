"""FlowCam runs, as VisualSpreadsheet leaves them, into a store.

A run is a ``.lst`` (or the ``.csv`` exported from it) with its collages beside it. Particles
are cut out of the collages at their boxes; runs are the groups of the split. Labels come from
a CSV or from the classification saved with the run (``.cla``).

Sizes are kept twice and never mixed: as the vendor's software gives them
(``..._vendor_um``) and recomputed from the pixels (``..._recomputed_um``) by the rule that
reproduces the vendor's on 12,937 particles. With the fringe f = fringe_size * cal_const, ABD
is max(D - f, D / 2) of D = cal_const * sqrt(4 * raw_area / pi), and ESD is the same of
D = cal_const * mean Feret diameter.
``ecd_um`` is the vendor's ABD diameter.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.cutting import picture_sizes, plain_name, read_page
from svp_lightning.data.importers.flowcam_files import (
    BOX_FIELDS,
    read_classes,
    read_context,
    read_particles,
)
from svp_lightning.data.importers.flowcam_volumes import read_volumes
from svp_lightning.data.importers.images import read_picture
from svp_lightning.data.importers.labels import class_names
from svp_lightning.data.importers.runs import Runs, gather, plan_runs, require_folder
from svp_lightning.data.importers.tables import Skips, header_of, read_head
from svp_lightning.data.importers.writer import Plan, Progress, write_plan
from svp_lightning.data.settings import FlowCamSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import visible_files

_VENDOR_COLUMNS = {
    "raw_area": "raw_area_vendor_px",
    "abd_diameter": "abd_diameter_vendor_um",
    "esd_diameter": "esd_diameter_vendor_um",
    "length": "length_vendor_um",
    "width": "width_vendor_um",
    "perimeter": "perimeter_vendor_um",
    "abd_area": "abd_area_vendor_um2",
    "aspect_ratio": "aspect_ratio_vendor",
    "circularity": "circularity_vendor",
    "intensity": "intensity_vendor_grey",
    "sigma_intensity": "sigma_intensity_vendor_grey",
    "edge_gradient": "edge_gradient_vendor",
}
_OTHER_COLUMNS = {
    "id": "particle_id",
    "cal_const": "pixel_size_um",
    "fringe_size": "fringe_size_px",
    "src_x": "frame_x_px",
    "src_y": "frame_y_px",
    "src_image": "frame",
    **dict(zip(BOX_FIELDS, "xywh", strict=True)),
}


def ingest_flowcam(
    path: Path, settings: FlowCamSettings, progress: Progress, left_out: Collection[Path] = ()
) -> None:
    """Write the store at ``path`` from the runs below ``settings.root``.

    Args:
        path: where to write.
        settings: see there.
        progress: called with the number of images just written.
        left_out: folders below the root that are none of the user's data.

    Raises:
        DataError: naming the file, particle or class that is wrong; nothing is left at
            ``path``.
    """
    write_plan(path, plan_flowcam(settings, left_out), settings.num_threads, progress)


def plan_flowcam(settings: FlowCamSettings, left_out: Collection[Path] = ()) -> Plan:
    """Read all particle lists and decide what the store will hold; see :func:`ingest_flowcam`."""
    require_folder(settings.root)
    skips = Skips(settings.unreadable)
    files = _run_files(settings.root, left_out)
    particles, runs = gather(files, settings, lambda f, run: _read_run(f, run, skips), skips)
    if settings.labelled and settings.labels is None:
        labels = _saved_labels(particles, runs, skips)
        names = class_names(filter(None, labels), settings.root)
        particles["label"] = [None if spelled is None else names[spelled] for spelled in labels]
    masks = _masks(particles, settings, skips)
    facts = {run: _run_facts(file, skips) for run, file in runs.items()}
    found = Runs(
        particles.drop(columns=["raw_feret_mean", "raw_perimeter"]),
        read=read_page,
        measure=lambda rows, tiles: _sizes(rows, masks.get(rows["picture"].iloc[0])),
        made_by={"runs": facts, "ecd_um": "abd_diameter_vendor_um"},
    )
    return plan_runs(found, settings, skips)


def _run_files(root: Path, left_out: Collection[Path]) -> list[Path]:
    """The particle list of each run: its ``.lst``, or else its ``.csv``."""
    files = list(visible_files(root, left_out))
    lists = [file for file in files if file.suffix.lower() == ".lst"]
    have = {file.with_suffix("") for file in lists}
    tables = [
        file
        for file in files
        if file.suffix.lower() == ".csv"
        and file.is_file()
        and file.with_suffix("") not in have
        and not file.stem.endswith("_summary")
        and "image file" in header_of(read_head(file)).lower()
    ]
    if not lists and not tables:
        raise DataError(
            f"{root} holds no FlowCam run (no .lst, no .csv with a column Image File).",
            "Give the folder VisualSpreadsheet wrote, or one that holds such folders.",
        )
    return sorted(lists + tables)


def _read_run(file: Path, run: str, skips: Skips) -> pd.DataFrame:
    """One row per particle with the store's column names."""
    table = read_particles(file, skips)
    context = read_context(file.with_suffix(".ctx"))
    if "fringe_size" not in table:
        table["fringe_size"] = context.get("fringesize", np.nan)
    for name in ("raw_area", "raw_feret_mean", "raw_perimeter"):
        if name not in table:
            table[name] = np.nan
    table = _with_pictures(table, file, skips).rename(columns={**_VENDOR_COLUMNS, **_OTHER_COLUMNS})
    scale, fringe = table["pixel_size_um"], table["pixel_size_um"] * table["fringe_size_px"]
    return table.assign(
        id=[f"{run}/{number:06d}" for number in table["particle_id"]],
        group=run,
        edge_of_frame=_touches_frame(table, context),
        ecd_um=table.get("abd_diameter_vendor_um"),
        esd_diameter_recomputed_um=without_fringe(scale * table["raw_feret_mean"], fringe),
        perimeter_recomputed_um=scale * table["raw_perimeter"],
    )


def _with_pictures(table: pd.DataFrame, file: Path, skips: Skips) -> pd.DataFrame:
    """``collage_file`` becomes ``picture``; rows whose collage is no plain name go."""
    known: dict[str, str] = {}
    wrong = []
    for row, name in zip(table.index.tolist(), table["collage_file"], strict=True):
        try:
            known[name] = known.get(name) or str(file.parent / plain_name(file, row, name))
        except DataError as error:
            skips.add(f"{file.name}, row {row}", "its picture's name leads elsewhere", error)
            wrong.append(row)
    table = table.drop(index=wrong)
    table["picture"] = table["collage_file"].map(known)
    return table.drop(columns="collage_file")


def _touches_frame(table: pd.DataFrame, context: dict[str, float]) -> Any:
    """Whether a particle's box was cut by the camera frame; null where that is unknown."""
    if "frame_x_px" not in table or "frame_y_px" not in table:
        return None
    width = context.get("imagewidth", np.inf)
    height = context.get("imageheight", np.inf)
    low = (table["frame_x_px"] <= 0) | (table["frame_y_px"] <= 0)
    right, bottom = table["frame_x_px"] + table["w"], table["frame_y_px"] + table["h"]
    return low | (right >= width) | (bottom >= height)


def _run_facts(file: Path, skips: Skips) -> dict[str, float]:
    try:
        volumes = read_volumes(file.with_suffix(""))
    except DataError as error:
        skips.add(file.stem, "run summary cannot be read", error, particle_lost=False)
        volumes = {}
    context = read_context(file.with_suffix(".ctx"))
    return volumes | {f"context_{key}": value for key, value in context.items()}


def _saved_labels(particles: pd.DataFrame, runs: dict[str, Path], skips: Skips) -> list[str | None]:
    """Classes as spelled in the ``.cla`` files."""
    labels: dict[tuple[str, int], str] = {}
    for run, file in runs.items():
        saved = file.with_suffix(".cla")
        if not saved.is_file():
            continue
        try:
            classes = read_classes(saved)
        except DataError as error:
            skips.add(saved.name, "classification cannot be read", error, particle_lost=False)
            continue
        labels |= {(run, number): name for number, name in classes.items()}
    keys = list(zip(particles["group"], particles["particle_id"], strict=True))
    for run, number in sorted(set(labels) - set(keys)):
        stranger = DataError(
            f"{runs[run].with_suffix('.cla')} classifies particle {number}, which "
            f"{runs[run].name} does not list.",
            "Take both files from the same run, or give the labels as a CSV (data.labels).",
        )
        skips.add(f"{run}/{number:06d}", "classified, but not imported", stranger)
    return [labels.get(key) for key in keys]


def _masks(particles: pd.DataFrame, settings: FlowCamSettings, skips: Skips) -> dict[str, Path]:
    """Collage -> its mask, where there is a usable one."""
    collages = [Path(name) for name in particles["picture"].unique()]
    masks = {c: c.with_name(f"{c.stem}_bin{c.suffix}") for c in collages}
    masks = {collage: mask for collage, mask in masks.items() if mask.is_file()}
    decode = skips.policy == "skip"
    files = [file for pair in masks.items() for file in pair]
    sizes = picture_sizes(files, settings.root, settings.num_threads, decode)
    usable = {}
    for collage, mask in masks.items():
        size = sizes[str(mask)]
        if not isinstance(size, DataError) and size != sizes[str(collage)]:
            size = DataError(f"{mask} is not of the size of its collage.", "Copy the run again.")
        if isinstance(size, DataError):
            skips.add(mask.name, "mask cannot be used", size, particle_lost=False)
        else:
            usable[str(collage)] = mask
    return usable


def _sizes(rows: pd.DataFrame, mask_file: Path | None) -> dict[str, Any]:
    """Sizes of one collage's particles, from the mask if there is one."""
    raw_area = rows["raw_area_vendor_px"].to_numpy(float)
    edge = rows["edge_of_frame"].to_numpy()
    if mask_file is not None:
        mask = read_picture(mask_file).grey > 0
        boxes = rows[list("xywh")].itertuples(index=False, name=None)
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
