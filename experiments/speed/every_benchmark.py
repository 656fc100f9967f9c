"""All speed measurements one after another, as one table; ``make bench`` runs this.

Each benchmark is a script of its own that prints one line of JSON and takes options; run it
alone for other sizes or devices. Nothing here is a test: times depend on the machine.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
BENCHMARKS: dict[str, list[str]] = {
    "bench_simulator.py": [],
    "bench_store.py": [],
    "bench_predictions.py": [],
    "bench_predict.py": ["--images", "5000"],
    "bench_ingest.py": ["--particles", "10000"],
    "bench_classifier.py": ["--mode", "train", "--stem-stride", "4"],
    "bench_pipeline.py": [],
    "bench_sampler.py": [],
    "../generator_recipe/bar.py": [],
}


def measure(script: str, options: list[str]) -> dict[str, Any]:
    """Run one benchmark in a fresh process and read its line."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *options],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    values: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return values


def main() -> None:
    """Print machine and figures."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    for script, options in BENCHMARKS.items():
        print(f"\n{script} {' '.join(options)}", flush=True)
        for name, value in measure(script, options).items():
            print(f"  {name:<28} {value}")


if __name__ == "__main__":
    main()
