"""Which process of a launch this is, read from the environment (no torch, so it is quick).

A launch is one command and all the processes that work on it: those Lightning starts for
``strategy=ddp`` (they inherit :data:`LAUNCH_ID`), torchrun's, or SLURM's.
"""

import os
import uuid

LAUNCH_ID = "SVP_LAUNCH_ID"
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # in the order Lightning reads them


def global_rank() -> int:
    """Rank of this process among those of its launch; 0 for a single process."""
    for name in RANK_VARIABLES:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def is_main_process() -> bool:
    """Whether this process is the one that writes, prints and decides."""
    return global_rank() == 0


def launch_id() -> str:
    """The name all processes of this launch agree on; the first to ask on rank 0 makes it."""
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        if name in os.environ:
            step = os.environ.get("SLURM_STEP_ID", "")
            return f"{os.environ[name]}-{step}-{os.environ.get('MASTER_PORT', '')}"
    return os.environ.setdefault(LAUNCH_ID, uuid.uuid4().hex)
