"""Sizes of FlowCam particles: the vendor's, and the same recomputed from the pixels.

Both are kept and never mixed. With the fringe f = fringe_size * cal_const, the ABD diameter is
max(D - f, D / 2) of D = cal_const * sqrt(4 * raw_area / pi), and the ESD diameter is the same of
D = cal_const * mean Feret diameter. This rule reproduces the vendor's sizes of 12,937 particles.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.cutting import picture_sizes
from svp_lightning.data.importers.flowcam_lists import Siblings
from svp_lightning.data.importers.images import read_picture
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.settings import FlowCamSettings
from svp_lightning.errors import DataError

VENDOR_COLUMNS = {
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


def usable_masks(
    particles: pd.DataFrame, siblings: Siblings, settings: FlowCamSettings, skips: Skips
) -> dict[str, Path]:
    """Collage -> its mask, where there is a usable one."""
    collages = [Path(name) for name in particles["picture"].unique()]
    masks = {c: siblings(c.parent, f"{c.stem}_bin{c.suffix}") for c in collages}
    masks = {collage: mask for collage, mask in masks.items() if mask.is_file()}
    decode = skips.policy == "skip"
    files = [file for pair in masks.items() for file in pair]
    sizes = picture_sizes(files, settings.root, settings.num_threads, decode)
    usable = {}
    for collage, mask in masks.items():
        size = sizes[str(mask)]
        if not isinstance(size, DataError) and size != sizes[str(collage)]:
            size = DataError(f"{mask} is not of its collage's size.", "Copy the run again.")
        if isinstance(size, DataError):
            skips.add(mask.name, "mask cannot be used", size, particle_lost=False)
        else:
            usable[str(collage)] = mask
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
