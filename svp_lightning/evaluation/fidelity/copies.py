"""Are generated images copies of training images?

Held-out real images are new by construction, so their distances to the training images are what
a generator that has learnt the distribution would give. Two signs are compared with theirs: the
distance d1 to the nearest training image, and the ratio d1 / d2 to the second nearest (as in
Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize"). A
smooth or monotonous generator shortens d1 and d2 alike; only copies make d1 stand out. So only
both signs together count as copying.

A minority of copies hardly moves either share. So the images with both signs at once are counted
too, and those that equal a training image: of these one is enough, where held-out images have none.
Images are compared under the 8 symmetries of the square.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import betabinom, hypergeom
from sklearn.neighbors import NearestNeighbors

from svp_lightning.data.transforms import SYMMETRIES, apply_symmetry
from svp_lightning.evaluation.fidelity.morphology import border_level, shows_something
from svp_lightning.evaluation.fidelity.stored import (
    SIGNIFICANT,
    Memorisation,
    SignCount,
    TailCount,
    Verdict,
)
from svp_lightning.evaluation.intervals import share_of

SAME = 1e-5
"""Root mean square difference that rounding explains."""
LEVEL = 0.05
"""Share of held-out images below the thresholds."""

Visible = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Which generated, and which held-out, images show anything."""


@dataclass(frozen=True)
class Neighbours:
    """The two nearest references of n queries.

    ``distance`` (n,) is the root mean square difference per element to the nearest one, ``second``
    to the second nearest, ``index`` (n,) the position of the nearest among the references, and
    ``symmetry`` (n,) the symmetry of the query that lies there, 0 to 7.
    """

    distance: NDArray[np.float64]
    second: NDArray[np.float64]
    index: NDArray[np.int64]
    symmetry: NDArray[np.int64]

    @property
    def identical(self) -> NDArray[np.bool_]:
        """(n,) which queries equal a reference but for rounding (:data:`SAME`)."""
        return self.distance <= SAME

    @property
    def ratio(self) -> NDArray[np.float64]:
        """(n,) d1 / d2, 0 to 1: small where one reference is far nearer than any other.

        0 where the query is a reference, also one that occurs twice.
        """
        return np.where(self.identical, 0.0, self.distance / np.maximum(self.second, SAME))


def symmetric_images(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(8, n, H, W): each of (n, H, W) images under all symmetries; the first is itself."""
    tensor = torch.from_numpy(np.array(images))[:, None]
    codes = torch.arange(SYMMETRIES).repeat_interleave(len(tensor))
    turned = apply_symmetry(tensor.repeat(SYMMETRIES, 1, 1, 1), codes)
    return turned.view(SYMMETRIES, *images.shape).numpy()


def pixel_vectors(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(..., H, W) images -> (..., H·W) grey levels above the background of each image.

    Without their backgrounds, images of one lamp setting are not taken for relatives.
    """
    *many, h, w = images.shape
    grey = images.reshape(-1, h, w).astype(np.float32)
    grey -= border_level(grey)[:, None, None]
    return grey.reshape(*many, h * w)


def nearest_neighbours(
    queries: NDArray[np.floating[Any]],
    references: NDArray[np.floating[Any]],
    *,
    exclude_self: bool = False,
) -> Neighbours:
    """Find the two nearest references of each query, whichever of its variants is nearer.

    Args:
        queries: (S, n, D), S variants of n vectors (S = 1: none).
        references: (m, D), m at least 2 (3 with ``exclude_self``).
        exclude_self: query i is reference i, which does not count as its neighbour.
    """
    variants, n, dimensions = queries.shape
    k = 3 if exclude_self else 2
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(references)
    found = index.kneighbors(queries.reshape(variants * n, dimensions))
    # The second nearest reference overall is among the two nearest of its own best variant.
    distance, place = (x.reshape(variants, n, k).swapaxes(0, 1).reshape(n, -1) for x in found)
    if exclude_self:
        distance = np.where(place == np.arange(n)[:, None], np.inf, distance)
    rows, best = np.arange(n), distance.argmin(axis=1)
    nearest = place[rows, best]
    second = np.where(place == nearest[:, None], np.inf, distance).min(axis=1)
    scale = dimensions**-0.5
    return Neighbours(distance[rows, best] * scale, second * scale, nearest, best // k)


@dataclass(frozen=True)
class Closeness:
    """Nearest training images of generated and of held-out images, in one space."""

    generated: Neighbours
    heldout: Neighbours
    found: Memorisation


def pixel_closeness(
    train: NDArray[np.uint8],
    heldout: NDArray[np.uint8],
    generated: NDArray[np.uint8],
) -> Closeness:
    """Judge (n, H, W) images by their nearest training images in grey levels."""
    known_new, new = (pixel_vectors(symmetric_images(images)) for images in (heldout, generated))
    visible = shows_something(generated), shows_something(heldout)
    return closeness(pixel_vectors(train), known_new, new, visible)


def closeness(
    train: NDArray[np.float32],
    heldout: NDArray[np.float32],
    generated: NDArray[np.float32],
    visible: Visible | None = None,
) -> Closeness:
    """Judge generated vectors (S, n, D) against held-out ones, among training ones (m, D).

    ``visible``: see :func:`memorisation`.
    """
    new, known_new = (nearest_neighbours(part, train) for part in (generated, heldout))
    return Closeness(new, known_new, memorisation(new, known_new, visible))


def memorisation(
    generated: Neighbours, heldout: Neighbours, visible: Visible | None = None
) -> Memorisation:
    """Judge generated images by their nearest training images.

    ``copies``: images equal training images, and no held-out image does or clearly fewer do; or
    both signs are significant; or d1 is not, but more images have both signs than chance explains.
    ``close``: only d1 is significant, as for images smoother or less varied than real ones.
    ``novel``: none of this.

    Both arguments are neighbours among the training images of the class. ``visible``: all images if
    None; blank ones equal one another by chance and count as nobody's copies.
    """
    new, known_new = visible or (np.True_, np.True_)
    closer = lower_tail(generated.distance, heldout.distance)
    singular = lower_tail(generated.ratio, heldout.ratio)
    both = compare_signs(copied(generated, heldout), copied(heldout, heldout))
    identical = compare_signs(generated.identical & new, heldout.identical & known_new)
    return Memorisation(
        closer=closer,
        singular=singular,
        copies=share_of(both.count, both.total),
        both=both,
        identical=identical,
        median_distance=float(np.median(generated.distance)),
        heldout_median_distance=float(np.median(heldout.distance)),
        verdict=_verdict(closer, singular, both, identical),
    )


def _verdict(
    closer: TailCount, singular: TailCount, both: SignCount, identical: SignCount
) -> Verdict:
    # No test where no held-out image equals a training image: nothing but copying makes one.
    if identical.count and (not identical.heldout_count or identical.significant):
        return "copies"
    if closer.significant:
        # All images lie closer, so more than elsewhere have both signs, copies or not.
        return "copies" if singular.significant else "close"
    return "copies" if both.significant else "novel"


def copied(images: Neighbours, heldout: Neighbours) -> NDArray[np.bool_]:
    """(n,) which images, generated or held-out ones, have both signs of a copy."""
    distance, ratio = (_threshold(part)[0] for part in (heldout.distance, heldout.ratio))
    return (images.distance < distance) & (images.ratio < ratio)


def lower_tail(
    values: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]
) -> TailCount:
    """Count the values (n,) below the lowest 5 % of a reference, and say what chance would give.

    The ``reference`` (m,) is of values of the same kind, from images known to be new.
    """
    n, m = len(values), len(reference)
    threshold, rank = _threshold(reference)
    count = int((values < threshold).sum())
    return TailCount(
        count=count,
        total=n,
        share=share_of(count, n),
        expected=rank / (m + 1),
        p_value=float(betabinom(n, rank, m + 1 - rank).sf(count - 1)),
        threshold=threshold,
    )


def _threshold(reference: NDArray[np.floating[Any]]) -> tuple[float, int]:
    """Where the lowest 5 % end, and the rank of that value."""
    rank = max(1, int(LEVEL * (len(reference) + 1)))
    return float(np.sort(reference)[rank - 1]), rank


def compare_signs(generated: NDArray[np.bool_], heldout: NDArray[np.bool_]) -> SignCount:
    """Compare (n,) generated with (m,) held-out images in whether they have a sign."""
    count, n = int(generated.sum()), len(generated)
    heldout_count, m = int(heldout.sum()), len(heldout)
    counts = np.arange(n + 1)
    # The p-value of every count there could be; it falls as the count grows.
    p_values = hypergeom(n + m, counts + heldout_count, n).sf(counts - 1).clip(0, 1)
    enough = np.flatnonzero(p_values < SIGNIFICANT)
    return SignCount(
        count=count,
        total=n,
        heldout_count=heldout_count,
        heldout_total=m,
        p_value=float(p_values[count]),
        smallest_share=float(enough[0] / n) if len(enough) else None,
    )


def duplicates(generated: NDArray[np.uint8], real: NDArray[np.uint8]) -> TailCount:
    """Generated images (n, H, W) nearer to one another, in grey levels, than real ones are."""
    among = []
    for images in (generated, real):
        vectors = pixel_vectors(symmetric_images(images))
        among.append(nearest_neighbours(vectors, vectors[0], exclude_self=True))
    return lower_tail(among[0].distance, among[1].distance)
