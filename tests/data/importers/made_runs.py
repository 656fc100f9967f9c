"""Runs as instruments leave them, made small: one builder a format, and how to import them."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from svp_lightning.data.importers.collage import plan_collage
from svp_lightning.data.importers.flowcam import plan_flowcam
from svp_lightning.data.importers.flowcam_lists import read_particles
from svp_lightning.data.importers.folder import plan_folder
from svp_lightning.data.importers.mfi import plan_mfi
from svp_lightning.data.importers.writer import Plan, write_plan
from svp_lightning.data.store import Store
from tests import configured

REFERENCE = Path(__file__).parents[4] / "shared" / "reference"
CAL, FRINGE, MARGIN = 0.55, 4.5, 5
"""µm/px and px of FlowCam runs; px around each of their particles."""
_WHOLE = "id image_x image_y image_w image_h src_x src_y src_image"
_REAL = "cal_const fringe_size raw_area abd_diameter esd_diameter"
FIELDS = [f"{n}|int32" for n in _WHOLE.split()] + [f"{n}|double" for n in _REAL.split()]
FIELDS.append("collage_file|string")
CSV_NAMES = {
    "particle_id": "Particle ID",
    "collage_file": "Image File",
    "x": "Image X",
    "y": "Image Y",
    "w": "Image Width",
    "h": "Image Height",
    "pixel_size_um": "Calibration Factor",
}
"""Columns of the store -> of an export as CSV."""

_PLANS = {
    "flowcam": (plan_flowcam, configured.flowcam),
    "mfi": (plan_mfi, configured.mfi),
    "collage": (plan_collage, configured.collage),
    "folder": (plan_folder, configured.folder),
}


def plan(source: str, root: Path, **options: object) -> Plan:
    """What an import of ``root`` would store."""
    make, settings = _PLANS[source]
    return make(settings(root=root, **options))  # type: ignore[operator]


def imported(source: str, root: Path, **options: object) -> Store:
    """The store of an import, in a new folder next to ``root``."""
    path = root.parent / f"store{sum(1 for _ in root.parent.glob('store*'))}"
    write_plan(path, plan(source, root, **options), 2, lambda n: None)
    return Store.open(path)


def edit(file: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def skipped(found: Plan) -> list[tuple[str, str]]:
    return list(found.skipped[["file", "reason"]].itertuples(index=False, name=None))


def images_of(found: Plan) -> dict[str, np.ndarray]:
    """Id -> image as it is cut."""
    images = [image for unit in found.units for image in found.read(unit).images]
    return dict(zip(found.particles["id"], images, strict=True))


def assert_right_images(found: Plan) -> None:
    """Every image cut is the particle its row names (squares of a level that shows the id)."""
    for name, image in images_of(found).items():
        assert (image[MARGIN:-MARGIN, MARGIN:-MARGIN] == 50 + int(name.split("/")[1])).all()
        assert image[:MARGIN].min() >= 165


def write_flowcam(folder: Path, run: str = "run1", particles: int = 6, fields: list[str] = FIELDS):
    """Two collages of square particles, with masks, context and classification."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, seed = [], sum(map(ord, run))
    for page in range(2):
        collage = np.zeros((60, 200, 3), np.uint8)
        mask = np.zeros((60, 200), np.uint8)
        x = 0
        for n in range(particles // 2):
            number, side = page * (particles // 2) + n + 1, 6 + 2 * n
            box = side + 2 * MARGIN
            rng = np.random.default_rng(1000 * seed + number)
            tile = rng.integers(165, 175, (box, box))
            tile[MARGIN:-MARGIN, MARGIN:-MARGIN] = 50 + number
            collage[3 : 3 + box, x : x + box] = tile[..., None]
            mask[3 + MARGIN : 3 + box - MARGIN, x + MARGIN : x + box - MARGIN] = 255
            name = f"{run}_{page + 1:06d}.tif"
            d = CAL * np.sqrt(4 * side**2 / np.pi)
            values = {
                "id": number,
                "image_x": x,
                "image_y": 3,
                "image_w": box,
                "image_h": box,
                "src_x": 100 * n,
                "src_y": 50,
                "src_image": number,
                "cal_const": CAL,
                "fringe_size": FRINGE,
                "raw_area": side**2,
                "esd_diameter": 5.0,
                "abd_diameter": round(max(d - FRINGE * CAL, d / 2), 4),
                "collage_file": name,
            }
            rows.append("|".join(str(values.get(f.split("|")[0], "0.0")) for f in fields))
            x += box + 2
        Image.fromarray(collage).save(folder / f"{run}_{page + 1:06d}.tif", compression="tiff_lzw")
        Image.fromarray(mask).save(folder / f"{run}_{page + 1:06d}_bin.tif")
    Image.fromarray(mask).save(folder / "cal_image_000001.tif")
    head = ["017", f"num-fields|{len(fields)}", *fields]
    (folder / f"{run}.lst").write_text("\n".join(head + rows) + "\n")
    (folder / f"{run}.ctx").write_text(
        "[Camera]\nImageWidth=1292\nImageHeight=964\n[Fluid]\nFringeSize=4.5\n"
    )
    (folder / f"{run}_run_summary.txt").write_text("Run:\n\tFluid Volume Imaged: 0.0174 ml\n")
    (folder / f"{run}.cla").write_text(
        "v3\n1\nmine\n2\nOil drop\nOR\n1\nC:\\a.flt\n2\n1\n4\nprotein\nOR\n0\n2\n2\n3\n"
    )


def export_csv(
    lst: Path, to: Path, ids: Collection[int] | None = None, names: Mapping[str, str] = CSV_NAMES
) -> pd.DataFrame:
    """What a user saves of a list: the particles ``ids`` (all), columns by ``names``."""
    rows = read_particles(lst)
    rows = rows if ids is None else rows[rows["particle_id"].isin(ids)]
    table = rows[list(names)].rename(columns=names)
    table.to_csv(to, index=False, float_format="%.6e")
    return table


def write_library(folder: Path, name: str = "lib", day: str | None = None) -> None:
    fields = FIELDS if day is None else [*FIELDS, "timestamp|timestamp"]
    write_flowcam(folder, name, fields=fields)
    for file in folder.glob(f"{name}*"):
        if file.suffix in (".ctx", ".cla", ".txt"):
            file.unlink()
    lines = (folder / f"{name}.lst").read_text()
    if day is not None:
        lines = lines.replace(".tif|0.0\n", f".tif|{day}T10:14:11.131\n")
    (folder / f"{name}.lst").unlink()
    (folder / f"{name}.flb").write_text(lines)


def write_blank(folder: Path) -> None:
    write_flowcam(folder, "water")
    head = (folder / "water.lst").read_text().splitlines()[: 2 + len(FIELDS)]
    (folder / "water.lst").write_text("\n".join(head) + "\n")
    (folder / "water.cla").unlink()


HEADER = (
    "#, Frame #,Particle #, Time Stamp(s),ECD(um),Area(pixels),Perimeter,Circularity,"
    "Intensity Mean,Intensity STD,Intensity Min,Intensity Max,Max Feret Diameter(um),"
    "Aspect Ratio,X Left,X Right,Y Top,Y Bottom,Edge Particle,label"
)
PIXEL_UM = 1.5


def dilute(folder: Path, factor: float, per_ml: float | None) -> None:
    """A dilution in the context of ``run1``, and perhaps a printed concentration."""
    with (folder / "run1.ctx").open("a") as file:
        file.write(f"UseDilutionCalculation=1\nSampleDilution={factor}\n")
    printed = "" if per_ml is None else f"Particles / ml,{per_ml:.0f}\n"
    text = f"Count,6\n{printed}Sample Volume Imaged ml,0.0174\n"
    (folder / "run1_summary.csv").write_text(text)


def write_mfi(
    folder: Path,
    run: str,
    flags: tuple[str, str] = ("0", "1"),
    frames: Iterable[int] = (3, 7),
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, run)))
    lines = [HEADER]
    for frame in frames:
        picture = rng.integers(205, 215, (128, 160)).astype(np.uint8)
        for n in range(3):
            number, side, x, y = 10 * frame + n, 4 + n, 40 * n, 20 + 10 * n
            picture[y : y + side, x : x + side] = number
            ecd = PIXEL_UM * 2 * np.sqrt(side**2 / np.pi)
            label = ("protein", "Silicone oil", "")[n]
            lines.append(
                f"{len(lines)},{frame},{number},0.1,{ecd:.4f},{side**2},16,0.9,{4 * number},1,"
                f"{4 * number},840,9,1,{x},{x + side - 1},{y},{y + side - 1},"
                f"{flags[n == 0]},{label}"
            )
        Image.fromarray(picture).save(folder / f"{run}_frame_{frame:05d}.png")
    (folder / f"{run}.csv").write_text("\n".join(lines) + "\n")


SLOPE, OFFSET = 1.35, -6.68


def write_discs(
    folder: Path, seed: int, slope: float = SLOPE, radii: tuple[float, float] = (3, 20), n: int = 36
) -> None:
    """Dark discs, twelve a frame, on grey 210; sizes by ECD = slope d + OFFSET."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lines = [HEADER.removesuffix(",label")]
    rows, columns = np.mgrid[:256, :256]
    for frame in range(1, n // 12 + 1):
        picture = rng.normal(210, 1.5, (256, 256))
        for k in range(12):
            radius, dark = rng.uniform(*radii), rng.integers(60, 180)
            x, y = 32 + 60 * (k % 4) + rng.integers(-6, 6), 42 + 84 * (k // 4)
            inside = np.hypot(columns - x, rows - y) < radius
            picture[inside] = dark + rng.normal(0, 1, inside.sum())
            area, down, across = inside.sum(), np.nonzero(inside)[0], np.nonzero(inside)[1]
            ecd = slope * 2 * np.sqrt(area / np.pi) + OFFSET
            levels = 4 * picture[inside]
            lines.append(
                f"{len(lines)},{frame},{12 * frame + k},0.1,{ecd:.2f},{area},16,0.9,"
                f"{levels.mean():.1f},1,{levels.min():.0f},{levels.max():.0f},9,1,"
                f"{across.min()},{across.max()},{down.min()},{down.max()},0"
            )
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"f{frame}.png")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")


WIDTH = 300
"""Of collages, px."""


def draw_collage(seed: int, ground: int = 0, gap: int = 2, tiles: int = 24) -> tuple:
    """Shelves of noisy tiles of any size, some with dark, bright or edge-touching particles."""
    rng = np.random.default_rng(seed)
    page = np.full((400, WIDTH), ground, np.uint8)
    boxes, x, y, shelf = [], 0, 0, 0
    for k in range(tiles):
        w, h = rng.integers(10, 45, 2).tolist()
        if x + w > WIDTH:
            x, y, shelf = 0, y + shelf + gap, 0
        tile = rng.normal(150, 4, (h, w))
        # A particle nearly as dark (or bright) as the ground, in the middle or at the edge.
        tile[h // 3 : h // 3 + 3, (0 if k % 5 == 0 else 3) : w - 4] = (5, 250, 60)[k % 3]
        page[y : y + h, x : x + w] = tile
        boxes.append([x, y, w, h])
        x, shelf = x + w + gap, max(shelf, h)
    return page, boxes


def save(page: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(page).convert("RGB").save(path)
    return path
