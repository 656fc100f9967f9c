"""Distances between sets of feature vectors, against cases whose answer is known."""

import numpy as np
import pytest
import torch

from svp_lightning.errors import DataError
from svp_lightning.evaluation.fidelity.measures import (
    feature_fidelity,
    frechet_distance,
    kernel_distance,
    manifold_coverage,
    two_sample_auc,
)
from svp_lightning.evaluation.intervals import share_of, with_half_sample_intervals


def normal(seed: int, n: int = 300, d: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_frechet_distance_of_gaussians_has_its_closed_form() -> None:
    """Vectors whose sample moments are exactly those wanted: no sampling error is left."""
    x = normal(0)
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    shift, scale = np.arange(8.0), np.linspace(0.5, 2, 8)
    expected = (shift**2).sum() + ((1 - scale) ** 2).sum()  # Σ commute: tr (√Σ_r − √Σ_g)²
    assert frechet_distance(x, x * scale + shift) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-5)


def test_kernel_distance_is_the_unbiased_mmd() -> None:
    x, y = normal(1, 40), normal(2, 40) + 0.3

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    off = ~np.eye(40, dtype=bool)
    expected = kernel(x, x)[off].mean() + kernel(y, y)[off].mean() - 2 * kernel(x, y).mean()
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)
    null = [kernel_distance(normal(2 * s, 60), normal(2 * s + 1, 60)) for s in range(30)]
    assert abs(np.mean(null)) < 3 * np.std(null) / np.sqrt(30)
    assert kernel_distance(x, normal(3, 55)) == kernel_distance(x, normal(3, 55))


def test_metrics_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    kernel_distance(normal(0, 20), normal(1, 30))
    assert torch.rand(1) == expected


def test_coverage_of_identical_and_of_disjoint_sets() -> None:
    x = normal(4)
    same = manifold_coverage(x, x)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    # A vector lies in its own ball and in 4 others on average; the 5th neighbour is on the edge.
    assert 1 - 1e-9 <= same["density"] <= 1.2
    far = manifold_coverage(x, x + 100)
    assert (far["precision"], far["recall"], far["density"], far["coverage"]) == (0, 0, 0, 0)


def test_coverage_agrees_with_its_definition() -> None:
    real, generated = normal(5, 50, 3), normal(6, 60, 3) + 0.5
    distance = np.linalg.norm(real[:, None] - generated[None], axis=2)

    def radius(x: np.ndarray) -> np.ndarray:
        return np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)[:, 5]

    found = manifold_coverage(real, generated)
    inside = distance <= radius(real)[:, None]
    assert found["precision"] == inside.any(axis=0).mean()
    assert found["recall"] == (distance <= radius(generated)).any(axis=1).mean()
    assert found["density"] == pytest.approx(inside.sum() / (5 * 60))
    assert found["coverage"] == inside.any(axis=1).mean()


def test_dropped_mode_lowers_variety_and_a_bad_mode_lowers_fidelity() -> None:
    modes = np.array([[0.0] * 4, [20.0] * 4])
    real = normal(7, 400, 4) + np.repeat(modes, 200, axis=0)
    dropped = manifold_coverage(real, normal(8, 400, 4))
    assert dropped["precision"] > 0.9
    assert dropped["recall"] < 0.55
    assert dropped["coverage"] < 0.55
    spoilt = normal(9, 400, 4) + np.repeat(modes, 200, axis=0)
    spoilt[:100] += 500
    found = manifold_coverage(real, spoilt)
    assert found["precision"] == pytest.approx(0.75, abs=0.05)
    assert found["coverage"] > 0.8


def test_auc_is_half_for_one_distribution_and_one_for_two() -> None:
    null = [two_sample_auc(normal(s, 80), normal(s + 1000, 80)) for s in range(20)]
    assert np.mean(null) == pytest.approx(0.5, abs=0.05)
    assert two_sample_auc(normal(0), normal(1) + 3) > 0.99
    # Unit normals shifted by s along one axis: the best AUC is Φ(s / √2).
    shifted = normal(1, 2000) + np.eye(8)[0]
    assert two_sample_auc(normal(0, 2000), shifted) == pytest.approx(0.760, abs=0.02)


def test_half_sample_interval_of_a_mean_has_its_standard_error() -> None:
    x, y = normal(0, 400, 1), normal(1, 400, 1)
    (found,) = with_half_sample_intervals(
        lambda a, b: {"difference": float(b.mean() - a.mean())},
        x,
        y,
        draws=400,
        seed=0,
        limits={"difference": (-9, 9)},
    ).values()
    expected = 1.96 * np.sqrt(x.var() / 400 + y.var() / 400)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.12)
    assert found.low < found.value < found.high


def test_intervals_cover_the_floor_of_one_distribution() -> None:
    found = feature_fidelity(normal(10, 200), normal(11, 200), draws=12)
    assert found["kid"].low < 0 < found["kid"].high
    assert found["auc"].low < 0.5 < found["auc"].high
    assert found["density"].low < 1.05 < found["density"].high
    worse = feature_fidelity(normal(10, 200), normal(11, 200) * 0.5, draws=12)
    assert worse["kid"].low > found["kid"].value
    assert worse["recall"].high < found["recall"].value


def test_sets_are_cut_to_one_size_and_few_images_are_refused() -> None:
    x, y = normal(12, 100), normal(13, 150)
    assert feature_fidelity(x, y, draws=2) == feature_fidelity(x, y[:100], draws=2)
    with pytest.raises(DataError, match="at least 6"):
        feature_fidelity(x, y[:5])
    assert 0 <= feature_fidelity(x, y[:6], draws=2)["auc"].value <= 1


def test_wilson_interval_of_none_is_not_empty() -> None:
    found = share_of(0, 100)
    assert found.value == found.low == 0
    assert found.high == pytest.approx(0.037, abs=0.001)
