"""The paper's question on one data-centre GPU in some minutes; see README.md.

    python experiments/gpu/gpu_study.py --minutes 12 --call 9

The same command again continues with what is left of the minutes. All work is done by the stages
and commands of the package; this file decides what comes when, and what still fits.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from keeping import hand_out, not_kept, refuse_excess
from pacing import SHARES, Clock, DoesNotFitError, pace

from svp_lightning.__main__ import configured
from svp_lightning.config import run_folder
from svp_lightning.errors import SvpError, TrainingError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.files import SWEEP_MEMORY
from svp_lightning.runtime.terminal import duration, say
from svp_lightning.stages.run_folder import finished

ARMS = (
    "augmentation=none",
    "augmentation=duplicate augmentation.ratio=10",
    "augmentation=oracle augmentation.ratio=10",
    "augmentation=diffusion augmentation.ratio=1",
    "augmentation=diffusion augmentation.ratio=10",
)
"""The last one's pool, 10 images for each of 2,000 real ones, holds those of the others."""
PAPER = (
    "scale=paper",
    "scale.counts.train.protein=30000",
    "scale.counts.val.protein=10000",
    "data.simulation.chunk_size=1024",
    "data.prevalence={protein: 1000, silicone_oil: 1, air_bubble: 1}",
    "generator.network.block_channels=[96,160,256]",
    "generator.steps=8000",
    "generator.batch_size=512",
    "generator.learning_rate=1e-3",
    "generator.selection.method=last",
    "sampler.batch_size=1000",
    "sampler.compile=true",
    "classifier.steps=2000",
    "classifier.validate_every=500",
    "evaluation.batch_size=4096",
    "evaluation.bootstrap_resamples=200",
)
TINY = (
    "scale=tiny",
    "classifier.validate_every=4",
    "data.prevalence={protein: 5, silicone_oil: 1, air_bubble: 1}",
)
"""The rehearsal: the same phases in seconds."""
NO_TEST = "scale.counts.test={protein: 16, silicone_oil: 16, air_bubble: 16}"
"""Training does not wait for the large test split: the images of a split are the same whatever the
counts of the others."""


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Send what this process prints into a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        yield


@dataclass(frozen=True)
class Study:
    """What is run, and where.

    Attributes:
        folder: of artifacts, runs and logs; kept from call to call.
        base: overrides of every configuration.
        fused: overrides with which the generator is trained and sampled from.
    """

    folder: Path
    base: tuple[str, ...]
    fused: tuple[str, ...]

    def changed(self, *overrides: str) -> "Study":
        """The same with further overrides of every configuration."""
        return replace(self, base=(*self.base, *overrides))

    def pipeline(
        self, *overrides: str, full: bool = False, callbacks: Sequence[Any] = ()
    ) -> Pipeline:
        """The pipeline of a configuration, with the large test split or with a small one."""
        config = configured(*self.base, *overrides, *(() if full else (NO_TEST,)))
        return Pipeline(
            config, run_folder(config), lambda group: [*callbacks] if group == "callbacks" else []
        )

    def render(self) -> None:
        """The store with the test images; other processes wait for its lock."""
        if parent_process() is not None:
            os.nice(10)  # for good, so not in the process that trains
        with logged(self.folder / "logs/render.log"):
            _ = self.pipeline("augmentation=none", full=True).store

    def cell(self, arm: str, seed: int) -> str:
        """Train a classifier, test it, and give the folder of the run."""
        from svp_lightning.commands import evaluate

        overrides = (*arm.split(), f"seed={seed}")
        run = self.pipeline(*overrides, full=True)
        if not finished(run.run_dir):
            with logged(self.folder / f"logs/{run.config.name}_seed{seed}.log"):
                training = self.pipeline(*overrides)
                run.classifier = training.classifier
                if training.config.augmentation.needs_pool:
                    run.pool = training.pool
                if training.config.augmentation.needs_generator:
                    run.generator = training.generator
                with training, run:
                    evaluate.run(run)
        return str(run.run_dir)


def train_generator(study: Study, clock: Clock) -> Study:
    """Train the generator with as many steps as fit; the study whose cells use it.

    Raises:
        TrainingError: none fit.
    """
    arm, left = ARMS[-1].split(), partial(clock.until, "generator")
    steps = clock.facts.get("generator_steps")
    while True:
        found = study if steps is None else study.changed(f"generator.steps={steps}")
        callback = pace(left, lambda: clock.until("classifiers"))
        training = found.pipeline(*arm, *study.fused, callbacks=[callback])
        steps = training.config.generator.steps
        try:
            with training:
                say(f"  {steps:,} steps: {training.generator}")
            clock.note(generator_steps=steps)
            return found
        except DoesNotFitError as slow:
            if slow.steps < 1:
                remedy = "Give more minutes."
                raise TrainingError("No time is left for a generator.", remedy) from slow
            say(f"  {steps:,} steps do not fit, {slow.steps:,} do.")
            steps = slow.steps
            clock.note(generator_steps=steps)


def run_cells(study: Study, clock: Clock, arms: Sequence[str], seeds: int, jobs: int) -> int:
    """Train and test seed after seed of all arms while they fit; the number of whole seeds."""
    done, longest, together = 0, 0.0, max(1, jobs // len(arms))
    with cell_runner(jobs) as submit:
        while done < seeds:
            start, batch = time.monotonic(), range(done + 1, min(done + together, seeds) + 1)
            if clock.until("classifiers") < longest:
                say(f"  No time is left for another {duration(longest)}.")
                break
            cells = [submit(study.cell, arm, seed) for seed in batch for arm in arms]
            _, late = wait(cells, timeout=max(0.0, clock.until("classifiers")))
            if late:
                say(f"  Out of time: {len(late)} of {len(cells)} classifiers are not finished.")
                break
            if errors := [error for cell in cells if (error := cell.exception())]:
                say(f"  {len(errors)} of {len(cells)} classifiers failed: {errors[0]!r}")
                break
            done, longest = batch[-1], max(longest, time.monotonic() - start)
            clock.note(seeds=done)
            say(f"  Seeds 1 to {done} of {len(arms)} arms: {duration(time.monotonic() - start)}")
    return done


@contextmanager
def cell_runner(jobs: int) -> Iterator[Callable[..., "Future[str]"]]:
    """Runs calls in so many processes, or at once in this one for 0; ends what is left."""
    if not jobs:
        yield _at_once
        return
    executor = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (jobs,))
    try:
        yield executor.submit
    finally:
        workers = list((executor._processes or {}).values())
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()


def _at_once(call: Callable[..., str], *arguments: Any) -> "Future[str]":
    future: Future[str] = Future()
    try:
        future.set_result(call(*arguments))
    except SvpError as error:
        future.set_exception(error)
    return future


def _start_worker(jobs: int) -> None:
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))


@contextmanager
def rendering(study: Study, aside: bool) -> Iterator[None]:
    """The test images in a process of low priority, or at once in this one."""
    if not aside:
        study.render()
        yield
        return
    process: BaseProcess = get_context("spawn").Process(target=study.render)
    process.start()
    try:
        yield
    finally:
        process.terminate()  # its own workers leave with it


def collect(study: Study, trained: bool, out: Path) -> None:
    """Write the study's report, and what is to be kept of it: an archive, and the weights.

    ``trained`` says whether there is a generator.

    Raises:
        SvpError: it is more than may come out.
    """
    from svp_lightning.generator.settings import INFO, WEIGHTS
    from svp_lightning.report.study import study_report
    from svp_lightning.report.study_runs import read_study
    from svp_lightning.report.study_tables import print_table, study_table

    runs, kept = study.folder / "outputs/gpu", study.folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    for folder in (kept, out):
        folder.mkdir(parents=True, exist_ok=True)
    if any(runs.rglob("results.json")):
        study_report(runs)
        print_table(study_table(read_study(runs)))
        shutil.copytree(runs, kept, ignore=not_kept, dirs_exist_ok=True)
    if (study.folder / "logs").is_dir():
        shutil.copytree(study.folder / "logs", kept / "logs", dirs_exist_ok=True)
    shutil.copyfile(study.folder / "study.json", kept / "study.json")
    if trained:
        generator = study.pipeline(*ARMS[-1].split()).generator
        shutil.copytree(generator / "figures", kept / "generator")
        shutil.copyfile(generator / INFO, kept / "generator" / INFO)
        hand_out(generator / WEIGHTS, out)
    hand_out(Path(shutil.make_archive(str(study.folder / "study"), "zip", kept)), out)
    say(f"Kept: {', '.join(sorted(file.name for file in out.iterdir()))} in {out}")
    refuse_excess(out)


def announce(arguments: argparse.Namespace, clock: Clock) -> None:
    """Print the plan."""
    say(f"{duration(clock.total)} in all, {duration(clock.left)} of them in this call.")
    end = 0.0
    for phase, share in SHARES.items():
        end += share * clock.total
        say(f"  {phase:<12} until {duration(end)}")
    say(f"  {len(ARMS)} arms, up to {arguments.seeds} seeds, {arguments.jobs} classifiers at once")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=12, help="of all calls together")
    parser.add_argument("--call", type=float, default=9, help="minutes of this call at most")
    parser.add_argument("--seeds", type=int, default=10, help="at most")
    parser.add_argument("--jobs", type=int, default=2 * len(ARMS), help="classifiers at once")
    parser.add_argument("--folder", type=Path, default=Path("build/gpu"), help="kept between calls")
    parser.add_argument("--out", type=Path, help="of results; default: FOLDER/out")
    parser.add_argument("--tiny", action="store_true", help="rehearse in seconds on a CPU")
    parser.add_argument(
        "overrides", nargs="*", help="further settings, such as data.rare_images=100"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the phases that are left, and keep what there is when the time is over."""
    args = parse(arguments)
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[SWEEP_MEMORY] = str(folder / "memory")  # large stores are hashed once
    clock = Clock(folder / "study.json", 60 * args.minutes, 60 * args.call)
    paths = (f"paths.artifacts={folder}/artifacts", f"paths.outputs={folder}/outputs", "study=gpu")
    base = (*(TINY if args.tiny else PAPER), *paths, *args.overrides)
    study = Study(folder, base, () if args.tiny else ("trainer.compile=true",))
    announce(args, clock)
    arms: tuple[str, ...] = ARMS
    with clock.phase("images"):
        _ = study.pipeline(*ARMS[0].split()).store
    with rendering(study, aside=args.jobs > 0):
        try:
            with clock.phase("generator"):
                study = train_generator(study, clock)
            with clock.phase("pool"):
                for arm in reversed(ARMS):
                    _ = study.pipeline(*arm.split()).rows
        except TrainingError as error:
            say(f"  {error}")
            arms = tuple(arm for arm in ARMS if "diffusion" not in arm)
        with clock.phase("classifiers"):
            run_cells(study, clock, arms, args.seeds, args.jobs)
    with clock.phase("report"):
        collect(study, arms == ARMS, args.out or folder / "out")
    say(f"{duration(clock.spent)} of {duration(clock.total)} are spent.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
