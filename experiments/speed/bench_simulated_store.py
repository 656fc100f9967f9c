"""Simulate a large store, kill it half-way, resume it; prints one JSON line.

    python experiments/speed/bench_simulated_store.py [--images 100000] [--workers 2]

Memory is the sum over all processes of their proportional share (PSS: pages that several
processes share count once), sampled every half second; `anonymous` leaves out the pages of files
(libraries and what was written), which the kernel drops when memory is short. The first process
is killed with SIGKILL when half of the images are written; a second one finishes.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from svp_lightning.__main__ import configured
from svp_lightning.data.store import Store
from svp_lightning.simulation.simulated_store import simulate_store
from svp_lightning.stages.settings import SimulatedData

CHILD = "--child"


def child(path: Path, images: int, workers: int) -> None:
    """Write the store; prints how many images are done after each chunk."""
    per_class = {"protein": images - 2 * (images // 3), "silicone_oil": images // 3}
    counts = {"train": {**per_class, "air_bubble": images // 3}}
    data = configured().data
    assert isinstance(data, SimulatedData)
    settings = data.simulation.model_copy(update={"counts": counts, "workers": workers})
    simulate_store(path, settings, 64, 1, lambda done: print(done, flush=True))


def processes(root: int) -> list[int]:
    """A process and all below it."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(word) for word in task.read_text().split()]
    return found


def memory_mib(root: int) -> tuple[float, float]:
    """Proportional set size of a process tree: all of it, and its anonymous part."""
    total = anonymous = 0
    for pid in processes(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        total += sizes["Pss"]
        anonymous += sizes["Pss_Anon"]
    return total / 1024, anonymous / 1024


def follow(command: list[str], stop_at: int) -> tuple[int, float, list[tuple[float, float]]]:
    """Run a child until it ends or has written ``stop_at`` images, then kill it."""
    start, done, memory, sampled = time.monotonic(), 0, [(0.0, 0.0)], 0.0
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    for line in running.stdout:
        done += int(line)
        if time.monotonic() - sampled > 0.5:
            sampled = time.monotonic()
            memory.append(memory_mib(running.pid))
        if done >= stop_at:
            os.kill(running.pid, signal.SIGKILL)
            break
    running.wait()
    return done, time.monotonic() - start, memory


def tenths(samples: list[tuple[float, float]]) -> list[int]:
    """Places of samples at 10, 20, ... 90 % of the time."""
    return [len(samples) * tenth // 10 for tenth in range(1, 10)]


def main() -> None:
    """Two children, one killed; then the store is opened, which checks it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(CHILD, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.child, arguments.images, arguments.workers)
        return
    folder = Path(tempfile.mkdtemp())
    try:
        options = ["--images", str(arguments.images), "--workers", str(arguments.workers)]
        command = [sys.executable, __file__, *options, CHILD, str(folder / "store")]
        killed_at, first, memory = follow(command, arguments.images // 2)
        _, second, more = follow(command, 2 * arguments.images)
        images = len(Store.open(folder / "store"))
    finally:
        shutil.rmtree(folder)
    result = {
        "bench": "simulated_store",
        "images": images,
        "workers": arguments.workers,
        "killed_at": killed_at,
        "seconds": round(first + second, 1),
        "images_per_second": round(images / (first + second), 1),
        "peak_mib_all_processes": round(max(total for total, _ in memory + more), 1),
        "peak_mib_anonymous": round(max(part for _, part in memory + more), 1),
        "anonymous_mib_over_time": [round(memory[at][1]) for at in tenths(memory)],
        "anonymous_mib_after_restart": [round(more[at][1]) for at in tenths(more)],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
