"""Importing a large FlowCam run: images per second and peak memory.

The run is generated: collages of 1292 x 964 px (RGB, LZW) with masks and a 65-field list, as
VisualSpreadsheet writes them. Prints one line of JSON for each number of particles; memory is
that of a process of its own, so that what is flat can be seen to be.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from svp_lightning.__main__ import configured
from svp_lightning.data.importers.flowcam import plan_flowcam
from svp_lightning.data.importers.writer import write_plan
from svp_lightning.data.settings import FlowCamSettings

WIDTH, HEIGHT, SIDE, GAP, MARGIN = 1292, 964, 28, 2, 8
PER_PAGE = ((WIDTH + GAP) // (SIDE + GAP)) * ((HEIGHT + GAP) // (SIDE + GAP))
USED_FIELDS = [
    "id",
    "image_x",
    "image_y",
    "image_w",
    "image_h",
    "src_x",
    "src_y",
    "src_image",
    "cal_const",
    "fringe_size",
    "raw_area",
    "raw_feret_mean",
    "raw_perimeter",
    "abd_area",
    "abd_diameter",
    "esd_diameter",
    "length",
    "width",
    "perimeter",
    "intensity",
    "sigma_intensity",
    "edge_gradient",
    "timestamp",
    "collage_file",
    "image_id",
]
NUM_FIELDS = 65


def write_run(folder: Path, particles: int, run: str = "run") -> None:
    """A run of square particles on noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    noise = rng.integers(160, 180, (HEIGHT + 64, WIDTH + 64), dtype=np.uint8)
    others = [f"unused_{k}|double" for k in range(NUM_FIELDS - len(USED_FIELDS))]
    fields = [*(f"{name}|double" for name in USED_FIELDS), *others]
    with (folder / f"{run}.lst").open("w") as file:
        file.write("\n".join(["017", f"num-fields|{len(fields)}", *fields]) + "\n")
        for page, start in enumerate(range(0, particles, PER_PAGE), start=1):
            name = f"{run}_{page:06d}.tif"
            count = min(PER_PAGE, particles - start)
            for row in _write_page(folder / name, start, count, noise, rng):
                file.write("|".join([*row, *["0.0000"] * len(others)]) + "\n")
    (folder / f"{run}.ctx").write_text("[Camera]\nImageWidth=1292\nImageHeight=964\n")


def _write_page(
    path: Path, start: int, count: int, noise: np.ndarray, rng: np.random.Generator
) -> list[list[str]]:
    page = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    rows = []
    across = (WIDTH + GAP) // (SIDE + GAP)
    dy, dx = rng.integers(0, 64, 2)
    for k in range(count):
        y, x = (SIDE + GAP) * (k // across), (SIDE + GAP) * (k % across)
        page[y : y + SIDE, x : x + SIDE] = noise[y + dy : y + dy + SIDE, x + dx : x + dx + SIDE]
        inner = (slice(y + MARGIN, y + SIDE - MARGIN), slice(x + MARGIN, x + SIDE - MARGIN))
        page[inner] = 60 + (start + k) % 100
        mask[inner] = 255
        rows.append(_row(start + k + 1, x, y, path.name))
    Image.fromarray(page).convert("RGB").save(path, compression="tiff_lzw")
    Image.fromarray(mask).save(path.with_name(f"{path.stem}_bin.tif"), compression="tiff_lzw")
    return rows


def _row(number: int, x: int, y: int, collage: str) -> list[str]:
    box = [number, x, y, SIDE, SIDE, 100 + number % 900, 50, number]
    sizes = [0.5544, 4.5, 144, 13.5, 41.8, 44.2, 5.0105, 4.99, 6.93, 2.22, 23.2, 140.6, 20.1, 103.0]
    tail = ["2024-04-08T10:14:11.131", collage, f"22A892EB-8E7D-427D-85EE-{number:012d}"]
    return [*map(str, box), *(f"{size:.4f}" for size in sizes), *tail]


def _import(folder: Path, threads: int) -> None:
    """In a process of its own: import and print what it took."""
    given = (f"data.root={folder / 'run'}", "data.labelled=false", f"data.num_threads={threads}")
    settings = configured("data=flowcam", *given).data
    assert isinstance(settings, FlowCamSettings)
    start = time.perf_counter()
    done: list[int] = []
    write_plan(folder / "store", plan_flowcam(settings), 1, done.append)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"images_per_s": round(sum(done) / seconds), "seconds": round(seconds, 1)}
    print(json.dumps({"particles": sum(done), **figures, "peak_rss_mib": round(peak)}))


def main() -> None:
    """Generate and import."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="import what lies there (used by itself)")
    arguments = parser.parse_args()
    if arguments.folder:
        _import(arguments.folder, arguments.threads)
        return
    for particles in arguments.particles:
        with tempfile.TemporaryDirectory() as folder:
            write_run(Path(folder) / "run", particles)
            command = [sys.executable, __file__, "--folder", folder]
            subprocess.run([*command, "--threads", str(arguments.threads)], check=True)


if __name__ == "__main__":
    main()
