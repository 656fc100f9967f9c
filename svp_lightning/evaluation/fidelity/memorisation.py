"""Are generated images copies of training images?

Held-out real images are new by construction, so their distances to the training images are what
a generator that has learnt the distribution would give. Two signs are compared with theirs: the
distance d1 to the nearest training image, and the ratio d1 / d2 to the second nearest (as in
Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize"). A
smooth or monotonous generator shortens d1 and d2 alike; only copies make d1 stand alone. So only
both signs together count as copying.

A minority of copies hardly moves either share. So the images with both signs at once are counted
too, and those that equal a training image: of these one is enough, where held-out images have none.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from svp_lightning.evaluation.fidelity.finds import ALPHA, Finds, compare_finds
from svp_lightning.evaluation.fidelity.intervals import Estimate, wilson
from svp_lightning.evaluation.fidelity.neighbours import Neighbours

LEVEL = 0.05
"""Share of held-out images below the thresholds."""

Verdict = Literal["copies", "close", "novel"]
Shown = tuple[NDArray[np.bool_], NDArray[np.bool_]]


@dataclass(frozen=True)
class Excess:
    """How many values lie below the lowest 5 % of their reference.

    Attributes:
        count: values below the threshold.
        total: values.
        share: count / total with its Wilson interval.
        expected: the share if both sets came from one distribution (about 5 %; more
            where the reference has fewer than 19 values).
        p_value: chance of as many or more under that assumption (beta-binomial: it knows that
            the threshold itself is one of the reference's values).
        threshold: in the values' unit.
    """

    count: int
    total: int
    share: Estimate
    expected: float
    p_value: float
    threshold: float

    @property
    def significant(self) -> bool:
        """More values below the threshold than chance explains."""
        return self.p_value < ALPHA


@dataclass(frozen=True)
class Memorisation:
    """Generated against held-out real images in their distances to the training images.

    Attributes:
        closer: on d1, in root mean square units of the space.
        singular: on d1 / d2.
        copies: images with both signs, with the Wilson interval of their share.
        both: the number of these beside that of held-out images.
        identical: images that equal a training image (:attr:`Neighbours.identical`) beside
            held-out ones that do.
        median_distance: of the generated images' d1.
        heldout_median_distance: of the held-out images' d1: the floor.
        verdict: ``copies``: images equal training images, and no held-out image does or clearly
            fewer do; or both signs are significant; or d1 is not, but more images have both signs
            than chance explains. ``close``: only d1 is significant, as for images smoother or less
            varied than real ones. ``novel``: none of this.
    """

    closer: Excess
    singular: Excess
    copies: Estimate
    both: Finds
    identical: Finds
    median_distance: float
    heldout_median_distance: float
    verdict: Verdict


def lower_excess(values: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]) -> Excess:
    """Count the values below the reference's lowest 5 %, and say what chance would give.

    Args:
        values: (n,).
        reference: (m,) values of the same kind from images known to be new.
    """
    n, m = len(values), len(reference)
    rank = max(1, int(LEVEL * (m + 1)))
    threshold = float(np.sort(reference)[rank - 1])
    count = int((values < threshold).sum())
    return Excess(
        count=count,
        total=n,
        share=wilson(count, n),
        expected=rank / (m + 1),
        p_value=float(betabinom(n, rank, m + 1 - rank).sf(count - 1)),
        threshold=threshold,
    )


def memorisation(
    generated: Neighbours, heldout: Neighbours, shown: Shown | None = None
) -> Memorisation:
    """Judge generated images by their nearest training images.

    Args:
        generated: neighbours of generated images among the training images of their class.
        heldout: neighbours of held-out real images of the class among the same.
        shown: which generated, and which held-out, images show anything; all if None. Blank ones
            equal one another by chance and count as nobody's copies.
    """
    new, known_new = shown or (np.True_, np.True_)
    closer = lower_excess(generated.distance, heldout.distance)
    singular = lower_excess(generated.ratio, heldout.ratio)
    both = copied(generated, heldout)
    counted = compare_finds(both, copied(heldout, heldout))
    identical = compare_finds(generated.identical & new, heldout.identical & known_new)
    return Memorisation(
        closer=closer,
        singular=singular,
        copies=wilson(counted.count, counted.total),
        both=counted,
        identical=identical,
        median_distance=float(np.median(generated.distance)),
        heldout_median_distance=float(np.median(heldout.distance)),
        verdict=_verdict(closer, singular, counted, identical),
    )


def _verdict(closer: Excess, singular: Excess, both: Finds, identical: Finds) -> Verdict:
    # No test where no held-out image equals a training image: nothing but copying makes one.
    if identical.count and (not identical.heldout_count or identical.significant):
        return "copies"
    if closer.significant:
        # All images lie closer, so more than elsewhere have both signs, copies or not.
        return "copies" if singular.significant else "close"
    return "copies" if both.significant else "novel"


def copied(images: Neighbours, heldout: Neighbours) -> NDArray[np.bool_]:
    """(n,) which images, generated or held-out ones, have both signs of a copy."""
    distance = lower_excess(images.distance, heldout.distance).threshold
    ratio = lower_excess(images.ratio, heldout.ratio).threshold
    return (images.distance < distance) & (images.ratio < ratio)


def duplicates(generated: Neighbours, real: Neighbours) -> Excess:
    """Generated images nearer to one another than real ones are.

    Args:
        generated: neighbours of generated images among themselves.
        real: neighbours of as many real images among themselves.
    """
    return lower_excess(generated.distance, real.distance)
