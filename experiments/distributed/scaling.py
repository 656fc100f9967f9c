"""Drawing, testing and training of a generator by several processes against one (gloo, CPU).

Prints one line a check. What is in the folder already is not made again.

Usage:
    python experiments/distributed/scaling.py [--folder build/distributed] [--processes 2,4]
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from svp_lightning.data.store import Store
from svp_lightning.evaluation.predictions import read_predictions

CELL = ("+experiment=resnet18_aug_ratio_1x", "scale=tiny", "trainer=ddp_cpu")
CELL += ("generator.selection.method=last", "sampler.batch_size=5", "data.simulation.workers=0")
TRAINING = ("task=train_generator", "generator.steps=200", "generator.checkpoint_every=200")
SEVERAL_NODES = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(folder: Path, artifacts: str, *arguments: str, **environment: str) -> subprocess.Popen:
    """The program on the artifacts of that name; its output goes to a log of its number."""
    paths = (f"paths.artifacts={folder / artifacts}", "hydra.mode=RUN")
    log = (folder / f"{len(list(folder.glob('*.log'))):02d}.log").open("w")
    return subprocess.Popen(
        [sys.executable, "-m", "svp_lightning", *CELL, *paths, *arguments],
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def run(folder: Path, artifacts: str, *arguments: str) -> None:
    if start(folder, artifacts, *arguments).wait():
        sys.exit(f"{arguments} failed: see the last log in {folder}.")


def sampled(folder: Path, processes: int) -> str:
    """SHA-256 of the pool that so many processes draw with the generator of one."""
    own = folder / f"sampled_by_{processes}"
    for stage in ("store", "generator"):
        shutil.copytree(folder / "made_by_1" / stage, own / stage, dirs_exist_ok=True)
    run(folder, own.name, "task=sample", f"trainer.devices={processes}")
    (pool,) = own.glob("synthetic/*/manifest.json")
    return Store.open(pool.parent).sha256


def tested(outputs: Path) -> tuple[dict[str, float], np.ndarray]:
    """Metrics and probabilities (N, K) of the one run in a folder."""
    (results,) = outputs.rglob("results.json")
    metrics = json.loads(results.read_text())["metrics"]
    found = read_predictions(results.with_name("predictions.parquet"))
    return {k: v for k, v in metrics.items() if k != "per_class"}, found.probabilities


def trained(folder: Path, processes: int, seed: int) -> float:
    """Squared error of denoised held-out images after training by so many, geometric mean."""
    outputs = folder / f"trained_by_{processes}"
    own = outputs / str(seed)
    if not list(own.glob("generator/*/generator.json")):
        shutil.copytree(folder / "made_by_1" / "store", own / "store", dirs_exist_ok=True)
        settings = (*TRAINING, f"generator.seed={seed}", f"trainer.devices={processes}")
        run(folder, str(own.relative_to(folder)), *settings, f"paths.outputs={outputs}")
    (file,) = own.glob("generator/*/generator.json")
    checks = json.loads(file.read_text())["generator"]["training"]["selection"]["checks"]
    return float(np.exp(np.log(checks[-1]["heldout"]).mean()))


def compare(name: str, folder: Path, outputs: str) -> None:
    (metrics, own), (others, other) = (tested(folder / k) for k in ("tested_by_1", outputs))
    apart = max(abs(metrics[key] - others[key]) for key in metrics)
    print(f"{name}: {len(other)} images, metrics differ by {apart:.1g}, probabilities by "
          f"{abs(own - other).max():.1g}", flush=True)  # fmt: skip


def two_nodes(folder: Path) -> None:
    """Two commands on this machine, as on two nodes with one process each."""
    arguments = ("trainer.devices=1", "trainer.num_nodes=2")
    outputs = f"paths.outputs={folder / 'tested_by_nodes'}"
    nodes = [start(folder, "made_by_1", *arguments, outputs, NODE_RANK=str(k), **SEVERAL_NODES)
             for k in range(2)]  # fmt: skip
    print("two nodes: exit status", [node.wait() for node in nodes])
    compare("two nodes", folder, "tested_by_nodes")


def killed(folder: Path, main_process: bool) -> None:
    """SIGKILL to one of two processes that train: what the other says."""
    steps = ("classifier.steps=100000", "classifier.validate_every=100000")
    settings = ("task=train_classifier", "augmentation=none", "trainer.devices=2", *steps)
    outputs = f"paths.outputs={folder / 'killed'}"
    logs = "made_by_1/classifier/*.partial/logs/attempt_*"
    before = len(list(folder.glob(logs)))
    both = start(folder, "made_by_1", *settings, outputs)
    log = max(folder.glob("*.log"))
    while len(list(folder.glob(logs))) == before:  # written once both are connected
        time.sleep(0.1)
    other = Path(f"/proc/{both.pid}/task/{both.pid}/children").read_text().split()[-1]
    os.kill(both.pid if main_process else int(other), signal.SIGKILL)
    started, status = time.monotonic(), both.wait()
    while Path(f"/proc/{other}").is_dir():
        time.sleep(0.1)
    said = [line for line in log.read_text().splitlines() if line.startswith("Error: ")]
    which = "main process" if main_process else "other process"
    seconds = time.monotonic() - started
    print(f"{which} killed: status {status} after {seconds:.0f} s, said: {said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/distributed"))
    parser.add_argument("--processes", default="2,4")
    parser.add_argument("--seeds", type=int, default=3, help="generators trained by each number")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    run(folder, "made_by_1", "trainer.devices=1", f"paths.outputs={folder / 'tested_by_1'}")
    (pool,) = (folder / "made_by_1").glob("synthetic/*/manifest.json")
    for processes in map(int, options.processes.split(",")):
        outputs = f"tested_by_{processes}"
        devices = f"trainer.devices={processes}"
        run(folder, "made_by_1", devices, f"paths.outputs={folder / outputs}")
        compare(f"{processes} processes", folder, outputs)
        same = sampled(folder, processes) == Store.open(pool.parent).sha256
        print(f"{processes} processes draw the pool of one: {same}", flush=True)
    two_nodes(folder)
    killed(folder, main_process=False)
    killed(folder, main_process=True)
    for processes in (1, *map(int, options.processes.split(","))):
        errors = [trained(folder, processes, seed) for seed in range(options.seeds)]
        print(f"generators of {processes}: held-out errors {np.round(errors, 4)}", flush=True)


if __name__ == "__main__":
    main()
