"""Which process of a launch this is, read from the environment (no torch, so it is quick).

A launch is one command and all the processes that work on it: those Lightning starts for
``strategy=ddp`` (they inherit :data:`LAUNCH_ID`), torchrun's, or SLURM's.
"""

import os
import uuid

LAUNCH_ID = "SVP_LAUNCH_ID"


def is_main_process() -> bool:
    """Whether this process is the one that writes, prints and decides."""
    if "RANK" in os.environ:  # torchrun
        return os.environ["RANK"] == "0"
    if "LOCAL_RANK" in os.environ:  # started by Lightning
        return os.environ["LOCAL_RANK"] == "0" and os.environ.get("NODE_RANK", "0") == "0"
    return os.environ.get("SLURM_PROCID", "0") == "0"


def launch_id() -> str:
    """The name all processes of this launch agree on; the first to ask on rank 0 makes it."""
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        if name in os.environ:
            parts = (name, "SLURM_STEP_ID", "MASTER_PORT", "SVP_SWEEP_CELL")
            return "-".join(os.environ.get(part, "") for part in parts)
    return os.environ.setdefault(LAUNCH_ID, uuid.uuid4().hex)
