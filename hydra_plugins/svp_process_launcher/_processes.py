"""A cell as a process group of its own: started, waited for, and ended with all its ranks."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.05
GRACE_SECONDS = 5.0
"""How long what is left of a cell's group may take to leave before it is killed."""


class CellError(Exception):
    """Why a cell has no result, in a few words."""


def run_cell(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path | None,
    received: Sequence[int] = (),
) -> float | None:
    """Run a cell to its end, or until a signal is ``received``; none of its processes is left.

    Returns:
        The objective, if the cell wrote one.

    Raises:
        CellError: it failed or was stopped.
    """
    with tempfile.TemporaryDirectory(prefix="cell_") as folder:
        result = Path(folder) / "result.json"
        process = start(command, {**environment, "SVP_CELL_RESULT": str(result)}, log)
        try:
            while process.poll() is None and not received:
                time.sleep(POLL_SECONDS)
        finally:
            status = process.returncode
            left = received[0] if received else signal.SIGTERM if status != 0 else None
            end(process, left, received)
        if failure := _in_words(status):
            raise CellError(failure)
        return _objective(result) if result.exists() else None


def _in_words(status: int | None) -> str | None:
    if status is None:
        return "stopped"
    if status >= 0:
        return f"exit status {status}" if status else None
    hint = " (often: out of memory)" if status == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-status).name}{hint}"


def _objective(result: Path) -> float:
    try:
        return float(json.loads(result.read_text())["objective"])
    except (ValueError, KeyError, TypeError) as error:
        raise CellError(
            f'wrote no {{"objective": number}} to SVP_CELL_RESULT ({error!r})'
        ) from error


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Record SIGINT, SIGTERM and SIGHUP in a list instead of ending; ignored ones stay ignored.

    A record, not an exception: no child can be lost half-started.
    """
    received: list[int] = []
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(signum) is not signal.SIG_IGN:
                previous[signum] = signal.signal(signum, lambda got, _: received.append(got))
    try:
        yield received
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def adopt_orphans() -> None:
    """Become the parent of ranks whose rank 0 has died, so that they can be reaped here.

    Process 1 of many containers does not reap; dead ranks would then seem alive. Linux only;
    elsewhere an error identifies a group of dead processes.
    """
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def start(
    command: Sequence[str], environment: Mapping[str, str], log: Path | None
) -> subprocess.Popen[bytes]:
    """Start ``command`` as the leader of a new session, so that its whole tree can be ended.

    Output and errors are appended to ``log``; ``None`` lets it write to the terminal.
    """
    with log.open("ab") if log else nullcontext() as output:
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        quiet = {**quiet, "stdout": output} if log else {}
        return subprocess.Popen(command, env=environment, start_new_session=True, **quiet)


def end(leader: subprocess.Popen[bytes], signum: int | None, received: Sequence[int]) -> None:
    """End the group of ``leader``, which may have ended, and reap it.

    ``signum`` is sent first (``None``: only wait); a second signal ``received`` ends the grace.
    """
    if signum is not None:
        _signal_group(leader.pid, signum)
    deadline = time.monotonic() + GRACE_SECONDS
    while left := _group_exists(leader):
        if time.monotonic() > deadline or len(received) > 1:
            break
        time.sleep(POLL_SECONDS)
    if left:
        _signal_group(leader.pid, signal.SIGKILL)
        leader.wait()


def _group_exists(leader: subprocess.Popen[bytes]) -> bool:
    if leader.poll() is None:
        return True
    with suppress(ChildProcessError):
        while os.waitpid(-leader.pid, os.WNOHANG)[0]:
            continue
    try:
        os.killpg(leader.pid, 0)
    except (ProcessLookupError, PermissionError):  # macOS: zombies only
        return False
    return True


def _signal_group(group: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)
