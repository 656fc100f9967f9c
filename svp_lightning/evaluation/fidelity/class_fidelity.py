"""Everything measured on the generated images of one class, with floors and intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svp_lightning.data.store import spread
from svp_lightning.evaluation.fidelity.copies import (
    Closeness,
    closeness,
    duplicates,
    pixel_closeness,
)
from svp_lightning.evaluation.fidelity.measures import feature_fidelity
from svp_lightning.evaluation.fidelity.morphology import (
    Morphology,
    mean_measures,
    measure_morphology,
    morphology_distances,
    shows_something,
)
from svp_lightning.evaluation.fidelity.stored import (
    ClassFidelity,
    Compared,
    Copies,
    MorphologyDistance,
)
from svp_lightning.evaluation.intervals import share_of
from svp_lightning.evaluation.schema import Estimate


@dataclass(frozen=True)
class ImageSet:
    """Images (n, H, W) uint8 of one class and what the feature network says of them.

    ``features`` are (8, n, D), of the images under the symmetries of
    :func:`~.copies.symmetric_images` (the first are the images themselves); training images need no
    more than those, (1, n, D). ``recognised`` (n,): whether this class is the most probable one.
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
class Assessment:
    """What ``fidelity.json`` holds of one class, and what its figures are drawn from.

    ``measured`` is the morphology of the held-out and of the generated images compared.
    """

    found: ClassFidelity
    measured: tuple[Morphology, Morphology]
    pixel: Closeness
    feature: Closeness


def assess_class(
    train: ImageSet,
    heldout: ImageSet,
    generated: ImageSet,
    *,
    pixel_size_um: float | None = None,
    draws: int = 50,
    seed: int = 0,
) -> Assessment:
    """Compare generated images of a class with held-out real ones.

    Args:
        train: every training image of the class.
        heldout: real images that neither generator nor feature network has seen.
        generated: images to judge.
        pixel_size_um: µm per px, if known.
        draws: random halves behind each interval.
        seed: of the draws and of the training images that make the floor.

    Raises:
        DataError: too few images to compare.
    """
    size = min(len(train), len(heldout), len(generated))
    chosen = np.random.default_rng(seed).permutation(len(train))[:size]
    even = spread(np.arange(len(heldout)), size)  # of all runs, by which they may be sorted
    a, floor, b = heldout.part(even), train.part(chosen), generated.part(slice(size))
    # First, because it refuses sets that are too small.
    new, known = (
        feature_fidelity(a.features[0], part.features[0], draws=draws, seed=seed)
        for part in (b, floor)
    )
    measured = [measure_morphology(part.images, pixel_size_um) for part in (a, floor, b)]
    visible = shows_something(generated.images), shows_something(heldout.images)
    pixel = pixel_closeness(train.images, heldout.images, generated.images)
    feature = closeness(train.features[0], heldout.features, generated.features, visible)
    verdicts = (pixel.found.verdict, feature.found.verdict)
    found = ClassFidelity(
        counts={"train": len(train), "heldout": len(heldout), "generated": len(generated)},
        compared=size,
        features={name: Compared(generated=new[name], floor=known[name]) for name in new},
        recognised=Compared(generated=_share(b.recognised), floor=_share(a.recognised)),
        morphology=_morphology(measured, draws, seed),
        memorisation=Copies(
            verdict=next(v for v in ("copies", "close", "novel") if v in verdicts),
            pixel=pixel.found,
            feature=feature.found,
            duplicates=duplicates(b.images, floor.images),
        ),
    )
    return Assessment(found, (measured[0], measured[2]), pixel, feature)


def _morphology(
    measured: Sequence[Morphology], draws: int, seed: int
) -> dict[str, MorphologyDistance]:
    """Of held-out, training and generated images."""
    real, floor, generated = measured
    new, known = (
        morphology_distances(real, part, draws=draws, seed=seed) for part in (generated, floor)
    )
    means = mean_measures(real), mean_measures(generated)
    return {
        name: MorphologyDistance(
            **{kind: Compared(generated=of[kind], floor=known[name][kind]) for kind in of},
            real_mean=means[0][name],
            generated_mean=means[1][name],
        )
        for name, of in new.items()
    }


def _share(recognised: NDArray[np.bool_]) -> Estimate:
    return share_of(int(recognised.sum()), len(recognised))
