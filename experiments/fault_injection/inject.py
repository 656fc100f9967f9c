"""Disturbs a small run in every way that machines do, and compares what it ends with.

    python experiments/fault_injection/inject.py --folder /tmp/soak [--seconds 170] [PART OF NAME …]

Every case appends a line to results.jsonl; cases that have one are skipped, so the script can be
stopped and started again. It gives itself a name space of its own for small file systems.
"""

import argparse
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attempts import OVERRIDES, STAGES, Ended, attempt, load, results_of, run_of, stage_of, when
from faults import (
    DAMAGES,
    damage,
    end,
    fill,
    jumping_clock,
    mounted,
    move_times,
    small_disk,
    without_locks,
)

RESULTS = Path(__file__).with_name("results.jsonl")
OWN_MOUNTS = "FAULT_INJECTION_OWN_MOUNTS"
"""Environment variable: this process may mount without changing what others see."""
LONGEST_WAIT = 0.5
"""Of the undisturbed run's processor time: a random stop comes within it."""
FULL_AT = (
    *("artifacts/store/*.partial", "artifacts/store/*.partial/rows/*.parquet"),
    *("artifacts/generator/*.partial", "artifacts/generator/*.partial/last.ckpt"),
    *("artifacts/generator/*.partial/model.safetensors", "artifacts/synthetic/*.partial"),
    *("artifacts/synthetic/*.partial/rows/*.parquet", "artifacts/classifier/*.partial"),
    *("artifacts/classifier/*.partial/last.ckpt", "outputs/*/*/classifier.ckpt"),
    *("outputs/*/*/predictions.parquet", "outputs/*/*/results.json"),
    "outputs/*/*/checksums.json",
)
LEFT_BYTES = (0, 30_000)
FOLDERS = ("artifacts", "outputs")
INTERRUPTED = (("last.ckpt", "generator"), ("last.ckpt", "classifier"), ("best.ckpt", "classifier"))
Found = dict[str, Any]


class Soak:
    """Cases in folders below ``root``, compared with the run in ``root/whole``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.whole, clock = root / "whole", root / "seconds"
        if not clock.is_file():
            self.whole.mkdir()
            undisturbed = attempt(self.whole)
            assert undisturbed.status == 0, undisturbed.text
            clock.write_text(str(undisturbed.seconds))
        self.seconds = float(clock.read_text())
        self.expected = results_of(self.whole)

    def cases(self) -> dict[str, Callable[[], Found]]:
        """Name -> what finds out whether the case ends as the undisturbed run."""
        found: dict[str, Callable[[], Found]] = {"undisturbed again": self.again}
        for stop, stories in ((signal.SIGKILL, 14), (signal.SIGTERM, 3)):
            for seed in range(stories):
                found[f"{stop.name}, story {seed}"] = partial(self.stopped, stop, seed)
        found |= {f"disk full, {left} bytes left": partial(self.full, left) for left in LEFT_BYTES}
        found |= {f"read-only {name}": partial(self.read_only, name) for name in FOLDERS}
        found["read-only artifacts, all there"] = self.cached_read_only
        for number in (errno.ENOSYS, errno.ENOLCK):
            found[f"no locks ({errno.errorcode[number]})"] = partial(self.without_locks, number)
        found |= {f"jumping clock, story {seed}": partial(self.jumping, seed) for seed in range(3)}
        found |= {"two runs at once": self.two_runs, "two sweeps at once": self.two_sweeps}
        found |= {"moved in the middle": self.moved, "moved when finished": self.moved_later}
        for kind in DAMAGES:
            found[f"artifacts {kind}"] = partial(self.damaged, kind)
            found[f"run {kind}"] = partial(self.damaged_run, kind)
            for name, stage in INTERRUPTED:
                found[f"{name} of an interrupted {stage} {kind}"] = partial(
                    self.damaged_checkpoint, name, stage, kind
                )
        return found

    def _files(self, folder: Path) -> list[str]:
        files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")
        return sorted(file.relative_to(self.whole).as_posix() for file in files)

    def compared(self, folder: Path, last: Ended, **facts: Any) -> Found:
        """Whether the last attempt succeeded, and which results differ."""
        if last.status:
            return {"same": False, "status": last.status, "text": last.text[-1500:], **facts}
        found = results_of(folder)
        differ = [name for name in self.expected if found.get(name) != self.expected[name]]
        return {"same": not differ, "differ": differ, **facts}

    def again(self) -> Found:
        folder = self.empty()
        return self.compared(folder, attempt(folder))

    def empty(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.root))

    def copy(self) -> Path:
        return Path(shutil.copytree(self.whole, self.empty(), dirs_exist_ok=True))

    def stopped(
        self,
        name: signal.Signals,
        seed: int,
        between: Callable[[Path], None] = lambda _: None,
        disturb: Callable[[], None] = lambda: None,
    ) -> Found:
        """Stopped at random moments until an attempt ends before its moment."""
        folder, draw = self.empty(), random.Random(seed)
        stops: list[str] = []
        while True:
            moment = draw.uniform(0, LONGEST_WAIT * self.seconds)
            ended = attempt(folder, stop=(name, moment), disturb=disturb)
            if ended.status == 0:
                return self.compared(folder, ended, stops=stops)
            # Lightning ends a training in order on SIGTERM, with status 1 and nothing to say.
            in_order = name == signal.SIGTERM and ended.status == 1 and not ended.complains
            if ended.status not in (-name, 128 + name) and not in_order:
                return self.compared(folder, ended, stops=stops)
            stops.append(stage_of(folder))
            between(folder)

    def full(self, left: int) -> Found:
        """A disk that fills up at each moment in turn, and is freed again."""
        with small_disk(self.root) as folder:
            said: list[str] = []
            for pattern in FULL_AT:
                act = partial(when, Path(), pattern, partial(fill, left))
                ended = attempt(folder, disturb=act)
                Path(folder / "ballast").unlink(missing_ok=True)
                if ended.status == 0:  # what was left was enough
                    shutil.rmtree(run_of(folder))
                    continue
                if "No space left" not in ended.error:
                    return self.compared(folder, ended, at=pattern, said=said)
                said.append(pattern)
            return self.compared(folder, attempt(folder), said=said)

    def read_only(self, name: str) -> Found:
        folder = self.empty()
        (folder / name).mkdir()
        with mounted(folder / name, "ro"):
            refused = attempt(folder)
        ended = attempt(folder)
        return self.compared(folder, ended, said=refused.error) | (
            {} if refused.error else {"same": False, "text": refused.text[-1500:]}
        )

    def cached_read_only(self) -> Found:
        folder = self.copy()
        shutil.rmtree(folder / "outputs")
        subprocess.run(["mount", "--bind", folder / "artifacts", folder / "artifacts"], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder / "artifacts"], check=True)
        try:
            return self.compared(folder, attempt(folder))
        finally:
            subprocess.run(["umount", folder / "artifacts"], check=True)

    def without_locks(self, number: int) -> Found:
        disturb = partial(without_locks, number)
        folder = self.empty()
        killed = attempt(folder, disturb=disturb, stop=(signal.SIGKILL, 2.0))
        ended = attempt(folder, disturb=disturb)
        said = [line for line in ended.text.splitlines() if "lock" in line.lower()][:2]
        return self.compared(folder, ended, said=said, killed=killed.status)

    def jumping(self, seed: int) -> Found:
        """``time.time`` jumps by days, and so do the times of the files between attempts."""
        draw = random.Random(100 + seed)
        between, disturb = partial(move_times, draw), partial(jumping_clock, draw)
        return self.stopped(signal.SIGKILL, 1000 + seed, between, disturb)

    def two_runs(self) -> Found:
        folder = self.empty()
        other = os.fork()
        if not other:
            os._exit(attempt(folder).status)
        ended = attempt(folder)
        status = os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
        return self.compared(folder, ended, other=status) | ({} if status == 0 else {"same": False})

    def two_sweeps(self) -> Found:
        folder = self.empty()
        command = [sys.executable, "-m", "svp_lightning", "-m", *OVERRIDES, "seed=1,2"]
        sweeps = [
            subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},  # as in the undisturbed run
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for _ in range(2)
        ]
        texts = [sweep.communicate()[0].decode() for sweep in sweeps]
        ends = [Ended(sweep.returncode, 0, text) for sweep, text in zip(sweeps, texts, strict=True)]
        return self.compared(folder, max(ends, key=lambda end: abs(end.status)))

    def moved(self) -> Found:
        folder = self.empty()
        caught = "artifacts/classifier/*.partial/last.ckpt"
        attempt(folder, disturb=partial(when, Path(), caught, end))
        return self._after_move(folder, stage=stage_of(folder))

    def moved_later(self) -> Found:
        return self._after_move(self.copy())

    def _after_move(self, folder: Path, **facts: Any) -> Found:
        there = folder.rename(folder.with_name(f"{folder.name} moved"))
        ended = attempt(there)
        built = [
            line for line in ended.text.splitlines() if line.startswith(("Building", "Resuming"))
        ]
        return self.compared(there, ended, built=built, **facts)

    def damaged(self, kind: str) -> Found:
        """Each file of the artifacts is refused by name; all stages at once are made again."""
        folder, unnoticed = self.copy(), []
        shutil.rmtree(folder / "outputs")
        names = [name for stage in STAGES for name in self._files(self.whole / "artifacts" / stage)]
        names = [name for name in names if (self.whole / name).stat().st_size]
        for name in names:
            damage(folder / name, kind)
            refused = attempt(folder).error
            if not ("artifacts=rebuild" in refused and Path(name).name in refused):
                unnoticed.append((name, refused))
            shutil.copy2(self.whole / name, folder / name)
        for stage in STAGES:
            damage(folder / next(name for name in names if f"/{stage}/" in name), kind)
        facts = {"files": len(names), "unnoticed": unnoticed}
        found = self.compared(folder, attempt(folder, "artifacts=rebuild"), **facts)
        return found | ({"same": False} if unnoticed else {})

    def damaged_run(self, kind: str) -> Found:
        """A recorded file of a run is named, and the same command makes the run again."""
        folder, unnoticed = self.copy(), []
        run = run_of(folder)
        names = [*json.loads((run / "checksums.json").read_text()), "checksums.json"]
        for name in names:
            damage(run / name, kind)
            ended = attempt(folder)
            found = self.compared(folder, ended)
            if not found["same"]:
                return found | {"at": name}
            if name not in ended.text and name != "checksums.json":
                unnoticed.append(name)
        return found | {"files": len(names), "unnoticed": unnoticed, "same": not unnoticed}

    def damaged_checkpoint(self, name: str, stage: str, kind: str) -> Found:
        """A checkpoint of a training that was killed: the one before is used, or it starts over."""
        folder = self.empty()
        before = (
            f"artifacts/{stage}/*.partial/last-before.ckpt artifacts/{stage}/*.partial/last.ckpt"
        )
        attempt(folder, disturb=partial(when, Path(), before, end))
        (file,) = folder.glob(f"artifacts/{stage}/*.partial/{name}")
        damage(file, kind)
        ended = attempt(folder)
        return self.compared(folder, ended, named="cannot be read" in ended.text)


def main() -> None:
    """Run the cases that have no line yet, until the time is over."""
    if OWN_MOUNTS not in os.environ:
        os.environ[OWN_MOUNTS] = "1"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", help="parts of names; none: all")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument(
        "--folder", type=Path, required=True, help="of the runs, on a disk of this machine"
    )
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    load()
    done = set()
    if RESULTS.is_file():
        done = {json.loads(line)["case"] for line in RESULTS.read_text().splitlines()}
    arguments.folder.mkdir(exist_ok=True)
    soak = Soak(arguments.folder.resolve())
    wanted = {
        name: case
        for name, case in soak.cases().items()
        if name not in done
        and (not arguments.cases or any(part in name for part in arguments.cases))
    }
    print(f"{len(wanted)} cases; the undisturbed run takes {soak.seconds:.1f} s", flush=True)
    for name, case in [] if arguments.list else wanted.items():
        if time.monotonic() > end:
            break
        found = {"case": name, **case()}
        with RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print("same " if found["same"] else "OTHER", name, found.get("said", ""), flush=True)
        for folder in soak.root.iterdir():
            if folder.is_dir() and folder != soak.whole:
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
