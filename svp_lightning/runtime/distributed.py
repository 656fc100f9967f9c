"""Which process of a launch this is, read from the environment (no torch, so it is quick).

A launch is one command and all the processes that work on it: those Lightning starts for
``strategy=ddp`` (they inherit :data:`LAUNCH_ID`), torchrun's, SLURM's, or those started by hand
with ``NODE_RANK`` and ``MASTER_ADDR``.
"""

import os
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

from svp_lightning.errors import DistributedError

LAUNCH_ID = "SVP_LAUNCH_ID"
_TORCHRUN = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT")
_SRUN = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "SVP_SWEEP_CELL")
"""No ``MASTER_PORT``: Lightning sets it on the way, and not on all ranks at the same moment."""
_BY_HAND = ("MASTER_ADDR", "MASTER_PORT")


def is_main_process() -> bool:
    """Whether this process is the one that writes, prints and decides."""
    if "RANK" in os.environ:  # torchrun
        return os.environ["RANK"] == "0"
    if started_by_srun():
        return os.environ.get("SLURM_PROCID", "0") == "0"
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return node == os.environ.get("LOCAL_RANK", "0") == "0"


def started_by_srun() -> bool:
    """Whether the ranks are SLURM's, by Lightning's rule.

    In an allocation without ``srun`` and in an interactive shell, Lightning starts them itself.
    """
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_NTASKS" in os.environ and not shell


def launched_tasks() -> int | None:
    """Processes that torchrun or ``srun`` has started; None where Lightning starts them itself."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # before SLURM: torchrun works inside it, too
        return int(os.environ.get("WORLD_SIZE", "1"))
    return srun_tasks() if started_by_srun() else None


def srun_tasks() -> int:
    """Processes that ``srun`` has started, this one among them; 1 without it.

    A script of ``sbatch`` sees the tasks of the whole job, but without ``srun`` it is one process.
    """
    of_a_step = started_by_srun() and "SLURM_STEP_ID" in os.environ
    return int(os.environ["SLURM_NTASKS"]) if of_a_step else 1


def launch_id() -> str:
    """The name all processes of this launch agree on.

    Made when first asked for, which must be before Lightning starts processes or sets
    variables of its own; from then on it is inherited.
    """
    if LAUNCH_ID not in os.environ:
        os.environ[LAUNCH_ID] = _new_launch_id()
    return os.environ[LAUNCH_ID]


def _new_launch_id() -> str:
    parts: tuple[str, ...]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        parts = _TORCHRUN
    elif started_by_srun():
        parts = _SRUN
    elif {"LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR"} & os.environ.keys():
        parts = _BY_HAND
    else:
        return uuid.uuid4().hex
    return "-".join(os.environ.get(part, "") for part in parts)


POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0


def end_with_main_process(grace_seconds: float = GRACE_SECONDS) -> None:
    """End a rank that Lightning has started once the process that started it has ended.

    Otherwise it may wait for it in a connection or an exchange, up to half an hour. A rank that
    notices by itself has ``grace_seconds`` to say so. To be called before :func:`launch_id`.
    """
    if LAUNCH_ID not in os.environ or is_main_process():
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        time.sleep(grace_seconds)
        print("\nError: The main process ended, so this one stops.", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, name="end with main process", daemon=True).start()


def note_failure(root: Path, error: BaseException) -> None:
    """Inform the ranks that wait below ``root`` that the main process has failed.

    Only under ``srun``, whose launches have a name of their own: elsewhere a note of an earlier
    launch might stop a later one.
    """
    if is_main_process() and started_by_srun():
        with suppress(OSError):  # a full disk, say; the failure itself must be what is shown
            root.mkdir(parents=True, exist_ok=True)
            _note(root).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")


def wait(root: Path, parent: int = os.getppid()) -> None:
    """Wait a moment for the main process, which builds something below ``root``.

    Raises:
        DistributedError: it has ended or failed.
    """
    if os.getppid() != parent:
        raise DistributedError("The main process ended; this one had waited for it and stops.")
    note = _note(root)
    if note.is_file():
        raise DistributedError(
            f"The main process failed ({note.read_text(encoding='utf-8')}); this one had waited "
            "for it and stops.",
            "Fix that and start the job again.",
        )
    time.sleep(POLL_SECONDS)


def _note(root: Path) -> Path:
    name = launch_id().replace("/", "-")  # the number of a sweep's cell is 2/12, say
    return root / f".failed-{name}"
