"""Runs ``python -m svp_lightning`` again and again, and kills it at moments of its own.

    python killed_at.py FOLDER PATTERN [PATTERN …] -- [overrides …]

Every run is a fork of this process, which has imported the program and done nothing else: imports
take longer than the stages that are to be killed. A run sends itself SIGKILL at the first thing it
does with a file once FOLDER holds one that matches its PATTERN. A watcher from outside can come too
late: on a busy machine a stage of a second is over between two looks. The last run has no pattern
and goes to its end. Prints a line of JSON after every run: its pattern and exit status, whether a
file that matches is there, and whether results are.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from svp_lightning.__main__ import main as program
from tests.narrow import leave_out_pictures_of_generators, use_narrow_backbones

ACTIONS = {"open", "os.rename", "os.remove", "os.rmdir"}


def main() -> None:
    """One run after another."""
    importlib.import_module("svp_lightning.commands.evaluate")  # and with it torch, Lightning …
    patch = pytest.MonkeyPatch()
    use_narrow_backbones(patch)
    leave_out_pictures_of_generators(patch)
    end = sys.argv.index("--")
    folder, patterns = Path(sys.argv[1]), sys.argv[2:end]
    sys.argv[1:] = sys.argv[end + 1 :]
    for pattern in [*patterns, ""]:
        child = os.fork()
        if not child:
            if pattern:
                sys.addaudithook(Killer(folder, pattern))
            program()
            return
        _, status = os.waitpid(child, 0)
        ended = {
            "pattern": pattern,
            "status": os.waitstatus_to_exitcode(status),
            "caught": bool(pattern and any(folder.glob(pattern))),
            "finished": any(Path.cwd().rglob("results.json")),
        }
        print(json.dumps(ended), flush=True)


class Killer:
    """Looks for the file at every action of the process, and kills it."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder, self.pattern, self.looking = folder, pattern, False

    def __call__(self, action: str, _: object) -> None:
        if action not in ACTIONS or self.looking:
            return
        self.looking = True  # looking is itself an action
        if any(self.folder.glob(self.pattern)):
            os.kill(os.getpid(), signal.SIGKILL)
        self.looking = False


if __name__ == "__main__":
    main()
