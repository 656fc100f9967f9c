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

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.ingest.flowcam_files import (
    read_classes,
    read_context,
    read_particles,
    read_volumes,
)
from svp_lightning.data.ingest.pictures import bit_depth_of, read_picture, to_8_bit
from svp_lightning.data.ingest.runs import label_from_table, plan_runs, run_names
from svp_lightning.data.ingest.tables import read_text
from svp_lightning.data.ingest.writing import Cut, Plan, Progress, write_plan
from svp_lightning.data.settings import FlowCamSettings
from svp_lightning.errors import DataError

_VENDOR_COLUMNS = {
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
    "cal_const": "pixel_size_um",
    "fringe_size": "fringe_size_px",
    "src_x": "frame_x_px",
    "src_y": "frame_y_px",
    "src_image": "frame",
    "timestamp": "timestamp",
    "image_id": "image_id",
}


def ingest_flowcam(path: Path, settings: FlowCamSettings, progress: Progress) -> None:
    """Write the store at ``path`` from the runs below ``settings.root``.

    Args:
        path: where to write.
        settings: see there.
        progress: called with the number of images just written.

    Raises:
        DataError: naming the file, particle or class that is wrong; nothing is left at
            ``path``.
    """
    write_plan(path, plan_flowcam(settings), settings.num_threads, progress)


def plan_flowcam(settings: FlowCamSettings) -> Plan:
    """Read all particle lists and decide what the store will hold."""
    if not settings.root.is_dir():
        raise DataError(
            f"data.root={settings.root} is not a folder.", "Give a run folder, or one of runs."
        )
    files = _run_files(settings.root)
    names = run_names(settings.root, files)
    tables = [_run_table(file, name) for file, name in zip(files, names, strict=True)]
    runs = {name: _run_facts(file) for file, name in zip(files, names, strict=True)}
    particles = pd.concat(tables, ignore_index=True)
    particles = particles.sort_values(["group", "collage", "particle_id"], ignore_index=True)
    particles["label"] = _labels(particles, settings, dict(zip(names, files, strict=True)))
    boxes = particles[["image_x", "image_y", "image_w", "image_h"]].to_numpy(np.int64)
    sides = particles[["image_w", "image_h"]].max(axis=1)
    particles = particles.drop(columns=["image_x", "image_y", "image_w", "image_h"])
    return plan_runs(
        particles.drop(columns=["collage", "raw_area"]).assign(
            source=[Path(c).name for c in particles["collage"]]
        ),
        lambda unit: _cut(particles.iloc[unit.start : unit.stop], boxes[unit.start : unit.stop]),
        ["group", "source"],
        settings,
        sides,
        {"runs": runs, "ecd_um": "abd_diameter_vendor_um"},
    )


def _run_files(root: Path) -> list[Path]:
    """The particle list of each run: its ``.lst``, or else its ``.csv``."""
    lists = sorted(root.rglob("*.lst"))
    have = {file.with_suffix("") for file in lists}
    tables = [
        file
        for file in sorted(root.rglob("*.csv"))
        if file.with_suffix("") not in have
        and not file.stem.endswith("_summary")
        and "image file" in read_text(file).split("\n", 1)[0].lower()
    ]
    if not lists and not tables:
        raise DataError(
            f"{root} holds no FlowCam run (no .lst, no .csv with a column Image File).",
            "Give the folder VisualSpreadsheet wrote, or one that holds such folders.",
        )
    return sorted(lists + tables)


def _run_table(file: Path, run: str) -> pd.DataFrame:
    """One row per particle with the store's column names, plus ``collage`` and the box."""
    table = read_particles(file)
    context = read_context(file.with_suffix(".ctx"))
    if "fringe_size" not in table:
        table["fringe_size"] = context.get("fringesize", np.nan)
    for name in ("raw_area", "raw_feret_mean", "raw_perimeter"):
        if name not in table:
            table[name] = np.nan
    table = table.assign(
        id=[f"{run}/{number:06d}" for number in table["id"]],
        particle_id=table["id"],
        group=run,
        collage=[str(file.parent / _plain_name(file, name)) for name in table["collage_file"]],
        edge_of_frame=_touches_frame(table, context),
    ).drop(columns="collage_file")
    table = table.rename(columns={**_VENDOR_COLUMNS, **_OTHER_COLUMNS})
    scale, fringe = table["pixel_size_um"], table["pixel_size_um"] * table["fringe_size_px"]
    return table.assign(
        ecd_um=table.get("abd_diameter_vendor_um"),
        esd_diameter_recomputed_um=without_fringe(scale * table["raw_feret_mean"], fringe),
        perimeter_recomputed_um=scale * table["raw_perimeter"],
    ).drop(columns=["raw_feret_mean", "raw_perimeter"])


def _plain_name(file: Path, collage: str) -> str:
    name = collage.replace("\\", "/").rsplit("/", 1)[-1]
    if not name or name in (".", ".."):
        raise DataError(f"{file} names the collage {collage!r}.", "Export the run again.")
    return name


def _touches_frame(table: pd.DataFrame, context: dict[str, float]) -> Any:
    """Whether a particle's box was cut by the camera frame; null where that is unknown."""
    if "src_x" not in table or "src_y" not in table:
        return None
    width = context.get("imagewidth", np.inf)
    height = context.get("imageheight", np.inf)
    low = (table["src_x"] <= 0) | (table["src_y"] <= 0)
    right, bottom = table["src_x"] + table["image_w"], table["src_y"] + table["image_h"]
    return low | (right >= width) | (bottom >= height)


def _run_facts(file: Path) -> dict[str, float]:
    return read_volumes(file.with_name(f"{file.stem}_run_summary.txt")) | {
        f"context_{key}": value for key, value in read_context(file.with_suffix(".ctx")).items()
    }


def _labels(
    particles: pd.DataFrame, settings: FlowCamSettings, files: dict[str, Path]
) -> list[str | None]:
    if not settings.labelled:
        return [None] * len(particles)
    if settings.labels is not None:
        return label_from_table(particles, settings.root / settings.labels)
    labels: dict[tuple[str, int], str] = {}
    for run, file in files.items():
        saved = file.with_suffix(".cla")
        if saved.is_file():
            labels |= {(run, number): name for number, name in read_classes(saved).items()}
    keys = list(zip(particles["group"], particles["particle_id"], strict=True))
    if strangers := set(labels) - set(keys):
        run, number = min(strangers)
        raise DataError(
            f"{files[run].with_suffix('.cla')} classifies particle {number}, which "
            f"{files[run].name} does not list.",
            "Take both files from the same run, or give the labels as a CSV (data.labels).",
        )
    return [labels.get(key) for key in keys]


def _cut(particles: pd.DataFrame, boxes: NDArray[np.int64]) -> Cut:
    """The particles of one collage, and their sizes from the mask if there is one."""
    collage = Path(particles["collage"].iloc[0])
    grey = _read_grey(collage)
    images = [
        _tile(grey, box, collage, particle)
        for box, particle in zip(boxes, particles["particle_id"], strict=True)
    ]
    mask_file = collage.with_name(f"{collage.stem}_bin{collage.suffix}")
    raw_area = particles["raw_area"].to_numpy(float)
    edge = particles["edge_of_frame"].to_numpy()
    if mask_file.is_file():
        mask = read_picture(mask_file).grey > 0
        tiles = [
            _tile(mask, box, mask_file, particle)
            for box, particle in zip(boxes, particles["particle_id"], strict=True)
        ]
        raw_area = np.array([tile.sum() for tile in tiles], dtype=float)
        # A box leaves a margin around its particle unless the frame ends there.
        edge = edge.astype(bool) | [_touches_own_box(tile) for tile in tiles]
    scale = particles["pixel_size_um"].to_numpy(float)
    fringe = scale * particles["fringe_size_px"].to_numpy(float)
    diameter = without_fringe(scale * np.sqrt(4 * raw_area / np.pi), fringe)
    columns = {"area_px": raw_area, "abd_diameter_recomputed_um": diameter, "edge_of_frame": edge}
    return Cut(images, columns=columns)


def without_fringe(diameter_um: Any, fringe_um: Any) -> Any:
    """A diameter less the diffraction fringe, but at least half of it (arrays, µm)."""
    return np.maximum(diameter_um - fringe_um, diameter_um / 2)


def _read_grey(path: Path) -> NDArray[np.uint8]:
    grey = read_picture(path).grey
    return to_8_bit(grey, bit_depth_of(int(grey.max())))


def _tile(picture: NDArray[Any], box: NDArray[np.int64], file: Path, particle: int) -> NDArray[Any]:
    x, y, width, height = box.tolist()
    if min(x, y) < 0 or min(width, height) < 1:
        raise DataError(f"Particle {particle} of {file.name} has the box {box.tolist()}.", _AGAIN)
    tile = picture[y : y + height, x : x + width]
    if tile.shape != (height, width):
        raise DataError(
            f"Particle {particle} lies at x {x}..{x + width}, y {y}..{y + height}, outside "
            f"{file} ({picture.shape[1]} x {picture.shape[0]} px).",
            _AGAIN,
        )
    return tile


def _touches_own_box(tile: NDArray[np.bool_]) -> bool:
    return bool(tile[[0, -1]].any() or tile[:, [0, -1]].any())


_AGAIN = "List and collages must be of the same run; copy the run folder again."
