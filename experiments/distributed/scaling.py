"""Drawing, testing and training by several processes and "nodes" against one (gloo, CPU).

Prints one line a check. What is in the folder already is not made again.

Usage:
    python experiments/distributed/scaling.py [--folder build/distributed] [--processes 2,4]
        [--checks testing,nodes,killed,classifiers,generators]
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from scipy import stats

from hydra_plugins.svp_process_launcher._processes import adopt_orphans
from svp_lightning.data.store import Store
from svp_lightning.evaluation.predictions import read_predictions

CELL: tuple[str, ...] = ("+experiment=resnet18_aug_ratio_1x", "scale=tiny", "trainer=ddp_cpu")
CELL += ("generator.selection.method=last", "sampler.batch_size=5", "data.simulation.workers=0")
TRAINING = ("task=train_generator", "generator.steps=200", "generator.checkpoint_every=200")
# Images of 32 px, enough of them for a score to mean something, and a training of half a minute.
CLASSIFIED: tuple[str, ...] = ("classifier=resnet18_quarter", "augmentation=balanced_sampling")
CLASSIFIED += ("scale.image_size=32", "evaluation.prevalence=test")
CLASSIFIED += ("classifier.steps=150", "classifier.validate_every=50", "classifier.batch_size=32")
CLASSIFIED += ("scale.counts.train={protein:300,silicone_oil:60,air_bubble:60}",)
CLASSIFIED += ("scale.counts.test={protein:1000,silicone_oil:300,air_bubble:300}",)
SEVERAL_NODES = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(
    folder: Path, artifacts: str, *arguments: str, **environment: str
) -> subprocess.Popen[bytes]:
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


def compare(name: str, one: Path, two: Path) -> None:
    (metrics, own), (others, other) = tested(one), tested(two)
    apart = max(abs(metrics[key] - others[key]) for key in metrics)
    print(f"{name}: {len(other)} images, metrics differ by {apart:.1g}, probabilities by "
          f"{abs(own - other).max():.1g}", flush=True)  # fmt: skip


def on_two_nodes(folder: Path, artifacts: str, *arguments: str) -> None:
    """Two commands on this machine, as on two nodes with one process each."""
    arguments += ("trainer.devices=1", "trainer.num_nodes=2")
    nodes = [start(folder, artifacts, *arguments, NODE_RANK=str(k), **SEVERAL_NODES)
             for k in range(2)]  # fmt: skip
    print("two nodes: exit status", [node.wait() for node in nodes], flush=True)


def classified(folder: Path, by: str, seed: int) -> Path:
    """Outputs of a classifier trained and tested by so many processes, or by two ``nodes``."""
    outputs = folder / f"classified_by_{by}" / f"seed{seed}"
    if not list(outputs.rglob("results.json")):
        if not (folder / "classified" / "store").is_dir():
            run(folder, "classified", "task=ingest", "trainer.devices=1", *CLASSIFIED)
        own = outputs / "artifacts"
        shutil.copytree(folder / "classified" / "store", own / "store", dirs_exist_ok=True)
        settings = (*CLASSIFIED, f"seed={seed}", f"paths.outputs={outputs}")
        if by == "nodes":
            on_two_nodes(folder, str(own.relative_to(folder)), *settings)
        else:
            run(folder, str(own.relative_to(folder)), *settings, f"trainer.devices={by}")
    return outputs


def classifiers(folder: Path, numbers: Sequence[int], seeds: int) -> None:
    """Test metrics of classifiers by number of processes: the spread of seeds beside theirs."""
    for name in ("macro_auprc", "macro_f1"):
        found = np.array([
            [tested(classified(folder, str(number), seed))[0][name] for seed in range(seeds)]
            for number in numbers
        ])  # fmt: skip
        for number, row in zip(numbers, found, strict=True):
            spread = f"mean {row.mean():.4f}, standard deviation {row.std(ddof=1):.4f}"
            print(f"classifiers of {number}: {name} {np.round(row, 4)}, {spread}", flush=True)
        for number, apart in zip(numbers[1:], found[1:] - found[0], strict=True):
            half = stats.sem(apart) * stats.t.ppf(0.975, len(apart) - 1)
            mean = apart.mean() + half * np.array([0, -1, 1])
            print(f"{number} less {numbers[0]}, same seed: {name} {np.round(mean, 4)}", flush=True)


def killed(folder: Path, main_process: bool) -> None:
    """SIGKILL to one of two processes that train: what the other says, and how both end."""
    adopt_orphans()  # so that the status of the other is known where its parent does not ask
    steps = ("classifier.steps=100000", "classifier.validate_every=100000")
    settings = ("task=train_classifier", "augmentation=none", "trainer.devices=2", *steps)
    outputs = f"paths.outputs={folder / 'killed'}"
    logs = "made_by_1/classifier/*.partial/logs/attempt_*"
    before = len(list(folder.glob(logs)))
    both = start(folder, "made_by_1", *settings, outputs)
    log = max(folder.glob("*.log"))
    while len(list(folder.glob(logs))) == before:  # written once both are connected
        time.sleep(0.1)
    other = int(Path(f"/proc/{both.pid}/task/{both.pid}/children").read_text().split()[-1])
    os.kill(both.pid if main_process else other, signal.SIGKILL)
    started, statuses = time.monotonic(), [both.wait()]
    with suppress(ChildProcessError):  # its parent has asked
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
    said = [line for line in log.read_text().splitlines() if line.startswith("Error: ")]
    which = "main process" if main_process else "other process"
    seconds = time.monotonic() - started
    print(f"{which} killed: exit status {statuses} after {seconds:.0f} s, said: {said}", flush=True)


def processes(folder: Path, number: int) -> None:
    """So many test the classifier of one, and draw with its generator."""
    outputs = folder / f"tested_by_{number}"
    run(folder, "made_by_1", f"trainer.devices={number}", f"paths.outputs={outputs}")
    compare(f"{number} processes", folder / "tested_by_1", outputs)
    (pool,) = (folder / "made_by_1").glob("synthetic/*/manifest.json")
    same = sampled(folder, number) == Store.open(pool.parent).sha256
    print(f"{number} processes draw the pool of one: {same}", flush=True)


def nodes(folder: Path) -> None:
    """Two "nodes" test as one process, and train as two processes of one do."""
    outputs = folder / "tested_by_nodes"
    on_two_nodes(folder, "made_by_1", f"paths.outputs={outputs}")
    compare("two nodes against one process", folder / "tested_by_1", outputs)
    trained = [classified(folder, by, 0) for by in ("2", "nodes")]
    compare("trained by two nodes against two processes of one", *trained)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/distributed"))
    parser.add_argument("--processes", default="2,4")
    parser.add_argument("--seeds", type=int, default=3, help="trained by each number of processes")
    parser.add_argument("--checks", default="testing,nodes,killed,classifiers,generators")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    numbers, checks = [*map(int, options.processes.split(","))], options.checks.split(",")
    if checks != ["classifiers"]:
        run(folder, "made_by_1", "trainer.devices=1", f"paths.outputs={folder / 'tested_by_1'}")
    if "testing" in checks:
        for number in numbers:
            processes(folder, number)
    if "nodes" in checks:
        nodes(folder)
    if "killed" in checks:
        killed(folder, main_process=False)
        killed(folder, main_process=True)
    if "classifiers" in checks:
        classifiers(folder, (1, *numbers), options.seeds)
    if "generators" in checks:
        for number in (1, *numbers):
            errors = [trained(folder, number, seed) for seed in range(options.seeds)]
            print(f"generators of {number}: held-out errors {np.round(errors, 4)}", flush=True)


if __name__ == "__main__":
    main()
