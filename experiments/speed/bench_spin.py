"""What the spinning of waiting OpenMP threads (GOMP_SPINCOUNT) costs idle and gains next to others.

    python experiments/speed/bench_spin.py                   # on an idle machine
    python experiments/speed/bench_spin.py --next-to busy    # next to a busy process
    python experiments/speed/bench_spin.py --copies 2        # two trainings at once

One process for each count trains the demo's two networks on all cores, a few steps at a time and
in turn with the others, in another order each round. Prints the ratio of the speeds to that of
libgomp's own count, with the 95 % interval over the rounds. With copies, as many processes of one
count train at once, and the time is that of the last one.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import numpy as np
from scipy import stats

OWN = 300_000
"""The count of libgomp where nothing is set."""
COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000, OWN)
STEPS = {"generator": 5, "classifier": 5}
NEIGHBOURS: dict[str, Callable[[list[str]], subprocess.Popen[bytes]]] = {
    "busy": subprocess.Popen,
    "niced": lambda command: subprocess.Popen(["nice", "-n", "19", *command]),
    "session": lambda command: subprocess.Popen(command, start_new_session=True),
}
"""Of the same session and priority, of less, or of another session, as other users' are."""
ASLEEP_SECONDS = 0.05
"""After which the threads of a process that has nothing to do have ended their spinning."""


def step_of(part: str) -> Callable[[], None]:
    """A training step of the demo's generator or classifier on random images."""
    import torch

    from svp_lightning.__main__ import configured
    from svp_lightning.classifier.module import ClassifierModule
    from svp_lightning.generator.denoiser_training import GeneratorModule, build_optimizer
    from svp_lightning.generator.drawing import multiplies_bfloat16

    config, names = configured("+experiment=demo"), ("protein", "silicone_oil", "air_bubble")
    size = config.data.image_size
    assert size is not None
    fast = torch.autocast("cpu", torch.bfloat16, multiplies_bfloat16(torch.device("cpu")))
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    if part == "generator":
        denoiser = GeneratorModule(config.generator, size, 2).denoiser
        optimizer = build_optimizer(denoiser, config.generator)
        batch, loss_of = config.generator.batch_size, denoiser.loss
    else:
        module = ClassifierModule(config.classifier, names, size)
        found = module.configure_optimizers()
        assert isinstance(found, dict)
        optimizer = found["optimizer"]
        batch = config.classifier.batch_size
        loss_of = lambda x, y: torch.nn.functional.cross_entropy(module.network(x), y)  # noqa: E731
    images, labels = torch.rand(batch, 1, size, size) * 2 - 1, torch.arange(batch) % 2

    def step() -> None:
        with fast:
            loss = loss_of(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def serve() -> None:
    """Time some steps of each part for every line of the input."""
    steps = {part: step_of(part) for part in STEPS}
    for _ in sys.stdin:
        seconds = []
        for part, step in steps.items():
            step()  # its memory has to come back into the caches
            start = time.perf_counter()
            for _ in range(STEPS[part]):
                step()
            seconds.append(time.perf_counter() - start)
        print(*seconds, flush=True)


def worker(count: int, threads: int) -> subprocess.Popen[str]:
    environment = os.environ | {"GOMP_SPINCOUNT": str(count), "OMP_NUM_THREADS": str(threads)}
    environment.pop("OMP_WAIT_POLICY", None)
    start = partial(subprocess.Popen[str], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return start([sys.executable, __file__, "--serve"], env=environment)


def turn(processes: Sequence[subprocess.Popen[str]]) -> list[float]:
    """Seconds of each part until the last of the processes has ended it."""
    time.sleep(ASLEEP_SECONDS)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    seconds = []
    for process in processes:
        assert process.stdout is not None
        seconds.append([float(value) for value in process.stdout.readline().split()])
    return [max(part) for part in zip(*seconds, strict=True)]


def main() -> None:
    """Read the command line, measure, print a line for each count and part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=110)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--next-to", choices=NEIGHBOURS, help="a process that is always busy")
    parser.add_argument("--copies", type=int, default=1, help="trainings at once")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
    else:
        report(measure(arguments))


Round = dict[int, list[float]]
"""Count -> seconds of each part."""


def measure(asked: argparse.Namespace) -> list[Round]:
    """Rounds of turns, three at least, after each process has been warmed up."""
    workers = {
        count: [worker(count, asked.threads) for _ in range(asked.copies)]
        for count in {*asked.counts, OWN}
    }
    for processes in workers.values():
        turn(processes)
    endless = [sys.executable, "-c", "while True: pass"]
    neighbours = [NEIGHBOURS[asked.next_to](endless)] if asked.next_to else []
    rounds: list[Round] = []
    try:
        end = time.monotonic() + asked.seconds
        while time.monotonic() < end or len(rounds) < 3:
            order = random.Random(len(rounds)).sample(list(workers), len(workers))
            rounds.append({count: turn(workers[count]) for count in order})
    finally:
        for process in chain.from_iterable(workers.values()):
            process.kill()
        for neighbour in neighbours:
            neighbour.kill()
    return rounds


def report(rounds: list[Round]) -> None:
    for k, (part, steps) in enumerate(STEPS.items()):
        print(f"{part}: {len(rounds)} rounds of {steps} steps")
        for count in sorted(rounds[0]):
            seconds = np.array([one[count][k] for one in rounds])
            ratio = np.log([one[OWN][k] for one in rounds] / seconds)
            half = stats.sem(ratio) * stats.t.ppf(0.975, len(ratio) - 1)
            mean, low, high = np.exp(ratio.mean() + half * np.array([0, -1, 1]))
            print(f"  GOMP_SPINCOUNT={count}: {steps / np.median(seconds):.2f} steps/s, "
                  f"{mean:.3f} [{low:.3f}, {high:.3f}] of libgomp's own")  # fmt: skip


if __name__ == "__main__":
    main()
