"""Distances between two sets of feature vectors: Fréchet (FID) and kernel (KID).

The formulas are torchmetrics'; features come from a network of our own, so neither value can be
compared with one computed on ImageNet features.
"""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

Features = NDArray[np.floating[Any]]

UNEQUAL_SUBSETS = 20
"""Random subsets averaged where the two sets differ in size, as torchmetrics' KID needs."""

LOCAL: dict[str, Any] = {"sync_on_compute": False}
"""One process has all vectors; to wait for the others would wait for ever."""


def frechet_distance(real: Features, generated: Features) -> float:
    """|μ_r − μ_g|² + tr(Σ_r + Σ_g − 2 (Σ_r Σ_g)^½) (Heusel et al. 2017, arXiv 1706.08500).

    Biased upwards in small sets: compare only values from sets of one size.

    Args:
        real: (n, D), n at least 2.
        generated: (m, D), m at least 2.
    """
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]), **LOCAL)
    metric.update(_tensor(real), real=True)
    metric.update(_tensor(generated), real=False)
    # Rounding leaves tiny negative values for equal sets.
    return max(float(metric.compute()), 0.0)


def kernel_distance(real: Features, generated: Features) -> float:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³ (Bińkowski et al. 2018, 1801.01401).

    0 on average for two sets from one distribution, and below 0 as often as above.

    Args:
        real: (n, D), n at least 2.
        generated: (m, D), m at least 2.
    """
    size = min(len(real), len(generated))
    subsets = 1 if len(real) == len(generated) else UNEQUAL_SUBSETS
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message=".*will save all extracted features.*")
        torch.manual_seed(0)  # of the subsets; the caller's own randomness stays untouched
        metric = KernelInceptionDistance(
            feature=_Given(real.shape[1]), subsets=subsets, subset_size=size, **LOCAL
        )
        metric.update(_tensor(real), real=True)
        metric.update(_tensor(generated), real=False)
        return float(metric.compute()[0])


class _Given(nn.Module):
    """Stands where torchmetrics expects a network: the features have been computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _tensor(features: Features) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(features, dtype=np.float64))
