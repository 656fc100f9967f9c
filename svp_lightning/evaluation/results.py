"""``results.json``: what a classifier run found and where it came from.

Schema 2 adds to schema 1, all optional: ``working_points`` (thresholds chosen on validation
images), ``calibration``, ``slices`` (recall by size, defocus, morphology), ``costs`` (seconds of
each stage) and ``counts.validation``. Files of schema 1 are read as they are.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from svp_lightning.errors import ArtifactError
from svp_lightning.evaluation.tally import MACRO_METRICS
from svp_lightning.runtime.files import write_json

SCHEMA: Literal[2] = 2
READABLE = (1, 2)

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Interval = tuple[Share, Share]
"""[low, high] of a 95 % interval."""

ValueT = TypeVar("ValueT", float, Interval)


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True
    )


class ClassMetrics(_Part, Generic[ValueT]):
    """One class against the rest; see :mod:`~.tally` for the definitions."""

    precision: ValueT
    recall: ValueT
    f1: ValueT
    auprc: ValueT
    recall_at_precision_95: ValueT


class Metrics(_Part, Generic[ValueT]):
    """The metrics of a run, or their intervals."""

    macro_precision: ValueT
    macro_recall: ValueT
    macro_f1: ValueT
    macro_auprc: ValueT
    accuracy: ValueT
    per_class: dict[str, ClassMetrics[ValueT]]


class Augmentation(_Part):
    """How the training set was enlarged."""

    method: str
    ratio: float = Field(ge=0)
    """Added images per real image of each rare class."""


class Counts(_Part):
    """Images per class."""

    train: dict[str, Count]
    """Real training images."""
    synthetic: dict[str, Count]
    """Generated training images; empty without any."""
    test: dict[str, Count]
    validation: dict[str, Count] = {}


class WorkingPoint(_Part):
    """A class counted from a threshold on; see :func:`~.calibration.working_points`."""

    threshold: Share | None
    validation_precision: Share
    validation_recall: Share
    precision: Share
    recall: Share
    precision_ci95: Interval
    recall_ci95: Interval


class Calibrated(_Part):
    """Calibration of one set of probabilities; see :func:`~.calibration.calibration`."""

    ece: Share
    classwise_ece: Share
    brier: float = Field(ge=0, le=2)
    reliability: dict[str, list[tuple[float, float, float]]]


class Calibration(_Part):
    """Test probabilities as they are, and after temperature scaling fitted on validation."""

    temperature: float = Field(gt=0)
    as_is: Calibrated
    scaled: Calibrated


class Slice(_Part):
    """Recall of one class in one bin of a property; see :func:`~.slices.recall_slices`."""

    column: str
    slice: str
    class_name: str = Field(alias="class")
    images: Count
    recall: Share
    ci95: Interval


class Cost(_Part):
    """What one stage took, once; several runs may share its product."""

    wall_seconds: float = Field(ge=0)
    cpu_seconds: float = Field(ge=0)
    """Of the main process and the processes it waited for."""
    gpu_seconds: float = Field(0.0, ge=0)
    """GPUs held times wall seconds."""
    artifact: str | None = None
    """Key of the artifact made; runs with the same key paid once."""


class Provenance(_Part):
    """What made the run; unknown extra facts are kept."""

    model_config = ConfigDict(extra="allow")

    data: str
    """SHA-256 of the real store."""
    generator: str | None = None
    synthetic: str | None = None
    config: str
    git: str | None = None
    packages: dict[str, str]
    device: str
    wall_seconds: float = Field(ge=0)


class Results(_Part):
    """All of ``results.json``."""

    schema_version: Literal[1, 2] = Field(SCHEMA, alias="schema")
    task: Literal["evaluate"] = "evaluate"
    experiment: str = ""
    """Name of the run."""
    study: str = ""
    scale: str = ""
    seed: int
    backbone: str
    augmentation: Augmentation
    prevalence: dict[str, Share] = {}
    """Share of each class in the field, at which the metrics are stated."""
    prevalence_stated: bool = True
    """Whether somebody said so (``data.prevalence``); else it is that of the test images."""
    rare_classes: tuple[str, ...] = ()
    """The classes that ``augmentation.ratio`` speaks of."""
    counts: Counts
    rejected: dict[str, dict[str, Count]] = {}
    """Class name -> images a filter looked at and rejected (``looked_at``, ``wrong_class``,
    ``far``, ``rejected``); empty where nothing was filtered."""
    validation_score: Share | None = None
    """Macro AUPRC on the validation split of the checkpoint that was tested."""
    metrics: Metrics[Share]
    ci95: Metrics[Interval]
    working_points: dict[str, WorkingPoint] = {}
    """Class name -> the threshold of 95 % precision on validation, and what it achieves."""
    calibration: Calibration | None = None
    slices: tuple[Slice, ...] = ()
    costs: dict[str, Cost] = {}
    """Stage (``generator``, ``synthetic``, ``features``, ``filter``, ``classifier``, ``test``)
    -> its cost."""
    provenance: Provenance

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the classifier's outputs."""
        return tuple(self.metrics.per_class)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = self.class_names
        if tuple(self.ci95.per_class) != names:
            raise ValueError(f"metrics are of {names}, intervals of {tuple(self.ci95.per_class)}")
        for part in ("train", "test"):
            counted = set(getattr(self.counts, part))
            if counted != set(names):
                raise ValueError(f"metrics are of {names}, counts.{part} of {sorted(counted)}")
        for path, (low, high) in _intervals(self.ci95):
            if low > high:
                raise ValueError(f"ci95.{path} is [{low}, {high}], low before high")
        return self


def write_results(path: Path, results: Results) -> None:
    """Write ``results.json``, whole or not at all."""
    write_json(path, results.model_dump(mode="json"))


def read_results(path: Path) -> Results:
    """Read and check ``results.json``.

    Raises:
        ArtifactError: the file is missing, no JSON, of another schema, or incomplete.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}).", "Run task=evaluate again for this run."
        ) from error
    if not isinstance(values, dict) or values.get("schema") not in READABLE:
        found = values.get("schema") if isinstance(values, dict) else None
        raise ArtifactError(
            f"{path} has schema {found}, expected one of {READABLE}.",
            "Read it with the version of svp_lightning that wrote it, or evaluate again.",
        )
    try:
        return Results.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ArtifactError(
            f"{path}: {place}: {first['msg']}.", "Run task=evaluate again for this run."
        ) from error


def _intervals(ci95: "Metrics[Interval]") -> Iterator[tuple[str, Interval]]:
    for name in MACRO_METRICS:
        yield name, getattr(ci95, name)
    for class_name, metrics in ci95.per_class.items():
        for name, interval in metrics:
            yield f"per_class.{class_name}.{name}", interval
