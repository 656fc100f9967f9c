"""Sizes of FlowCam particles: the vendor's, and recomputed ones.

``ecd_um`` is the vendor's ABD or ESD diameter (``data.size``). The vendor's sizes and recomputed
ones are both kept and never mixed. With the fringe f = fringe_size * cal_const, the ABD diameter
is max(D - f, D / 2) of D = cal_const * sqrt(4 * raw_area / pi), and the ESD diameter is the same
of D = cal_const * mean Feret diameter. This rule reproduces the vendor's sizes of a real run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.pictures import BOX
from svp_lightning.data.settings import FlowCamSettings
from svp_lightning.errors import DataError


def sized(
    file: Path,
    run: str,
    table: pd.DataFrame,
    context: Mapping[str, float],
    settings: FlowCamSettings,
) -> pd.DataFrame:
    """With the group, the size that ``data.size`` names, and recomputed sizes."""
    for name in ("raw_area_vendor_px", "raw_feret_mean", "raw_perimeter"):
        if name not in table:
            table[name] = np.nan
    kinds = [kind for kind in ("abd", "esd") if f"{kind}_diameter_vendor_um" in table]
    if kinds and settings.size not in kinds:
        raise DataError(
            f"{file} has no Diameter ({settings.size.upper()}).",
            f"Export it with this column, or set data.size={kinds[0]}.",
        )
    size = table.get(f"{settings.size}_diameter_vendor_um")
    if (given := settings.pixel_size_um) is not None:
        size = None if size is None else size * (given / table["pixel_size_um"])
        table["pixel_size_um"] = given
    scale, fringe = table["pixel_size_um"], table["pixel_size_um"] * table["fringe_size_px"]
    return table.assign(
        group=run,
        edge_of_frame=_touches_frame(table, context),
        ecd_um=size,
        esd_diameter_recomputed_um=_without_fringe(scale * table["raw_feret_mean"], fringe),
        perimeter_recomputed_um=scale * table["raw_perimeter"],
    ).drop(columns=["raw_feret_mean", "raw_perimeter"])


def measured(rows: pd.DataFrame, mask: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Areas, ABD diameters and edges of one collage's particles, from its ``mask`` if given."""
    raw_area = rows["raw_area_vendor_px"].to_numpy(float)
    edge = rows["edge_of_frame"].to_numpy()
    if mask is not None:
        boxes = rows[BOX].itertuples(index=False, name=None)
        tiles = [mask[y : y + h, x : x + w] for x, y, w, h in boxes]
        raw_area = np.array([tile.sum() for tile in tiles], dtype=float)
        # A box leaves a margin around its particle unless the frame ends there.
        cut = [bool(t[[0, -1]].any() or t[:, [0, -1]].any()) for t in tiles]
        edge = edge.astype(bool) | cut
    scale = rows["pixel_size_um"].to_numpy(float)
    fringe = scale * rows["fringe_size_px"].to_numpy(float)
    diameter = _without_fringe(scale * np.sqrt(4 * raw_area / np.pi), fringe)
    return {"area_px": raw_area, "abd_diameter_recomputed_um": diameter, "edge_of_frame": edge}


def _touches_frame(table: pd.DataFrame, context: Mapping[str, float]) -> Any:
    """Whether a particle's box was cut by the camera frame; null where that is unknown."""
    if "frame_x_px" not in table or "frame_y_px" not in table:
        return None
    width, height = context.get("imagewidth", np.inf), context.get("imageheight", np.inf)
    low = (table["frame_x_px"] <= 0) | (table["frame_y_px"] <= 0)
    right, bottom = table["frame_x_px"] + table["w"], table["frame_y_px"] + table["h"]
    return low | (right >= width) | (bottom >= height)


def _without_fringe(diameter_um: Any, fringe_um: Any) -> Any:
    """A diameter less the diffraction fringe, but at least half of it (arrays, µm)."""
    return np.maximum(diameter_um - fringe_um, diameter_um / 2)
