"""What is stored about a run: ``results.json``, of which this is the one model.

The tables of a run are in :mod:`~.predictions`, ``fidelity.json`` in :mod:`~.fidelity.stored`. Both
files refuse unknown keys and values that are no numbers; a value that is not defined is null.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from svp_lightning.data.classes import ClassName
from svp_lightning.evaluation.counting import metric_names, within_reach
from svp_lightning.evaluation.priors import class_shares
from svp_lightning.runtime.files import require_unchanged
from svp_lightning.runtime.settings import read_stored

RESULTS = "results.json"
SCHEMA: Literal[4] = 4
PRIMARY_METRIC = "macro_auprc"
"""The one metric that arms are compared by: of probabilities corrected to the stated prevalence,
by default 1,000 particles of a plentiful class for each of a rare one."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Interval = tuple[Share, Share]
"""[low, high] of a 95 % interval."""

ValueT = TypeVar("ValueT", float, Interval)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; None where it is not defined or not known."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Part(BaseModel):
    """Part of a stored file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True
    )


class ClassMetrics(Part, Generic[ValueT]):
    """One class against the rest; see :mod:`~.counting` for the definitions."""

    precision: ValueT
    recall: ValueT
    f1: ValueT
    auprc: ValueT
    recall_at_precision_95: ValueT


class Metrics(Part, Generic[ValueT]):
    """The metrics of a run, or their intervals."""

    macro_precision: ValueT
    macro_recall: ValueT
    macro_f1: ValueT
    macro_auprc: ValueT
    accuracy: ValueT
    per_class: dict[ClassName, ClassMetrics[ValueT]]


class Augmentation(Part):
    """What was done about the rare classes."""

    method: str
    """Name of the arm."""
    ratio: float = Field(ge=0)
    """Added images per real image of each rare class."""
    parts: tuple[str, ...]
    """What the arm is made of (``diffusion``, ``filtered``, ``mixup``); empty for the control."""


class Counts(Part):
    """Images per class."""

    train: dict[ClassName, Count]
    """Real training images."""
    synthetic: dict[ClassName, Count]
    """Added training images; empty without any."""
    test: dict[ClassName, Count]
    validation: dict[ClassName, Count]


class WorkingPoint(Part):
    """A class counted wherever its probability reaches a threshold chosen on validation images.

    Probabilities are those at the stated prevalence. The intervals cover the number of test images
    and that other validation images would have chosen another threshold.
    """

    threshold: Share | None
    """None where none is precise enough; the class is then never counted."""
    threshold_ci95: Interval | None
    """Of redrawn validation images; None where none of them finds a threshold."""
    validation_precision: Share
    validation_recall: Share
    precision: Share
    recall: Share
    precision_ci95: Interval
    recall_ci95: Interval


class Calibrated(Part):
    """How far probabilities are from frequencies."""

    ece: Share
    """Expected calibration error of the most probable class."""
    classwise_ece: Share
    """Mean over the classes' own."""
    brier: float = Field(ge=0, le=2)
    """Mean squared distance to the one-hot label."""
    reliability: dict[ClassName, list[tuple[float, float, float]]]
    """Class name -> bins of mean probability, observed frequency and share of the weight."""


class Calibration(Part):
    """Test probabilities at the stated prevalence, and what a scaling fitted on validation does.

    See :class:`~.calibration.Scaling`; no metric, threshold or count of the run uses it.
    """

    temperature: float = Field(gt=0)
    """Above 1: the classifier had been too sure."""
    biases: dict[ClassName, float]
    """Class name -> added to its log likelihood; of mean 0."""
    as_is: Calibrated
    scaled: Calibrated


class Slice(Part):
    """Recall of one class in one bin of a property; see :func:`~.slices.recall_slices`."""

    column: str
    slice: str
    class_name: ClassName = Field(alias="class")
    images: Count
    recall: Share
    ci95: Interval


class Cost(Part):
    """What one stage took, once; several runs may share its product."""

    wall_seconds: Seconds
    cpu_seconds: Seconds
    """Of the main process and the processes it waited for."""
    gpu_seconds: Seconds = 0.0
    """GPUs held times wall seconds."""
    artifact: str | None = None
    """Key of the artifact made; runs with the same key paid once."""


class Provenance(Part):
    """What made the run; further facts are kept."""

    model_config = ConfigDict(extra="allow")

    data: str
    """SHA-256 of the real store."""
    generator: str | None = None
    synthetic: str | None = None
    rare_images: int | None = None
    """``data.rare_images``: real training images kept of each rare class; None: all."""
    rare_seed: int | None = None
    """``data.rare_seed``: which ones are kept."""
    generator_seed: int | None = None
    """``generator.seed``; None: no generated images, or not recorded. So is ``sampler_seed``."""
    sampler_seed: int | None = None
    """``sampler.seed``, of the noise that images are drawn from."""
    training_images_drawn: int | None = None
    """Optimiser steps times the images of a step."""
    config: str
    git: str | None = None
    packages: dict[str, str]
    device: str
    wall_seconds: Seconds


class Results(Part):
    """All of ``results.json``.

    A classifier's probabilities answer for the class shares that it was trained at. All parts but
    ``metrics_as_trained`` are of probabilities corrected from ``trained_shares`` to ``prevalence``
    (:func:`~.priors.corrected`), with test images weighted to ``prevalence``.
    """

    schema_version: Literal[4] = Field(SCHEMA, alias="schema")
    task: Literal["evaluate"] = "evaluate"
    experiment: str
    """Name of the run."""
    study: str
    scale: str
    seed: int
    backbone: str
    augmentation: Augmentation
    prevalence: dict[ClassName, Share]
    """Share of each class in the field, at which every number is stated."""
    prevalence_stated: bool
    """Whether a setting says so; else it is that of the test images."""
    trained_shares: dict[ClassName, Share]
    """Share of each class in the training, which the classifier's own probabilities answer for."""
    rare_classes: tuple[ClassName, ...]
    """The classes that ``augmentation.ratio`` is about."""
    counts: Counts
    rejected: dict[ClassName, dict[str, Count]] = {}
    """Class name -> images a filter looked at and rejected (``looked_at``, ``wrong_class``,
    ``far``, ``rejected``); empty where nothing was filtered."""
    validation_score: Share | None
    """:data:`PRIMARY_METRIC` on the validation split of the checkpoint that was tested."""
    metrics: Metrics[Share]
    """The primary figures, of corrected probabilities."""
    ci95: Metrics[Interval]
    """Of ``metrics``; the test images alone."""
    metrics_as_trained: Metrics[Share]
    """As ``metrics``, of the probabilities as the classifier gives them."""
    working_points: dict[ClassName, WorkingPoint]
    """Class name -> the threshold of 95 % precision on validation, and what it achieves."""
    calibration: Calibration
    size_definition: str | None = None
    """Which diameter the sizes of ``slices`` are; None: the images' source does not say."""
    slices: tuple[Slice, ...]
    costs: dict[str, Cost]
    """Stage (``generator``, ``synthetic``, ``features``, ``filter``, ``looks``,
    ``microscopes``, ``pretraining``, ``classifier``, ``test``) -> its cost."""
    provenance: Provenance

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the classifier's outputs."""
        return tuple(self.metrics.per_class)

    def estimate(self, metric: str) -> Estimate:
        """``"macro_f1"`` or, of one class, ``"protein/recall"``, with its interval.

        A class that the run does not know gives an estimate of None.
        """
        name, _, of_class = metric.partition("/")
        if not of_class:
            return Estimate(getattr(self.metrics, name), *getattr(self.ci95, name))
        if name not in self.metrics.per_class:
            return Estimate(None)
        one, ends = self.metrics.per_class[name], self.ci95.per_class[name]
        return Estimate(getattr(one, of_class), *getattr(ends, of_class))

    @property
    def out_of_reach(self) -> tuple[str, ...]:
        """Classes with too few test images for a recall at 95 % precision at this prevalence.

        See :func:`~.counting.within_reach`.
        """
        names = self.class_names
        recall = np.array([one.recall_at_precision_95 for one in self.metrics.per_class.values()])
        images = np.array([self.counts.test[name] for name in names])
        enough = within_reach(recall, class_shares(self.prevalence, names), images)
        return tuple(name for name, supported in zip(names, enough, strict=True) if not supported)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = self.class_names
        if tuple(self.ci95.per_class) != names:
            raise ValueError(f"metrics are of {names}, intervals of {tuple(self.ci95.per_class)}")
        named: dict[str, dict[str, Any]] = {
            "counts.train": self.counts.train,
            "counts.test": self.counts.test,
            "prevalence": self.prevalence,
            "trained_shares": self.trained_shares,
            "metrics_as_trained": self.metrics_as_trained.per_class,
            "calibration.biases": self.calibration.biases,
        }
        for part, values in named.items():
            if set(values) != set(names):
                raise ValueError(f"metrics are of {names}, {part} of {sorted(values)}")
        if strange := set(self.rare_classes) - set(names):
            raise ValueError(f"rare_classes holds {sorted(strange)}, not in {names}")
        for name in metric_names(names):
            one = self.estimate(name)
            if (one.low or 0.0) > (one.high or 0.0):
                raise ValueError(f"ci95.{name} is [{one.low}, {one.high}], low before high")
        return self


def read_results(path: Path) -> Results:
    """Read and check ``results.json``.

    Raises:
        ArtifactError: the file is missing, no JSON, of another schema, or incomplete.
    """
    require_unchanged(path)
    return read_stored(path, Results, SCHEMA, "Run task=evaluate again for this run.")
