"""Counts of particles, corrected for what a classifier takes for what.

A run shows n_j particles counted as class j. With C_kj the share of class k that the classifier
counts as class j, n is a Poisson draw around λC, and λ = n C⁻¹ estimates the particles that there
are of each class (the matrix method: Levy and Kass 1970; "adjusted count" of Forman 2008,
doi:10.1007/s10618-008-0097-y). C is measured on labelled test images, and differs by size: small
particles are mistaken more often. So each size bin has its own C, as far as the test images allow.

Intervals hold the Poisson error of the run and the multinomial error of C. Their ends are
quantiles of melded confidence distributions (Fay, Proschan and Brittain 2015,
doi:10.1111/biom.12231): that of a Poisson mean is exact (Garwood 1936), that of a share lies
halfway between the observed share and the exact one (Clopper and Pearson 1934), as in mid-P
intervals: exact ones of many shares together would hold the truth far too often. Each is shifted to
the side that moves the end outwards. Where sizes are recognised unequally well, the one particle
more, by which the ends of a Poisson interval differ, has the size that moves the end most (Fay and
Feuer 1997, doi:10.1002/(SICI)1097-0258(19970415)16:7<791::AID-SIM500>3.0.CO;2-#). Without mistakes
the intervals are Garwood's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.intervals import TAILS
from svp_lightning.evaluation.particle_counts import poisson_interval

LEAST_IMAGES = 10
"""Test images of a class that a size bin needs for shares of its own; else bins are joined."""
DRAWS = 2000
SHIFT = 0.5
"""Test images by which a draw of C is shifted; 1 gives the exact interval of a share."""

Counts = NDArray[np.integer[Any]]
Values = NDArray[np.float64]
Term = tuple[Counts, float]
"""(B, K) particles counted as each class in each size bin, and the factor they come with."""


def size_bins(size_um: NDArray[np.floating[Any]], edges_um: Sequence[float]) -> NDArray[np.intp]:
    """(N,) bin of each particle: 0 of unknown size, 1 below the first edge, … E + 1 above the last.

    ``size_um`` is (N,), NaN where unknown; of E ascending thresholds ``edges_um``, a particle of
    just that size is in the bin above.
    """
    return np.where(np.isnan(size_um), 0, 1 + np.searchsorted(edges_um, size_um, side="right"))


def count_by_bin(
    bins: NDArray[np.intp], called: NDArray[np.integer[Any]], num_bins: int, num_classes: int
) -> Counts:
    """(B, K) particles of each bin that are counted as each class."""
    cells = np.bincount(bins * num_classes + called, minlength=num_bins * num_classes)
    return cells.reshape(num_bins, num_classes)


def at_least(values: NDArray[Any]) -> NDArray[Any]:
    """(…, B, K) sums over a bin and all above it; bin 0 then holds every particle."""
    return np.asarray(values[..., ::-1, :].cumsum(axis=-2)[..., ::-1, :])


@dataclass(frozen=True)
class Confusion:
    """What a classifier counts its labelled test images as, by size.

    Attributes:
        images: (B, K, K) test images by bin (see :func:`size_bins`), given class and class that
            they are counted as. Bins with too few images of a class share those of the joined
            bins; bin 0 holds all images.
        group: (B, K) number of the joined bins that a bin belongs to, for each given class.
    """

    images: Counts
    group: NDArray[np.intp]

    @classmethod
    def measured(
        cls,
        given: NDArray[np.integer[Any]],
        called: NDArray[np.integer[Any]],
        bins: NDArray[np.intp],
        num_bins: int,
        num_classes: int,
    ) -> "Confusion":
        """From N labelled test images, K classes and B bins.

        Args:
            given: (N,) class; each of the K classes needs an image.
            called: (N,) class counted as.
            bins: (N,) size bin; test images of unknown size serve bin 0 alone.
            num_bins: B.
            num_classes: K.
        """
        images = np.empty((num_bins, num_classes, num_classes), dtype=np.int64)
        group = np.zeros((num_bins, num_classes), dtype=np.intp)
        for k in range(num_classes):
            own = given == k
            found = count_by_bin(bins[own], called[own], num_bins, num_classes)
            group[1:, k] = _joined(found.sum(axis=1)[1:]) + 1
            for number in np.unique(group[:, k]):
                of = group[:, k] == number
                images[of, k] = found[of].sum(axis=0) if number else found.sum(axis=0)
            if not images[:, k].sum(axis=1).all():  # no size is known: the same shares everywhere
                images[:, k], group[:, k] = found.sum(axis=0), 0
        return cls(images, group)

    @cached_property
    def rates(self) -> Values:
        """(B, K, K) C of each bin; rows sum to 1.

        Of a class that is never recognised, half an image counts as recognised. Without it, the
        counts could be shared out among this class and the one that it is taken for in any way.
        """
        images, own = self.images.astype(np.float64), np.arange(self.images.shape[-1])
        images[:, own, own] = np.maximum(images[:, own, own], SHIFT)
        return np.asarray(images / images.sum(axis=2, keepdims=True))

    def drawn(self, k: int, upper: bool, rng: np.random.Generator) -> Values:
        """(R, B, K, K) draws of C, shifted so that they move an end of class k's count outwards.

        For the lower end more of every class is taken for class k; for the upper end more of class
        k is missed, and more of each other class recognised. Bins that share their test images
        share their draws.
        """
        B, K, _ = self.images.shape
        shift = np.eye(K) if upper else np.zeros((K, K))
        shift[:, k] = not upper
        if upper:
            shift[k] = 0 if K == 1 else np.where(np.arange(K) == k, 0, 1 / (K - 1))
        drawn = np.empty((DRAWS, B, K, K))
        for given in range(K):
            for number in np.unique(self.group[:, given]):
                of = self.group[:, given] == number
                mass = self.images[of, given][0] + SHIFT * shift[given]
                drawn[:, of, given] = rng.standard_gamma(mass, (DRAWS, K))[:, None]
        return np.asarray(drawn / np.maximum(drawn.sum(axis=-1, keepdims=True), 1e-300))


def _joined(images: Counts) -> NDArray[np.intp]:
    """(E,) group of each bin, from the largest down: each holds :data:`LEAST_IMAGES` or more.

    Too few images below all full groups join the one above them.
    """
    group, number, held = np.zeros(len(images), dtype=np.intp), 0, 0
    for at in reversed(range(len(images))):
        group[at] = number
        held += images[at]
        if held >= LEAST_IMAGES:
            number, held = number + 1, 0
    return np.minimum(group, max(number - 1, 0))


class Corrector:
    """Corrected counts and their intervals, by the same draws every time.

    Without a ``confusion``, every particle is taken for what it is counted as.
    """

    def __init__(self, confusion: Confusion | None) -> None:
        self.confusion = confusion
        self._inverses: dict[tuple[int, bool], Values] = {}

    def estimate(self, counts: Counts) -> Values:
        """(B, K) particles there are of each class, of a bin and all above it.

        Never negative, summing over the classes to the particles counted, and never fewer where
        the size is smaller: from the largest bin down, what a bin adds is cut at 0 and scaled to
        the particles of the bin. A deficit that is cut counts against the bins below.
        """
        if self.confusion is None:
            return at_least(counts).astype(np.float64)
        inverses = np.linalg.pinv(self.confusion.rates)
        unbiased = at_least(np.einsum("bj,bjk->bk", counts, inverses))
        found, total = np.zeros(unbiased.shape), np.zeros(counts.shape[1])
        for at in reversed(range(len(counts))):
            more = np.maximum(unbiased[at] - total, 0)
            total = total + more * (counts[at].sum() / max(more.sum(), 1e-300))
            found[at] = total
        return found.round(9)

    def interval(self, terms: Sequence[Term]) -> tuple[Values, Values]:
        """95 % interval of the sum of factor × corrected count, of a bin and all above it.

        One run has one term; the difference of two runs has two, one with a negative factor, and
        of two runs less their own blanks four. All share the draws of C, as the same classifier
        counts all.

        Args:
            terms: one at least; the first factor is positive.

        Returns:
            (B, K) lower and upper ends. Those of one term are not below 0 nor above the end for all
            particles together. The smaller the sizes, the higher they are, but by no more than the
            end for all particles of these sizes. Those of several terms are not beyond what the
            ends of each one leave.
        """
        counts, factor = terms[0]
        if len(terms) == 1 and self.confusion is None:
            low, high = poisson_interval(at_least(counts))
            return low * factor, high * factor
        ends = np.stack([self._end(terms, k) for k in range(counts.shape[1])], axis=-1)
        if len(terms) == 1:
            return _possible(ends[0] / factor, ends[1] / factor, counts, factor)
        alone = [(f, self.interval([(n, abs(f))])) for n, f in terms]
        least = sum(low if f > 0 else -high for f, (low, high) in alone)
        most = sum(high if f > 0 else -low for f, (low, high) in alone)
        return np.maximum(ends[0], least), np.minimum(ends[1], most)

    def _end(self, terms: Sequence[Term], k: int) -> Values:
        """(2, B) lower and upper end of class ``k``.

        How an error of C moves a difference depends on its sign, so both shifts of C are tried.
        """
        found = []
        for shifted in (False, True):
            weights = self._weights(k, shifted, terms[0][0].shape)
            for upper in (False, True):
                if len(terms) == 1 and shifted != upper:
                    continue
                rng = np.random.default_rng([0, k, upper])
                drawn = sum(_drawn_term(*term, k, upper, weights, rng) for term in terms)
                found.append((upper, np.quantile(drawn, TAILS[upper], axis=0)))
        low = np.min([end for upper, end in found if not upper], axis=0)
        return np.stack([low, np.max([end for upper, end in found if upper], axis=0)])

    def _weights(self, k: int, upper: bool, shape: tuple[int, ...]) -> Values:
        """(R, B, K) column k of C⁻¹: what a particle counted as each class adds to class k."""
        if self.confusion is None:
            return np.broadcast_to(np.eye(shape[1])[k], (DRAWS, *shape))
        if (k, upper) not in self._inverses:
            rng = np.random.default_rng([0, k, upper, 1])
            C = self.confusion.drawn(k, upper, rng)
            wanted = np.broadcast_to(np.eye(C.shape[-1])[k][:, None], (*C.shape[:-1], 1))
            # A classifier that never finds a class says nothing about it: a huge weight, no error.
            singular = 1e-9 * np.eye(C.shape[-1])
            self._inverses[k, upper] = np.linalg.solve(C + singular, wanted)[..., 0]
        return self._inverses[k, upper]


def _drawn_term(
    counts: Counts, factor: float, k: int, upper: bool, weights: Values, rng: np.random.Generator
) -> Values:
    """(R, B) draws of factor × particles of class k, of a bin and all above it.

    Particles called another class take away.
    """
    drawn = rng.standard_gamma(counts.astype(np.float64), (DRAWS, *counts.shape))
    outwards = upper == (factor > 0)
    more = (np.arange(counts.shape[1]) == k) == outwards
    worst = (np.maximum if outwards else np.minimum).accumulate(weights[:, ::-1, more], axis=1)
    extra = rng.standard_gamma(1.0, (DRAWS, 1, more.sum())) * worst
    below = np.cumsum((drawn * weights).sum(axis=2)[:, ::-1], axis=1) + extra.sum(axis=2)
    return np.asarray(factor * below[:, ::-1])


def _possible(low: Values, high: Values, counts: Counts, factor: float) -> tuple[Values, Values]:
    """Factor × ends of one run, as far as its particles of each size allow them."""
    each = poisson_interval(counts.sum(axis=1, keepdims=True))[1]
    steps = at_least(each)
    low = np.maximum.accumulate(low[::-1])[::-1]
    high = np.minimum.accumulate((high - steps)[::-1])[::-1] + steps
    # Nor fewer than may be there where none is seen, or than there may be of larger sizes.
    high = np.maximum(high, poisson_interval(np.zeros(1, int))[1])
    high = np.maximum.accumulate(high[::-1])[::-1]
    most = poisson_interval(at_least(counts).sum(axis=1, keepdims=True))[1]
    return np.clip(low, 0, most) * factor, np.clip(high, 0, most) * factor
