"""Which droplets and bubbles look most like each real crop? The start of the priors.

    python experiments/simulator_realism/nearest.py --crops FOLDER [--images 9000] [--out FOLDER]

Renders spheres of any radius, focus, tilt and aberration under microscopes of any aperture, cuts
and prints them like the real crops, and lists, for each crop of the development half, what its
nearest images have in common. ``nearest_<class>.png`` shows simulated images only, a row per crop.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from crops import as_printed, read_real
from numpy.typing import NDArray
from PIL import Image
from simple_features import feature_table

from svp_lightning.__main__ import configured
from svp_lightning.data.classes import AIR_BUBBLE, SILICONE_OIL
from svp_lightning.simulation.draw import Draw
from svp_lightning.simulation.particles import OIL_INDEX
from svp_lightning.simulation.scene import Particle, Sphere, Spheres
from svp_lightning.simulation.session import draw_session
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.simulator import Simulator
from svp_lightning.stages.settings import SimulatedData

INDEX = {SILICONE_OIL: OIL_INDEX, AIR_BUBBLE: 1.0}
RADIUS_UM = {SILICONE_OIL: (0.9, 6.0), AIR_BUBBLE: (0.7, 3.5)}
FOCUS_UM = {SILICONE_OIL: (-60.0, 75.0), AIR_BUBBLE: (5.0, 55.0)}
TILT = 0.09
SESSIONS = 250
KEPT = 15
SHOWN = 12
LARGE = 0.1
"""A particle that reaches more than this share of its crop's border is part of a large bubble."""
COLUMNS = ["radius_um", "defocus_um", "objective_na", "condenser_na", "tilt"]


def broad() -> SimulationSettings:
    """Any microscope; nothing is too faint."""
    changes = (
        "crop=box",
        "optics.objective_na=[0.25,0.5]",
        "optics.condenser_na=[0.09,0.195]",
        "instrument.min_contrast=0.05",
        "instrument.min_area_um2=0",
        "large_bubble_share=0",
        "neighbour_share=0",
        "air_indices=[1]",
        "air_halo_gain=[1,1]",
    )
    data = configured(*(f"data.simulation.{change}" for change in changes)).data
    assert isinstance(data, SimulatedData)
    return data.simulation


def anything(draw: Draw, name: str, rng: np.random.Generator) -> Draw:
    """The same exposure of any sphere of a class."""
    radius = float(np.exp(rng.uniform(*np.log(RADIUS_UM[name]))))
    depth = float(rng.uniform(*FOCUS_UM[name]))
    x, y = rng.normal(0, 0.3, 2)
    sphere = Sphere(
        radius, INDEX[name], x, y, depth, abs(rng.normal(0, 0.07)), rng.uniform(0, np.pi)
    )
    tilt = rng.normal(0, TILT, 2)
    # The window follows the image, which oblique light moves.
    moved = replace(sphere, x_um=x - depth * tilt[0] / 1.34, y_um=y - depth * tilt[1] / 1.34)
    radius = sphere.tabulated_radius_um
    return replace(
        draw,
        particle=Particle("sphere", radius, 2 * radius, depth, INDEX[name]),
        scene=Spheres((moved,)),
        tilt=(float(tilt[0]), float(tilt[1])),
        waves=draw.waves * np.float32(rng.uniform(0.2, 3)),
    )


def rendered(name: str, count: int) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    """Images as printed, and what is in them."""
    simulator, rng = Simulator(broad(), 64, seed=3), np.random.default_rng(0)
    rows = np.arange(count)
    sessions = rows % SESSIONS
    drawn = [anything(draw, name, rng) for draw in simulator.draw([name] * count, rows, sessions)]
    images, table = simulator.render([name] * count, rows, sessions, drawn=drawn)
    runs = [
        draw_session(simulator.settings, 64, simulator.seed, int(number), field=True)
        for number in sessions
    ]
    table["objective_na"] = [run.grid.objective_na for run in runs]
    table["condenser_na"] = [run.grid.condenser_na for run in runs]
    table["tilt"] = [float(np.hypot(*draw.tilt)) for draw in drawn]
    return as_printed(images), table


def whole(image: NDArray[np.uint8]) -> bool:
    """Whether a particle lies inside its crop, unlike part of a large bubble."""
    border = np.concatenate([image[[0, -1]].ravel(), image[:, [0, -1]].ravel()])
    return bool((np.abs(border / 175.0 - 1) > 0.1).mean() < LARGE)


def main() -> None:
    """Render, compare, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--images", type=int, default=9000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    for name, crops in read_real(arguments.crops, "development").items():
        real = feature_table(np.stack([crop for crop in crops if whole(crop)]))
        images, table = rendered(name, arguments.images)
        ours = feature_table(images)
        spread = np.subtract(*np.percentile(real, [84, 16], axis=0)) / 2
        scale = np.maximum(spread, 0.15 * ours.std(axis=0))
        sheet, kept = [], []
        for number, features in enumerate(real):
            distance = np.sqrt((((ours - features) / scale) ** 2).mean(axis=1))
            nearest = np.argsort(distance)[:KEPT]
            kept.append(table.iloc[nearest])
            sheet.append(np.concatenate(images[nearest[:SHOWN]], axis=1))
            middle = kept[-1].median(numeric_only=True)
            print(
                f"{name} {number}: distance {distance[nearest[0]]:.2f}, "
                f"radius {middle.radius_um:.2f} um, focus {middle.defocus_um:.0f} um"
            )
        print(pd.concat(kept)[COLUMNS].quantile([0.1, 0.5, 0.9]).round(3).to_string())
        Image.fromarray(np.concatenate(sheet)).save(arguments.out / f"nearest_{name}.png")


if __name__ == "__main__":
    main()
