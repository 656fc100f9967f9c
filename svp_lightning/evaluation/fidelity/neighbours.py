"""Nearest training neighbours under the 8 symmetries of the square."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svp_lightning.data.transforms import apply_symmetry
from svp_lightning.evaluation.fidelity.segmentation import border_level

SYMMETRIES = 8
QUERIES, REFERENCES = 64, 4096
"""Vectors compared at a time: 8 × 64 × 4096 distances, 8 MB, at once."""
SAME = 1e-5
"""Root mean square difference that rounding explains."""


@dataclass(frozen=True)
class Neighbours:
    """The two nearest references of n queries.

    Attributes:
        distance: (n,) root mean square difference per element to the nearest one.
        second: (n,) the same to the second nearest.
        index: (n,) int64, position of the nearest among the references.
        symmetry: (n,) int64, the symmetry of the query that lies there, 0 to 7.
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
    device: torch.device | str = "cpu",
) -> Neighbours:
    """Find the two nearest references of each query, whichever of its variants is nearer.

    Memory beyond the arrays themselves is flat; time is one matrix product.

    Args:
        queries: (S, n, D), S variants of n vectors (S = 1: none).
        references: (m, D), m at least 2 (3 with ``exclude_self``).
        exclude_self: query i is reference i, which does not count as its neighbour.
        device: where to compute.
    """
    found = [
        _nearest(
            torch.from_numpy(np.ascontiguousarray(queries[:, start : start + QUERIES])).float(),
            references,
            start if exclude_self else None,
            torch.device(device),
        )
        for start in range(0, queries.shape[1], QUERIES)
    ]
    distance, index, variant = (
        torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)
    )
    return Neighbours(
        distance=_exact(queries, references, index[:, 0], variant),
        second=distance[:, 1].astype(np.float64),
        index=index[:, 0],
        symmetry=variant,
    )


def _nearest(
    queries: Tensor, references: NDArray[Any], own: int | None, device: torch.device
) -> Sequence[Tensor]:
    """Root mean square distances (n, 2), places (n, 2) and variant of the nearest (n,)."""
    variants, n, dimensions = queries.shape
    q = queries.to(device).reshape(variants * n, dimensions)
    q_squared = q.square().sum(dim=1, keepdim=True)
    best = torch.full((n, 2), torch.inf, device=device)
    place = torch.zeros((n, 2), dtype=torch.int64, device=device)
    variant = torch.zeros((n, 2), dtype=torch.int64, device=device)
    for start in range(0, len(references), REFERENCES):
        block = np.ascontiguousarray(references[start : start + REFERENCES], dtype=np.float32)
        r = torch.from_numpy(block).to(device)
        squared = torch.addmm(q_squared + r.square().sum(dim=1), q, r.T, alpha=-2)
        nearest, which = squared.view(variants, n, len(r)).min(dim=0)
        if own is not None:
            itself = torch.arange(own, own + n, device=device)[:, None]
            here = torch.arange(start, start + len(r), device=device)
            nearest = nearest.masked_fill(here == itself, torch.inf)
        values, local = nearest.topk(min(2, len(r)), dim=1, largest=False)
        candidates = torch.cat([best, values], dim=1)
        best, order = candidates.topk(2, dim=1, largest=False)
        place = torch.cat([place, local + start], dim=1).gather(1, order)
        variant = torch.cat([variant, which.gather(1, local)], dim=1).gather(1, order)
    return (best.clamp(min=0) / dimensions).sqrt(), place, variant[:, 0]


def _exact(
    queries: NDArray[Any], references: NDArray[Any], index: NDArray[np.int64], variant: Any
) -> NDArray[np.float64]:
    """The nearest distance once more, without the rounding of a difference of squares."""
    parts = []
    for start in range(0, len(index), QUERIES):
        rows = np.arange(start, min(start + QUERIES, len(index)))
        a = queries[variant[rows], rows].astype(np.float64)
        parts.append(np.sqrt(np.square(a - references[index[rows]]).mean(axis=1)))
    return np.concatenate(parts)
