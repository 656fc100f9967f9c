"""What a sweep needs to know of a cell without importing torch: is it finished, how good is it?"""

import json
import os
from pathlib import Path

from svp_lightning.runtime.files import write_json

RESULTS = "results.json"
REPORT = "report.html"
OBJECTIVE_FILE = "SVP_CELL_RESULT"
"""Environment variable naming the file in which a sweep wants the cell's objective."""


def finished(run_dir: Path) -> bool:
    """Whether an evaluation has left its results and its report."""
    return (run_dir / RESULTS).is_file() and (run_dir / REPORT).is_file()


def report_objective(run_dir: Path) -> None:
    """Hand a sweeper its objective: the validation score, never a test metric."""
    if OBJECTIVE_FILE in os.environ:
        results = json.loads((run_dir / RESULTS).read_text(encoding="utf-8"))
        write_json(Path(os.environ[OBJECTIVE_FILE]), {"objective": results["validation_score"]})
