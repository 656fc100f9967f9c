"""The audit trail: a line for each result that a task has written, chained by hashes.

Every line holds the hash of the one before, so a line that is changed, removed, inserted or moved
breaks the chain, and a second file names the last line, so that lines missing at the end are
noticed, too. Whoever can write both files can make up a new trail; note the last hash elsewhere
(a laboratory notebook, a signed mail) to exclude that.
"""

import errno
import getpass
import json
import os
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from svp_lightning import __version__
from svp_lightning.errors import ArtifactError
from svp_lightning.runtime.files import (
    checked_hash,
    explaining_write_errors,
    locked,
    sha256_of_file,
    sha256_of_json,
    write_json,
)
from svp_lightning.runtime.terminal import say

TRAIL, LAST = "audit_trail.jsonl", "audit_trail_last.json"
RESULTS = {".json", ".parquet", ".csv", ".ckpt", ".safetensors", ".yaml", ".onnx"}
"""Files that are recorded; reports and figures are drawn from them."""
OF_LOGGERS = {"wandb"}
"""Folders whose contents change later, when they are synchronised."""
START = "0" * 64


def record(
    folder: Path,
    task: str,
    written: Path,
    facts: Mapping[str, Any],
    derived: Collection[str] = (),
) -> None:
    """Append a line about what a task has written below ``written``; ``facts`` are part of it.

    ``derived`` names files that are made of recorded ones, and may be made again.

    Raises:
        ArtifactError: the last line cannot be read, or the disk is full.
    """
    names = sorted(file.relative_to(written) for file in written.rglob("*") if file.is_file())
    left_out = OF_LOGGERS.union(derived)
    kept = [name for name in names if name.suffix in RESULTS and name.parts[0] not in left_out]
    hashes = {name.as_posix(): sha256_of_file(written / name) for name in kept}
    with explaining_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / f".{TRAIL}.lock"
        with locked(lock, lambda: say(f"Waiting for another process that holds {lock}")):
            last = _last(folder / TRAIL)
            line = {
                "number": last["number"] + 1,
                "previous": last["hash"],
                "when": datetime.now(UTC).isoformat(timespec="seconds"),
                "who": _user(),
                "task": task,
                "folder": os.path.relpath(written, folder),
                "files": hashes,
                "version": __version__,
                **facts,
            }
            line["hash"] = sha256_of_json(line)
            _append(folder / TRAIL, json.dumps(line, sort_keys=True) + "\n")
            write_json(folder / LAST, {"number": line["number"], "hash": line["hash"]})


def _append(file: Path, text: str) -> None:
    """Add a line, or nothing where the disk is full."""
    with file.open("ab", buffering=0) as opened:
        before, content = opened.tell(), text.encode()
        try:
            if opened.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(opened.fileno())
        except OSError:
            opened.truncate(before)
            raise


def recorded(folder: Path, written: Path, name: str) -> bool:
    """Whether the trail has a line about ``written`` with its file ``name`` as it is now."""
    if not (folder / TRAIL).is_file():
        return False
    place, wanted = os.path.relpath(written, folder), checked_hash(written / name)
    lines = map(_parsed, (folder / TRAIL).read_text(encoding="utf-8").splitlines())
    return any(
        line.get("folder") == place and line.get("files", {}).get(name) == wanted for line in lines
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f"user {os.getuid()}"


def _last(trail: Path) -> dict[str, Any]:
    lines = trail.read_text(encoding="utf-8").splitlines() if trail.is_file() else []
    if not lines:
        return {"number": 0, "hash": START}
    try:
        last = json.loads(lines[-1])
        return {"number": int(last["number"]), "hash": str(last["hash"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"The last line of {trail} is broken, so nothing can be added to it.",
            "Keep a copy of the file, move it to another folder and run the command again.",
        ) from error


def verify(folder: Path) -> list[dict[str, Any]]:
    """The lines of the trail, if none was changed, removed, inserted or moved.

    Raises:
        ArtifactError: naming the first line that does not fit.
    """
    trail = folder / TRAIL
    if not trail.is_file():
        raise ArtifactError(f"There is no audit trail in {folder}.", "Give paths.outputs.")
    lines, previous = [], START
    for number, text in enumerate(trail.read_text(encoding="utf-8").splitlines(), start=1):
        line = _parsed(text)
        own = line.pop("hash", None)
        if own != sha256_of_json(line):
            raise _broken(trail, number, "was changed")
        if line.get("number") != number or line.get("previous") != previous:
            raise _broken(trail, number, "does not follow the line before: lines were removed, "
                          "inserted or moved")  # fmt: skip
        previous = own
        lines.append(line | {"hash": own})
    last = _parsed((folder / LAST).read_text()) if (folder / LAST).is_file() else {}
    # A task that was killed between the two files leaves one line more than the second one names.
    if last.get("hash") not in [line["hash"] for line in lines[-2:]]:
        raise _broken(trail, len(lines), f"is not the last that {LAST} names: "
                      "lines are missing at the end")  # fmt: skip
    return lines


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _broken(trail: Path, number: int, what: str) -> ArtifactError:
    return ArtifactError(
        f"Line {number} of {trail} {what}.",
        "Compare the file with a backup: what follows this line is not supported by the trail.",
    )


def changed_files(folder: Path, lines: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Recorded results that are other files now, and those that are gone.

    Where several lines name a file, the last one counts.
    """
    recorded = {
        os.path.normpath(os.path.join(line["folder"], name)): wanted
        for line in lines
        for name, wanted in line["files"].items()
    }
    there = {name: wanted for name, wanted in recorded.items() if (folder / name).is_file()}
    changed = [n for n, wanted in there.items() if sha256_of_file(folder / n) != wanted]
    return changed, sorted(recorded.keys() - there.keys())
