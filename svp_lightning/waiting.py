"""How a rank waits for the main process, and learns that it need wait no longer.

A rank that Lightning has started ends with its parent, and torchrun ends all ranks when one
fails. SLURM's ``srun`` does neither, so there the main process leaves a note of its failure,
which the others find by the name of the launch.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from svp_lightning.distributed import is_main_process, launch_id, started_by_srun
from svp_lightning.errors import DistributedError

POLL_SECONDS = 0.2


def note_failure(root: Path, error: BaseException) -> None:
    """Tell the ranks that wait below ``root`` that the main process has failed.

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
            "Mend that and start the job again.",
        )
    time.sleep(POLL_SECONDS)


def _note(root: Path) -> Path:
    return root / f".failed-{launch_id()}"
