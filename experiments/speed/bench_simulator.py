"""Images per second of one CPU core; prints one JSON line.

    python experiments/speed/bench_simulator.py [--images 120] [--size 64] [--source-points 25]
        [--instrument mfi_5200]

CPU time counts, not wall time, so a busy machine changes the figure little. Tables are built
before the clock starts; ``mix`` is equal numbers of the three classes.
"""

import argparse
import json
import time

import numpy as np
import torch

from svp_lightning.__main__ import configured
from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.simulation.simulator import Simulator
from svp_lightning.stages.settings import SimulatedData


def images_per_second(simulator: Simulator, class_name: str, count: int) -> float:
    """Rate after a warm-up that fills the tables of the same sessions."""
    rows = np.arange(count)
    names, sessions = [class_name] * count, rows % 4
    simulator.render(names, rows, sessions)
    start = time.process_time()
    simulator.render(names, rows, sessions)
    return count / (time.process_time() - start)


def main() -> None:
    """Measure every class and their mix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=120, help="per class")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--source-points", type=int, default=25)
    parser.add_argument("--instrument", default="flowcam_10x")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    points = f"data.simulation.source_points={arguments.source_points}"
    data = configured(f"data/instrument={arguments.instrument}", points).data
    assert isinstance(data, SimulatedData)
    simulator = Simulator(data.simulation, arguments.size, seed=1)
    rates = {name: images_per_second(simulator, name, arguments.images) for name in PAPER_CLASSES}
    mix = len(rates) / sum(1 / rate for rate in rates.values())
    result = {name: round(rate, 1) for name, rate in rates.items()} | {"mix": round(mix, 1)}
    options = {"instrument": arguments.instrument, "image_size": arguments.size}
    options["source_points"] = arguments.source_points
    print(json.dumps({"bench": "simulator", "images_per_second_per_core": result, **options}))


if __name__ == "__main__":
    main()
