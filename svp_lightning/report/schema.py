"""The shape of ``results.json`` (schemas 1 and 2), checked key by key.

Unknown keys are passed over. What schema 2 adds is optional: a file without it reports the rest.
"""

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator


def _nan_is_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[Share | None, BeforeValidator(_nan_is_none)]
Count = Annotated[int, Field(ge=0)]
Interval = tuple[Score, Score]


class Augmentation(BaseModel):
    """What was done about the rare classes."""

    method: str
    ratio: Annotated[float, Field(ge=0)]


class Counts(BaseModel):
    """Class name -> number of images."""

    train: dict[str, Count] = {}
    synthetic: dict[str, Count] = {}
    test: Annotated[dict[str, Count], Field(min_length=2)]
    validation: dict[str, Count] = {}


class ClassMetrics(BaseModel):
    """The metrics of one class; None where a metric is not defined."""

    precision: Score
    recall: Score
    f1: Score
    auprc: Score
    recall_at_precision_95: Score = None


class Metrics(BaseModel):
    """The metrics over all classes and of each."""

    macro_precision: Score
    macro_recall: Score
    macro_f1: Score
    macro_auprc: Score
    accuracy: Score
    per_class: dict[str, ClassMetrics]


class ClassIntervals(BaseModel):
    """95 % intervals in the shape of :class:`ClassMetrics`."""

    precision: Interval | None = None
    recall: Interval | None = None
    f1: Interval | None = None
    auprc: Interval | None = None
    recall_at_precision_95: Interval | None = None


class Intervals(BaseModel):
    """95 % intervals in the shape of :class:`Metrics`."""

    macro_precision: Interval | None = None
    macro_recall: Interval | None = None
    macro_f1: Interval | None = None
    macro_auprc: Interval | None = None
    accuracy: Interval | None = None
    per_class: dict[str, ClassIntervals] = {}


class WorkingPoint(BaseModel):
    """A threshold chosen on validation images, and what it achieves on the test images."""

    threshold: Score
    validation_precision: Share
    validation_recall: Share
    precision: Share
    recall: Share
    precision_ci95: Interval
    recall_ci95: Interval


class Calibrated(BaseModel):
    """Gaps between probabilities and frequencies; bins of (probability, frequency, share)."""

    ece: Share
    classwise_ece: Share
    brier: float
    reliability: dict[str, list[tuple[float, float, float]]]


class Calibration(BaseModel):
    """Before and after temperature scaling."""

    temperature: float
    as_is: Calibrated
    scaled: Calibrated


class Slice(BaseModel):
    """Recall of a class among the images of one bin of a property."""

    column: str
    slice: str
    class_name: str = Field(alias="class")
    images: Count
    recall: Share
    ci95: Interval


class Cost(BaseModel):
    """Seconds of one stage; runs with the same ``artifact`` share them."""

    wall_seconds: Annotated[float, Field(ge=0)]
    cpu_seconds: Annotated[float, Field(ge=0)] = 0.0
    gpu_seconds: Annotated[float, Field(ge=0)] = 0.0
    artifact: str | None = None


class ResultsFile(BaseModel):
    """One ``results.json``."""

    schema_version: Annotated[int, Field(alias="schema", ge=1, le=2)]
    seed: int
    backbone: str
    augmentation: Augmentation
    counts: Counts
    metrics: Metrics
    ci95: Intervals = Intervals()
    provenance: dict[str, Any] = {}
    working_points: dict[str, WorkingPoint] = {}
    calibration: Calibration | None = None
    slices: tuple[Slice, ...] = ()
    costs: dict[str, Cost] = {}
    rejected: dict[str, dict[str, int]] = {}
    prevalence: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    """Relative frequencies in use, in any unit; the metrics are weighted to them."""
    prevalence_stated: bool = True
    """False: they are only those of the test images."""
    rare_classes: tuple[str, ...] | None = None
    experiment: str | None = None
    name: str | None = None
    study: str | None = None
    scale: str | None = None

    @model_validator(mode="after")
    def _one_set_of_classes(self) -> Self:
        tested = set(self.counts.test)
        named = {
            "metrics.per_class": set(self.metrics.per_class),
            "prevalence": set(self.prevalence or tested),
        }
        for key, names in named.items():
            if names != tested:
                raise ValueError(
                    f"counts.test names the classes {sorted(tested)}, {key} {sorted(names)}"
                )
        if strange := set(self.rare_classes or ()) - tested:
            raise ValueError(f"rare_classes holds {sorted(strange)}, not in counts.test")
        return self
