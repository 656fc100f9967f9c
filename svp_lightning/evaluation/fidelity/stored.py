"""What is stored of an assessment: ``fidelity.json``, of which this is the one model."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from svp_lightning.data.classes import ClassName
from svp_lightning.evaluation.schema import Count, Estimate, Part, Share
from svp_lightning.runtime.settings import read_stored

FIDELITY = "fidelity.json"
FIDELITY_SCHEMA: Literal[1] = 1
Verdict = Literal["copies", "close", "novel"]
"""``copies``: of training images; ``close``: nearer than held-out images, to no single ones."""

SIGNIFICANT = 0.01
"""Probability of calling a sign of copying significant where there is none."""


class Compared(Part):
    """Generated images, and real training images in their place: the floor."""

    generated: Estimate
    floor: Estimate


class MorphologyDistance(Part):
    """How one measure's distribution differs from that of held-out real images."""

    ks: Compared
    """Kolmogorov-Smirnov distance, 0 to 1; of a profile, the mean over its rings."""
    wasserstein: Compared
    """Earth mover's distance in standard deviations of the real values."""
    real_mean: float | None
    """In the measure's unit."""
    generated_mean: float | None


class TailCount(Part):
    """How many values lie below the lowest 5 % of their reference."""

    count: Count
    total: Count
    share: Estimate
    """Of the values, with its Wilson interval."""
    expected: Share
    """The share if both sets came from one distribution (about 5 %; more where the reference has
    fewer than 19 values)."""
    p_value: Share
    """Chance of as many or more under that assumption (beta-binomial: it knows that the threshold
    itself is one of the reference's values)."""
    threshold: float
    """In the values' unit."""

    @property
    def significant(self) -> bool:
        """More values below the threshold than chance explains."""
        return self.p_value < SIGNIFICANT


class SignCount(Part):
    """How many generated images have a sign of copying, and how many held-out real ones."""

    count: Count
    total: Count
    heldout_count: Count
    heldout_total: Count
    p_value: Share
    """Chance of as many or more among the generated ones if both sets came from one distribution
    (Fisher's exact test, one-sided)."""
    smallest_share: Share | None
    """The smallest share of the generated images at which the test would have called the sign
    significant; None where not even all of them suffice."""

    @property
    def significant(self) -> bool:
        """More than chance explains."""
        return self.p_value < SIGNIFICANT


class Memorisation(Part):
    """Generated against held-out images in their distances to the training images, in one space.

    See :mod:`~.fidelity.copies`.
    """

    closer: TailCount
    """On d1, the root mean square distance to the nearest training image."""
    singular: TailCount
    """On d1 / d2, d2 the distance to the second nearest."""
    copies: Estimate
    """Share of images with both signs."""
    both: SignCount
    """Images with both signs."""
    identical: SignCount
    """Images that equal a training image."""
    median_distance: float
    """Of the generated images' d1."""
    heldout_median_distance: float
    """Of the held-out images' d1: the floor."""
    verdict: Verdict


class Copies(Part):
    """Signs of copying of one class."""

    verdict: Verdict
    """The graver of both spaces."""
    pixel: Memorisation
    """In grey levels above the background."""
    feature: Memorisation
    """In feature space."""
    duplicates: TailCount
    """Generated images nearer to one another than real ones are, in grey levels."""


class ClassFidelity(Part):
    """The assessment of one class."""

    counts: dict[str, Count]
    """Images that there were: ``train``, ``heldout``, ``generated``."""
    compared: Count
    """Images of each set in ``features`` and ``morphology``."""
    features: dict[str, Compared]
    """Measure (:data:`~.fidelity.measures.LIMITS`) -> generated against held-out images."""
    recognised: Compared
    """Share taken for this class, of generated and of held-out images. (Of training images it
    would be higher: the network knows them.) Far below, many show another class; far above, they
    are plainer than real ones."""
    morphology: dict[str, MorphologyDistance]
    memorisation: Copies


class Fidelity(Part):
    """All of ``fidelity.json``."""

    schema_version: Literal[1] = Field(FIDELITY_SCHEMA, alias="schema")
    task: Literal["assess"] = "assess"
    scale: str
    held_out_split: str
    image_size: int
    """Px."""
    pixel_size_um: float | None
    feature_network: dict[str, Any]
    settings: dict[str, Any]
    classes: dict[ClassName, ClassFidelity]
    provenance: dict[str, Any]


def read_fidelity(path: Path) -> Fidelity:
    """Read and check ``fidelity.json``.

    Raises:
        ArtifactError: the file is missing, no JSON, of another schema, or incomplete.
    """
    return read_stored(path, Fidelity, FIDELITY_SCHEMA, "Run task=assess again to rewrite it.")
