"""The files of a run's folder; free of torch, so that a finished cell of a sweep ends at once."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from svp_lightning.classifier.settings import PACKAGED_WEIGHTS, RELEASED
from svp_lightning.errors import ArtifactError, CheckpointError, SettingsError
from svp_lightning.runtime.files import (
    CHECKSUMS,
    below,
    locked,
    replacing,
    require_unchanged,
    sha256_of_file,
    write_json,
    write_text,
)
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.settings import DataSettings

RESULTS, REPORT = "results.json", "report.html"
CONFIG, FIGURES = "config.yaml", "figures"
LOCK = ".lock"
OVERRIDES = "label_overrides.csv"
"""The corrected labels that were used, with who, when and why."""
CLASSIFIER, METRICS = "classifier.ckpt", "metrics.csv"
VALIDATION, PREVALENCE = "val_predictions.parquet", "prevalence.csv"
OBJECTIVE_FILE = "SVP_CELL_RESULT"
"""Environment variable naming the file in which a sweep wants the cell's objective."""


@contextmanager
def writing(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder while its files are written, and record their hashes last of all.

    Of processes with one command one writes at a time; a run with a record is finished. The record
    and the figures of what the run was are taken back first.
    """
    with locked(run_dir / LOCK, lambda: say(f"Waiting for another process that writes {run_dir}")):
        (run_dir / CHECKSUMS).unlink(missing_ok=True)
        shutil.rmtree(run_dir / FIGURES, ignore_errors=True)
        yield
        _record(run_dir)


def _record(run_dir: Path) -> None:
    tables = [file for kind in ("parquet", "safetensors") for file in run_dir.glob(f"*.{kind}")]
    files = [*(run_dir / name for name in (RESULTS, METRICS, CLASSIFIER)), *tables]
    # A script that calls the stages has no configuration, and most runs no corrected labels.
    files += [file for name in (CONFIG, OVERRIDES) if (file := run_dir / name).is_file()]
    write_json(run_dir / CHECKSUMS, {file.name: sha256_of_file(file) for file in files})


def finished(run_dir: Path) -> bool:
    """Whether an evaluation has left its results and its report, and they are as it left them."""
    try:
        recorded = json.loads((run_dir / CHECKSUMS).read_text(encoding="utf-8"))
        for name in recorded:
            require_unchanged(below(run_dir, name))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # or a record that is cut
        return False
    except ArtifactError as error:
        say(f"Warning: {error.what} The run is made again.")
        return False
    return RESULTS in recorded and (run_dir / REPORT).is_file()


def evaluated_run(run: Path | None) -> Path:
    """The folder of the classifier that ``task=predict`` uses.

    ``run`` is that of an evaluated run or of a packaged classifier; None: the released one.

    Raises:
        SettingsError: none is given, and none is released with this installation.
        CheckpointError: it holds no classifier.
        ArtifactError: the classifier has changed since the run was finished.
    """
    if run is None:
        if not weights_of(RELEASED).is_file():
            raise SettingsError(
                "predict.run is not set, and no classifier is released with this installation.",
                "Give the folder of an evaluated run (predict.run=outputs/…).",
            )
        return RELEASED
    if not weights_of(run).is_file():
        raise CheckpointError(
            f"{run} holds no {CLASSIFIER}.",
            "Give the folder of an evaluated run, or of an exported classifier.",
        )
    require_unchanged(weights_of(run))
    return run.resolve()


def weights_of(folder: Path) -> Path:
    """The file that says which classifier a folder holds."""
    own = folder / CLASSIFIER
    return own if own.is_file() else folder / PACKAGED_WEIGHTS


def data_of(run: Path) -> DataSettings:
    """The data settings that a run was made with.

    Raises:
        ArtifactError: the run's configuration is missing, has changed or is not of this version.
    """
    require_unchanged(run / CONFIG)
    try:
        values = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
        return TypeAdapter[DataSettings](DataSettings).validate_python(values["data"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{run / CONFIG} does not say which data the run is of ({error}).",
            "Evaluate the run again.",
        ) from error


def report_objective(run_dir: Path) -> None:
    """Hand a sweeper its objective: the validation score, never a test metric."""
    if OBJECTIVE_FILE in os.environ:
        results = json.loads((run_dir / RESULTS).read_text(encoding="utf-8"))
        write_json(Path(os.environ[OBJECTIVE_FILE]), {"objective": results["validation_score"]})


def wandb_run_id(run_dir: Path) -> str:
    """The id of a run's W&B run, kept in its folder: an attempt that resumes continues that run."""
    file = run_dir / "wandb" / "run_id"
    if not file.is_file():
        write_text(file, uuid.uuid4().hex[:12])
    return file.read_text()


def copy(source: Path, target: Path) -> None:
    """Put a copy into the run's folder: what happens to it there leaves the artifact as it is."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
