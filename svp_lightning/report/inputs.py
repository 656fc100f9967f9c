"""Reading what a run left on disk: ``results.json`` and small text files.

The reports know runs only through these files, so a result from another machine or an older
version reports the same way. Keys that are not known here are passed over.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from svp_lightning.data.classes import rare_classes
from svp_lightning.errors import DataError
from svp_lightning.evaluation.predictions import PREDICTIONS, Predictions, read_predictions
from svp_lightning.evaluation.tally import CLASS_METRICS, MACRO_METRICS
from svp_lightning.report.schema import (
    Calibration,
    ClassIntervals,
    Cost,
    ResultsFile,
    Slice,
    WorkingPoint,
)

RESULTS, COMMAND = "results.json", "command.txt"
FIGURES = "figures"

OVERALL_METRICS = MACRO_METRICS

RATIOLESS_METHODS = (
    *("none", "class_weights", "balanced_sampling", "logit_adjustment", "mixup"),
    *("classical", "classical_mild", "classical_strong"),
)
"""Methods that add no images: whatever ratio their configuration states is not used."""
ENLARGING_METHODS = ("duplicate", "diffusion", "diffusion_filtered", "diffusion_all_classes")
"""Methods that do nothing but add images: at ratio 0 they are the control."""

REMEDY = "Run the evaluate task again to rewrite it."


@dataclass(frozen=True)
class Estimate:
    """A metric in [0, 1] with its 95 % interval; None where it is not defined or not given."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Cell:
    """What tells one run of a study from another; ``seed`` is the repetition.

    ``variant`` is the name of the experiment or run, used only where the rest does not tell
    two runs apart (a study of guidance strengths, say).
    """

    backbone: str
    method: str
    ratio: float
    seed: int
    variant: str = ""
    real_images: int | None = None
    """Real training images of each rare class, in a study that varies ``data.rare_images``; None
    there for all images of a file without counts."""

    @property
    def is_control(self) -> bool:
        """Whether nothing was done about the rare classes."""
        adds_nothing = self.ratio == 0 and self.method in ENLARGING_METHODS
        return self.method == "none" or adds_nothing


@dataclass(frozen=True)
class RunResult:
    """One ``results.json``.

    Attributes:
        folder: the run directory.
        cell: backbone, augmentation and seed.
        class_names: in class order.
        train, synthetic, test: class name -> number of images (0 where none).
        prevalence: class name -> share in [0, 1] of the particles in use, to which the
            metrics are weighted; the shares of the test set where the file gives none.
        rare: the classes that were augmented, or would have been.
        overall: metric name -> estimate, for :data:`OVERALL_METRICS`.
        per_class: class name -> metric name -> estimate, for :data:`CLASS_METRICS`.
        provenance: the file's own, unchecked.
    """

    folder: Path
    cell: Cell
    class_names: tuple[str, ...]
    train: Mapping[str, int]
    synthetic: Mapping[str, int]
    test: Mapping[str, int]
    prevalence: Mapping[str, float]
    prevalence_is_given: bool
    rare: tuple[str, ...]
    overall: Mapping[str, Estimate]
    per_class: Mapping[str, Mapping[str, Estimate]]
    provenance: Mapping[str, Any]
    experiment: str | None
    """The experiment's name, or the run's where no experiment was named."""
    study: str | None
    validation: Mapping[str, int]
    working_points: Mapping[str, WorkingPoint]
    calibration: Calibration | None
    slices: tuple[Slice, ...]
    costs: Mapping[str, Cost]
    """What schema 2 adds; empty for older files."""
    rejected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Class name -> generated images that a filter looked at and rejected, by reason."""
    scale: str | None = None
    """``tiny``, ``demo``, …; None where the file does not say."""

    @property
    def rare_limit(self) -> int | None:
        """``data.rare_images``: real training images kept of each rare class; None: all."""
        limit = self.provenance.get("rare_images")
        return limit if isinstance(limit, int) else None

    @property
    def rare_images(self) -> int | None:
        """The fewest real training images of a rare class; None where the file has no counts."""
        return min((self.train[name] for name in self.rare), default=0) or None

    def estimate(self, metric: str) -> Estimate:
        """The estimate of ``"macro_f1"`` or, for one class, ``"protein/recall"``."""
        if "/" not in metric:
            return self.overall.get(metric, Estimate(None))
        class_name, name = metric.split("/", 1)
        return self.per_class.get(class_name, {}).get(name, Estimate(None))


def read_results(folder: Path) -> RunResult:
    """Read and check ``results.json`` of the run ``folder``.

    Raises:
        DataError: the folder or the file is missing, is not JSON, or lacks or misstates
            something a report needs; the message names the file and the key.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", "Give the output folder of a run.")
    file = folder / RESULTS
    if not file.is_file():
        raise DataError(
            f"{folder} has no {RESULTS}.", "Give the output folder of a finished evaluation."
        )
    try:
        parsed = ResultsFile.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{file} is malformed: {key}: {first['msg']}.", REMEDY) from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}.", REMEDY) from error
    return _to_result(folder, parsed)


def predictions_of(run: RunResult) -> Predictions | None:
    """The labelled predictions of a run, or None where it has none.

    Raises:
        ArtifactError: the file is broken or no table of predictions.
        DataError: it is of other classes.
    """
    path = run.folder / PREDICTIONS
    if not path.is_file():
        return None
    found = read_predictions(path, with_ids=False).labelled()
    if found.class_names != run.class_names:
        raise DataError(f"{path} is of the classes {', '.join(found.class_names)}.", REMEDY)
    return found


def _to_result(folder: Path, parsed: ResultsFile) -> RunResult:
    names = tuple(parsed.metrics.per_class)
    counts, metrics, ci95 = parsed.counts, parsed.metrics, parsed.ci95
    train = {name: counts.train.get(name, 0) for name in names}
    nothing = ClassIntervals()
    return RunResult(
        folder=folder,
        cell=_to_cell(parsed),
        class_names=names,
        train=train,
        synthetic={name: counts.synthetic.get(name, 0) for name in names},
        test={name: counts.test[name] for name in names},
        prevalence=shares(parsed.prevalence or counts.test, names),
        prevalence_is_given=parsed.prevalence is not None and parsed.prevalence_stated,
        rare=parsed.rare_classes or rare_classes(train if any(train.values()) else counts.test),
        overall=_estimates(metrics, ci95, OVERALL_METRICS),
        per_class={
            name: _estimates(
                metrics.per_class[name], ci95.per_class.get(name, nothing), CLASS_METRICS
            )
            for name in names
        },
        provenance=parsed.provenance,
        experiment=parsed.experiment or parsed.name,
        study=parsed.study,
        validation=counts.validation,
        working_points=parsed.working_points,
        calibration=parsed.calibration,
        slices=parsed.slices,
        costs=parsed.costs,
        rejected=parsed.rejected,
        scale=parsed.scale or None,
    )


def _to_cell(parsed: ResultsFile) -> Cell:
    method, ratio = parsed.augmentation.method, parsed.augmentation.ratio
    return Cell(parsed.backbone, method, 0.0 if method in RATIOLESS_METHODS else ratio, parsed.seed)


def _estimates(
    metrics: BaseModel, intervals: BaseModel, names: Sequence[str]
) -> dict[str, Estimate]:
    return {
        name: Estimate(getattr(metrics, name), *(getattr(intervals, name) or (None, None)))
        for name in names
    }


def shares(counts: Mapping[str, float], class_names: Sequence[str]) -> dict[str, float]:
    """Class name -> share of the total, in [0, 1], in the order of ``class_names``."""
    total = sum(counts.values())
    return {name: counts[name] / total if total else 0.0 for name in class_names}


def read_study(folder: Path) -> tuple[RunResult, ...]:
    """Every result below ``folder``, ordered by backbone, method, ratio and seed.

    Raises:
        DataError: the folder is missing, holds no result or results of several scales, or one of
            them is malformed.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", "Give the output folder of a study.")
    results = [read_results(file.parent) for file in sorted(folder.rglob(RESULTS))]
    if not results:
        raise DataError(
            f"There is no {RESULTS} anywhere below {folder}.",
            "Run the study first, or give the folder that holds its runs.",
        )
    _refuse_several_scales(folder, results)
    return tuple(sorted(_told_apart(results), key=_study_order))


def _refuse_several_scales(folder: Path, results: list[RunResult]) -> None:
    """A trial at a small scale would stand in for the seed of a real run."""
    of_scale = {result.scale: result.folder for result in results if result.scale is not None}
    if len(of_scale) > 1:
        named = " and ".join(f"{run.name} (scale={scale})" for scale, run in of_scale.items())
        raise DataError(
            f"{folder} holds runs of several scales: {named}.",
            "Move those of one scale to another folder (study=…), and report again.",
        )


def _told_apart(results: list[RunResult]) -> list[RunResult]:
    """Name real images and variants where they differ; refuse two results of one cell."""
    results = _with_real_images(results)
    if len({result.cell for result in results}) < len(results):
        results = [
            replace(result, cell=replace(result.cell, variant=result.experiment or ""))
            for result in results
        ]
    cell, times = Counter(result.cell for result in results).most_common(1)[0]
    if times > 1:
        folders = [str(result.folder) for result in results if result.cell == cell]
        raise DataError(
            f"{' and '.join(folders[:2])} hold results of the same cell ({cell.backbone}, "
            f"{cell.method}, ratio {cell.ratio:g}, seed {cell.seed}).",
            "Keep one of them, or report on a folder that holds only one.",
        )
    return results


def _with_real_images(results: list[RunResult]) -> list[RunResult]:
    """Name the real images of cells where a study limits them differently.

    Counts alone do not tell: seeds that split the same data anew have a few more or fewer. For
    the same reason runs without a limit are one place on the axis, that of the fewest images.
    """
    if len({result.rare_limit for result in results}) == 1:
        return results
    whole = [run.rare_images for run in results if run.rare_limit is None]
    fewest = min((count for count in whole if count is not None), default=None)
    return [
        replace(run, cell=replace(run.cell, real_images=run.rare_limit or fewest))
        for run in results
    ]


def _study_order(result: RunResult) -> tuple[str, int, bool, str, float, int, str]:
    cell = result.cell
    key = (cell.backbone, cell.real_images or 0, not cell.is_control, cell.method, cell.ratio)
    return (*key, cell.seed, cell.variant)


def unfinished_cells(folder: Path) -> tuple[Path, ...]:
    """Cells below ``folder`` that were started (``config.yaml``) but have no result.

    Folders of other tasks (``assess``, ``predict``) are no cells.
    """
    started = {file.parent for name in ("config.yaml", COMMAND) for file in folder.rglob(name)}
    # Hydra keeps a config.yaml of its own in a hidden folder of the run.
    runs = {run for run in started if not run.name.startswith(".")} - {folder}
    return tuple(sorted(run for run in runs if not (run / RESULTS).is_file() and _evaluates(run)))


def _evaluates(run: Path) -> bool:
    """Whether the settings kept with a run name no other task than ``evaluate``."""
    file = run / "config.yaml"
    if not file.is_file():
        return True
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    tasks = [line.split(":", 1)[1].strip() for line in lines if line.startswith("task:")]
    return not tasks or tasks[0] == "evaluate"
