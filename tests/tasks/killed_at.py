"""Runs ``python -m svp_lightning`` in this process and kills it at a moment of its own.

    python killed_at.py FOLDER PATTERN [overrides …]

The process sends itself SIGKILL at the first thing it does with a file once FOLDER holds one that
matches PATTERN. A watcher from outside can come too late: on a busy machine a stage of a second is
over between two looks.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

ACTIONS = {"open", "os.rename", "os.remove", "os.rmdir"}


def main() -> None:
    """Watch every action of the process from now on, and start the program."""
    folder, pattern = Path(sys.argv[1]), sys.argv[2]
    looking = False

    def watch(action: str, _: object) -> None:
        nonlocal looking
        if action not in ACTIONS or looking:
            return
        looking = True  # looking is itself an action
        if any(folder.glob(pattern)):
            os.kill(os.getpid(), signal.SIGKILL)
        looking = False

    sys.addaudithook(watch)
    sys.argv[1:] = sys.argv[3:]
    runpy.run_module("svp_lightning", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
