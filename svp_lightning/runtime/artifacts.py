"""Stage outputs addressed by the hash of (settings that matter, inputs).

An artifact is a directory ``<root>/<stage>/<key>``. It is built in ``<key>.partial`` behind a
lock and renamed when whole, so whoever finds the directory finds all of it. A killed build
leaves its partial directory, and the next call hands it to the stage, which resumes.

Under distributed running the main process decides and the others follow: they wait for what it
builds alone, and join it in stages that every rank works on (training).
"""

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from svp_lightning import __version__
from svp_lightning.errors import ArtifactError, DataError, SettingsError, StoreError
from svp_lightning.runtime.clock import Clock, device, running_clock
from svp_lightning.runtime.distributed import is_main_process, launch_id, wait
from svp_lightning.runtime.files import (
    below,
    checked_hash,
    explaining_write_errors,
    json_object,
    locked,
    sha256_of_file,
    sha256_of_json,
    write_json,
)

RECORD, JOINING = "artifact.json", ".joining"
KEY_LENGTH = 16
CHECKED_BY_STORES = "images.npy"
"""Large; a store checks its SHA-256 when it is opened."""

STAGE_VERSIONS = {
    "store": 10,
    "generator": 8,
    "synthetic": 2,
    "looks": 4,
    "simulated": 5,
    "joined": 2,
    "classifier": 5,
    "features": 1,
    "hardest": 2,
    "fidelity": 5,
    "filtered": 1,
    "import": 8,
    "evaluation": 1,
}
"""Raised when a stage's code changes what it makes from the same settings.

Two are no stages of their own. ``import`` is part of a store of real images, so that raising it
simulates none again. ``evaluation`` stands for what a run's folder holds (numbers, thresholds and
``reference.safetensors``) of the same classifier: raising it evaluates runs again and trains none.
"""


@dataclass(frozen=True)
class ArtifactCache:
    """The directory of finished and unfinished stage outputs, made when first needed.

    ``announce`` gets one line of text when something is built, reused or waited for.
    """

    root: Path
    announce: Callable[[str], None] = lambda _: None
    rebuild: bool = False

    def path(self, stage: str, identity: Mapping[str, Any]) -> Path:
        """Where the artifact of ``stage`` made from ``identity`` lives, built or not."""
        key = sha256_of_json(
            {"stage": stage, "version": STAGE_VERSIONS[stage], "identity": identity}
        )
        return self.root / stage / key[:KEY_LENGTH]

    def build(
        self,
        stage: str,
        identity: Mapping[str, Any],
        make: Callable[[Path], None],
        every_rank: bool = False,
    ) -> Path:
        """Return the finished artifact, making it first where it is missing.

        Args:
            stage: a key of :data:`STAGE_VERSIONS`.
            identity: plain JSON values that decide the content: settings and input hashes.
            make: fills the directory it is given, which may hold an interrupted attempt.
            every_rank: whether all processes of a distributed launch work on this stage.

        Raises:
            ArtifactError: what is there is corrupt or was made by something else, and
                ``rebuild`` is off.
        """
        path = self.path(stage, identity)
        if not is_main_process():
            self._follow(path, stage, identity, make, every_rank)
        elif not self._usable(path, stage, identity):
            with explaining_write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            with self.lock(path):
                if not self._usable(path, stage, identity):
                    self._set_aside(path)
                    self._make(path, stage, identity, make)
        check(path, stage, identity)
        return path

    def _usable(self, path: Path, stage: str, identity: Mapping[str, Any]) -> bool:
        """Whether the artifact is there, and whole where a damaged one is to be rebuilt."""
        if not (self.rebuild and path.is_dir()):
            return (path / RECORD).is_file()
        with suppress(ArtifactError):
            check(path, stage, identity)
            return True
        return False

    def _set_aside(self, path: Path) -> None:
        if self.rebuild and path.is_dir():
            aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
            self.announce(f"{path} is damaged: set aside as {aside.name}")
            with explaining_write_errors(path):
                path.rename(aside)

    def finished(self, stage: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Folder and identity of every finished artifact of a stage, of its present version."""
        for record in sorted((self.root / stage).glob(f"*/{RECORD}")):
            found = json_object(record)
            current = found.get("version") == STAGE_VERSIONS[stage]
            if current and "identity" in found and not record.parent.suffix:  # .damaged-…
                yield record.parent, found["identity"]

    def _make(
        self, path: Path, stage: str, identity: Mapping[str, Any], make: Callable[[Path], None]
    ) -> None:
        partial = partial_path(path)
        resumed = partial.exists()
        spent = path.with_suffix(".cost.json")
        if not resumed:
            spent.unlink(missing_ok=True)
        self.announce(f"{'Resuming' if resumed else 'Building'} {stage} {path.name}")
        with explaining_write_errors(partial):
            partial.mkdir(exist_ok=True)
            (partial / JOINING).write_text(launch_id())
            try:
                with running_clock(partial, spent) as clock:
                    make(partial)
            except (DataError, SettingsError, StoreError):
                # Wrong input leaves nothing behind, and takes nothing that was there before it:
                # a mistyped flag must not cost an interrupted training its checkpoint, nor one
                # that is found out late all of the training.
                if not resumed and not any(partial.rglob("*.ckpt")):
                    shutil.rmtree(partial)
                raise
            (partial / JOINING).unlink()
        write_json(partial / RECORD, _record(partial, stage, identity, clock))
        with explaining_write_errors(path):
            partial.rename(path)
            spent.unlink(missing_ok=True)

    def _follow(
        self,
        path: Path,
        stage: str,
        identity: Mapping[str, Any],
        make: Callable[[Path], None],
        every_rank: bool,
    ) -> None:
        """What a process other than the main one does: join it, or wait for its result."""
        joining = partial_path(path) / JOINING
        while every_rank and not self._usable(path, stage, identity):
            if joining.is_file() and joining.read_text() == launch_id():
                make(partial_path(path))
                break
            wait(self.root)
        while not self._usable(path, stage, identity):
            wait(self.root)

    @contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        """Hold ``<path>.lock``, waiting (and saying so) while another process holds it.

        Raises:
            RuntimeError: a script is imported by a process that it has started and waits for.
        """
        # As multiprocessing itself finds out, but before this process waits for its parent's lock.
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError("Put what the script runs below `if __name__ == '__main__':`.")
        line = f"Waiting for another process that builds {path.parent.name} {path.name}"
        with locked(path.with_suffix(".lock"), lambda: self.announce(line)):
            yield


def partial_path(path: Path) -> Path:
    """The directory in which the artifact at ``path`` is being made."""
    return path.with_name(path.name + ".partial")


def check(path: Path, stage: str, identity: Mapping[str, Any]) -> None:
    """Refuse an artifact that is not what its name promises.

    Raises:
        ArtifactError: the record is unreadable or of another stage or identity, or a file is
            missing or has changed.
    """
    remedy = f"Run the command again with artifacts=rebuild, or delete {path} first."
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        files: dict[str, dict[str, Any]] = record["files"]
        made_from = (record["stage"], record["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path / RECORD} cannot be read: {error!r}.", remedy) from error
    if made_from != (stage, json.loads(json.dumps(identity))):
        raise ArtifactError(f"{path / RECORD} is of another stage or of other settings.", remedy)
    for name, facts in files.items():
        file = below(path, name)
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            raise ArtifactError(f"{file} is missing or has another size than recorded.", remedy)
        if "sha256" in facts and checked_hash(file) != facts["sha256"]:
            raise ArtifactError(f"{file} has changed since it was written.", remedy)


def cost_of(path: Path) -> dict[str, float] | None:
    """What making an artifact took, all attempts together; None where no record says so."""
    found: dict[str, float] | None = json_object(path / RECORD).get("cost")
    return found


def device_of(path: Path) -> str:
    """What an artifact was made on; "" where no record says so."""
    return str(json_object(path / RECORD).get("device", ""))


def _record(partial: Path, stage: str, identity: Mapping[str, Any], clock: Clock) -> dict[str, Any]:
    files: dict[str, dict[str, Any]] = {}
    for file in sorted(p for p in partial.rglob("*") if p.is_file()):
        facts: dict[str, Any] = {"bytes": file.stat().st_size}
        if file.name != CHECKED_BY_STORES:
            facts["sha256"] = sha256_of_file(file)
        files[file.relative_to(partial).as_posix()] = facts
    return {
        "stage": stage,
        "version": STAGE_VERSIONS[stage],
        "identity": dict(identity),
        "files": files,
        "device": device(clock.processes),
        "cost": clock.read(),
        "package_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
