"""Everything measured on the generated images of one class, with floors and intervals."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from svp_lightning.evaluation.fidelity.features import FeatureFidelity, feature_fidelity
from svp_lightning.evaluation.fidelity.intervals import Estimate, wilson
from svp_lightning.evaluation.fidelity.memorisation import (
    Excess,
    Memorisation,
    Shown,
    Verdict,
    duplicates,
    memorisation,
)
from svp_lightning.evaluation.fidelity.morphology import Morphology, measure_morphology
from svp_lightning.evaluation.fidelity.morphology_distance import (
    MorphologyDistance,
    morphology_distances,
)
from svp_lightning.evaluation.fidelity.neighbours import (
    Neighbours,
    nearest_neighbours,
    pixel_vectors,
    symmetric_images,
)
from svp_lightning.evaluation.fidelity.segmentation import shows_something


@dataclass(frozen=True)
class ImageSet:
    """Images of one class and what the feature network says of them.

    Attributes:
        images: (n, H, W) uint8.
        features: (8, n, D) of the images under the symmetries of
            :func:`~.neighbours.symmetric_images`; the first are the images themselves. Training
            images need no more than those, (1, n, D).
        recognised: (n,) whether this class is the most probable one.
    """

    images: NDArray[np.uint8]
    features: NDArray[np.float32]
    recognised: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: NDArray[np.int64] | slice) -> "ImageSet":
        """Some of the images."""
        return ImageSet(self.images[rows], self.features[:, rows], self.recognised[rows])


@dataclass(frozen=True)
class Closeness:
    """Nearest training images of generated and of held-out images, in one space."""

    generated: Neighbours
    heldout: Neighbours
    found: Memorisation


@dataclass(frozen=True)
class ClassFidelity:
    """The assessment of one class.

    Attributes:
        compared: images of each set in ``features`` and ``morphology``.
        features: generated against held-out images.
        feature_floor: real training against held-out images: what a perfect generator gives.
        recognised: share of generated images taken for this class. Far below ``recognised_real``
            many show another class under this one's name; far above, they are plainer than real
            ones.
        recognised_real: the same of held-out images. (Of training images it would be higher: the
            network knows them.)
        morphology: as ``features``, by measure.
        morphology_floor: as ``feature_floor``, by measure.
        measured: the morphology of the held-out, training and generated images compared.
        pixel: closeness in grey levels above the background.
        feature: closeness in feature space.
        repeated: generated images nearer to one another than real ones are, in grey levels.
    """

    compared: int
    features: FeatureFidelity
    feature_floor: FeatureFidelity
    recognised: Estimate
    recognised_real: Estimate
    morphology: dict[str, MorphologyDistance]
    morphology_floor: dict[str, MorphologyDistance]
    measured: tuple[Morphology, Morphology, Morphology]
    pixel: Closeness
    feature: Closeness
    repeated: Excess

    @property
    def verdict(self) -> Verdict:
        """The graver of the verdicts in the two spaces."""
        verdicts = (self.pixel.found.verdict, self.feature.found.verdict)
        return next(v for v in ("copies", "close", "novel") if v in verdicts)


def assess_class(
    train: ImageSet,
    heldout: ImageSet,
    generated: ImageSet,
    *,
    pixel_size_um: float | None = None,
    draws: int = 50,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ClassFidelity:
    """Compare generated images of a class with held-out real ones.

    Args:
        train: every training image of the class.
        heldout: real images that neither generator nor feature network has seen.
        generated: images to judge.
        pixel_size_um: µm per px, if known.
        draws: random halves behind each interval.
        seed: of the draws and of the training images that make the floor.
        device: for the distances between images.

    Raises:
        DataError: too few images to compare.
    """
    size = min(len(train), len(heldout), len(generated))
    chosen = np.random.default_rng(seed).permutation(len(train))[:size]
    a, floor, b = heldout.part(slice(size)), train.part(chosen), generated.part(slice(size))
    options = {"draws": draws, "seed": seed}
    # First, because it refuses sets that are too small.
    features = feature_fidelity(a.features[0], b.features[0], **options)
    measured = tuple(measure_morphology(part.images, pixel_size_um) for part in (a, floor, b))
    return ClassFidelity(
        compared=size,
        features=features,
        feature_floor=feature_fidelity(a.features[0], floor.features[0], **options),
        recognised=_share(b.recognised),
        recognised_real=_share(a.recognised),
        morphology=morphology_distances(measured[0], measured[2], **options),
        morphology_floor=morphology_distances(measured[0], measured[1], **options),
        measured=(measured[0], measured[1], measured[2]),
        pixel=pixel_closeness(train.images, heldout.images, generated.images, device),
        feature=closeness(
            train.features[0],
            heldout.features,
            generated.features,
            device,
            (shows_something(generated.images), shows_something(heldout.images)),
        ),
        repeated=_repeated(floor, b, device),
    )


def _share(recognised: NDArray[np.bool_]) -> Estimate:
    return wilson(int(recognised.sum()), len(recognised))


def pixel_closeness(
    train: NDArray[np.uint8],
    heldout: NDArray[np.uint8],
    generated: NDArray[np.uint8],
    device: torch.device | str = "cpu",
) -> Closeness:
    """Judge (n, H, W) images by their nearest training images in grey levels."""
    known_new, new = (pixel_vectors(symmetric_images(images)) for images in (heldout, generated))
    shown = shows_something(generated), shows_something(heldout)
    return closeness(pixel_vectors(train), known_new, new, device, shown)


def closeness(
    train: NDArray[np.float32],
    heldout: NDArray[np.float32],
    generated: NDArray[np.float32],
    device: torch.device | str = "cpu",
    shown: Shown | None = None,
) -> Closeness:
    """Judge generated vectors (S, n, D) against held-out ones, among training ones (m, D).

    ``shown``: see :func:`~.memorisation.memorisation`.
    """
    new = nearest_neighbours(generated, train, device=device)
    known_new = nearest_neighbours(heldout, train, device=device)
    return Closeness(new, known_new, memorisation(new, known_new, shown))


def _repeated(real: ImageSet, generated: ImageSet, device: torch.device | str) -> Excess:
    among = []
    for part in (generated, real):
        vectors = pixel_vectors(symmetric_images(part.images))
        among.append(nearest_neighbours(vectors, vectors[0], exclude_self=True, device=device))
    return duplicates(*among)


def class_record(found: ClassFidelity) -> dict[str, Any]:
    """The assessment as plain JSON values, as it stands in ``fidelity.json``.

    ``{"compared": n, "features": {measure: {"generated": E, "floor": E}}, "recognised":
    {"generated": E, "floor": E}, "morphology": {measure: {"ks": {"generated": E, "floor": E},
    "wasserstein": …, "real_mean": x, "generated_mean": x}}, "memorisation": {"verdict": …, "pixel":
    M, "feature": M, "duplicates": X}}`` with E an
    estimate ``{"value", "low", "high"}``, M a :class:`~.memorisation.Memorisation` (its counts
    :class:`~.finds.Finds`) and X an :class:`~.memorisation.Excess`. None stands
    where a value is not defined.
    """
    generated, floor = asdict(found.features), asdict(found.feature_floor)
    morphology = {}
    for name, distance in found.morphology.items():
        values, real = asdict(distance), asdict(found.morphology_floor[name])
        morphology[name] = {
            **{kind: {"generated": values[kind], "floor": real[kind]} for kind in DISTANCES},
            "real_mean": values["real_mean"],
            "generated_mean": values["generated_mean"],
        }
    record = {
        "compared": found.compared,
        "features": {k: {"generated": generated[k], "floor": floor[k]} for k in generated},
        "recognised": {
            "generated": asdict(found.recognised),
            "floor": asdict(found.recognised_real),
        },
        "morphology": morphology,
        "memorisation": {
            "verdict": found.verdict,
            "pixel": asdict(found.pixel.found),
            "feature": asdict(found.feature.found),
            "duplicates": asdict(found.repeated),
        },
    }
    plain: dict[str, Any] = _without_nan(record)
    return plain


DISTANCES = ("ks", "wasserstein")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
