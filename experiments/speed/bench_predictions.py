"""Time and memory of the metrics of a long ``predictions.parquet``, and of a bootstrap.

Prints one JSON line.

Usage:
    python experiments/speed/bench_predictions.py [--images 10000000] [--rare 10000]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from svp_lightning.evaluation.counting import Tally

CLASSES = ("protein", "silicone_oil", "air_bubble")
CHUNK = 1_000_000
MEASURE = """
import json, resource, sys, time
from pathlib import Path
from svp_lightning.evaluation.predictions import prevalence_table, read_predictions
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
found = read_predictions(Path(sys.argv[1]), with_ids=False)
found.tally()
counted = time.perf_counter() - start
table = prevalence_table(found, "protein", (1, 10, 100, 1000))
print(json.dumps({
    "count_seconds": round(counted, 1),
    "four_prevalences_seconds": round(time.perf_counter() - start - counted, 1),
    "rss_before_mib": before // 1024,
    "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "macro_auprc_at_1000_to_1": table["macro_auprc"].iloc[-1],
}))
"""


def write(path: Path, images: int, rare: int) -> None:
    """Write overlapping scores of ``images`` images, chunk by chunk."""
    rng = np.random.default_rng(0)
    columns = {"id": pa.string(), "label": pa.string()}
    schema = pa.schema(
        columns | {f"probability_{name}": pa.float32() for name in CLASSES},
        {"svp_lightning": json.dumps({"trained_shares": dict.fromkeys(CLASSES, 1 / 3)})},
    )
    with parquet.ParquetWriter(path, schema) as file:
        for start in range(0, images, CHUNK):
            n = min(CHUNK, images - start)
            labels = np.where(rng.random(n) < 2 * rare / images, rng.integers(1, 3, n), 0)
            scores = rng.normal(size=(n, 3)).astype(np.float32)
            scores[np.arange(n), labels] += 4
            p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            ids = [f"{i:012d}" for i in range(start, start + n)]
            arrays = [pa.array(ids), pa.array(np.array(CLASSES)[labels])]
            file.write(pa.table([*arrays, *(pa.array(p[:, k]) for k in range(3))], schema=schema))


def bootstrap_seconds(resamples: int = 100) -> float:
    """Of ``resamples`` resamples of a test set of 500,000 + 500 + 500 images."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), (500_000, 500, 500))
    scores = rng.normal(size=(len(labels), 3)).astype(np.float32)
    scores[np.arange(len(labels)), labels] += 4
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    start = time.perf_counter()
    Tally(labels, probabilities, CLASSES).redrawn(resamples=resamples)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--rare", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.parquet"
        start = time.perf_counter()
        write(path, options.images, options.rare)
        written = time.perf_counter() - start
        # A process of its own, so that writing does not count as reading's memory.
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path)], stdout=subprocess.PIPE, check=True
        )
        found = json.loads(done.stdout)
        size = path.stat().st_size >> 20
    result = {"images": options.images, "file_mib": size, "write_seconds": round(written, 1)}
    intervals = {"bootstrap_100_of_501000_seconds": round(bootstrap_seconds(), 1)}
    print(json.dumps(result | found | intervals))


if __name__ == "__main__":
    main()
