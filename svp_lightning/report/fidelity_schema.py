"""The shape of ``fidelity.json`` (schema 1); unknown keys are passed over."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from svp_lightning.errors import DataError

FIDELITY = "fidelity.json"


class Estimate(BaseModel):
    """A value with its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


class Compared(BaseModel):
    """Generated images, and real training images in their place: the floor."""

    generated: Estimate
    floor: Estimate


class Morphology(BaseModel):
    """How one measure's distribution differs from that of held-out real images."""

    ks: Compared
    wasserstein: Compared
    real_mean: float | None
    generated_mean: float | None


class Excess(BaseModel):
    """How many images lie below the threshold that few held-out images are below."""

    count: int
    total: int
    share: Estimate
    expected: float
    p_value: float
    threshold: float


class Finds(BaseModel):
    """How many generated, and how many held-out, images have a sign."""

    count: int
    total: int
    heldout_count: int
    heldout_total: int
    p_value: float
    smallest_share: float | None
    """Of the generated images, at which chance would have been ruled out."""


Verdict = Literal["copies", "close", "novel"]


class MemorisedSpace(BaseModel):
    """Signs of copying in one space."""

    closer: Excess
    singular: Excess
    copies: Estimate
    both: Finds | None = None
    """Images with both signs; None in files of versions that did not compare them."""
    identical: Finds | None = None
    """Images equal to a training image; None likewise."""
    median_distance: float
    heldout_median_distance: float
    verdict: Verdict


class Memorised(BaseModel):
    """Signs of copying in both spaces."""

    verdict: Verdict
    pixel: MemorisedSpace
    feature: MemorisedSpace
    duplicates: Excess


class ClassFidelity(BaseModel):
    """One class."""

    counts: dict[str, int]
    compared: int
    features: dict[str, Compared]
    recognised: Compared | None = None
    """Shares taken for this class; None in files of earlier versions."""
    morphology: dict[str, Morphology]
    memorisation: Memorised


class FidelityFile(BaseModel):
    """One ``fidelity.json``."""

    schema_version: Annotated[int, Field(alias="schema", ge=1, le=1)]
    classes: dict[str, ClassFidelity]
    feature_network: dict[str, Any] = {}
    pixel_size_um: float | None = None
    provenance: dict[str, Any] = {}


def read_fidelity(folder: Path) -> FidelityFile | None:
    """``fidelity.json`` of a run, or None where it has none.

    Raises:
        DataError: the file is not JSON, or lacks or misstates something.
    """
    file = folder / FIDELITY
    if not file.is_file():
        return None
    remedy = "Run task=assess again to rewrite it."
    try:
        return FidelityFile.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{file} is malformed: {key}: {first['msg']}.", remedy) from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}.", remedy) from error
