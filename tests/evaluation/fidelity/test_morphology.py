"""Morphology of drawn particles whose measures are known."""

import numpy as np
import pytest

from svp_lightning.evaluation.fidelity.morphology import (
    MEASURES,
    RINGS,
    mean_measures,
    measure_morphology,
    morphology_distances,
    perimeter,
    segment,
)

SIZE = 64


def ellipses(
    a: np.ndarray, ratio: np.ndarray | float = 1.0, level: float = 60, seed: int = 0
) -> np.ndarray:
    """Dark ellipses of half axes ``a`` and ``a * ratio`` on a noisy background of 180."""
    generator = np.random.default_rng(seed)
    n = len(a)
    angle = generator.uniform(0, np.pi, (n, 1, 1))
    grid = np.mgrid[:SIZE, :SIZE][:, None] - (SIZE - 1) / 2
    y, x = grid + generator.uniform(-3, 3, (2, n, 1, 1))
    u = (np.cos(angle) * x + np.sin(angle) * y) / a[:, None, None]
    v = (np.cos(angle) * y - np.sin(angle) * x) / (a * ratio)[:, None, None]
    images = np.where(u**2 + v**2 < 1, level, 180.0) + generator.normal(0, 1.5, (n, SIZE, SIZE))
    return images.round().clip(0, 255).astype(np.uint8)


def test_discs_have_their_size_shape_and_levels() -> None:
    radius = np.linspace(6, 20, 30)
    found = measure_morphology(ellipses(radius), pixel_size_um=0.5)
    # The smoothed threshold lies within a pixel or so of the edge, the outline with it.
    np.testing.assert_allclose(found.ecd, radius * 2 * 0.5, atol=1.3)
    assert (found.aspect_ratio > 0.93).all()
    assert ((found.circularity > 0.85) & (found.circularity < 1.15)).all()
    assert (found.min_intensity < 61).all()
    np.testing.assert_allclose(found.radial_profile[:, :4], -120, atol=3)
    np.testing.assert_allclose(found.radial_profile[:, -1], 0, atol=2)


def test_ellipses_have_their_aspect_ratio() -> None:
    ratio = np.linspace(0.35, 0.95, 25)
    found = measure_morphology(ellipses(np.full(25, 18.0), ratio))
    np.testing.assert_allclose(found.aspect_ratio, ratio, atol=0.07)
    assert np.all(found.circularity[:4] < 0.85)


def test_perimeter_of_simple_shapes() -> None:
    mask = np.zeros((3, 12, 12), dtype=bool)
    mask[0, 2:8, 3:9] = True
    mask[1, 5, 5] = True
    assert perimeter(mask)[0] == pytest.approx(4 * 5 + 4 / np.sqrt(2))
    assert perimeter(mask)[1] == pytest.approx(4 / np.sqrt(2))
    assert np.isnan(perimeter(mask)[2])


def test_only_the_largest_particle_counts_and_rings_are_filled() -> None:
    image = np.full((2, SIZE, SIZE), 180, dtype=np.uint8)
    y, x = np.mgrid[:SIZE, :SIZE]
    r = np.hypot(y - 32, x - 32)
    image[:, (r > 8) & (r < 12)] = 80
    image[0, 5:8, 50:53] = 60
    found = segment(image)
    assert found.mask[:, 32, 32].all()
    np.testing.assert_array_equal(found.mask[0], found.mask[1])
    np.testing.assert_array_equal(found.background, [180, 180])


def test_images_do_not_touch_one_another_and_empty_ones_have_no_measures() -> None:
    images = ellipses(np.array([10.0, 12.0, 14.0]))
    alone = np.concatenate([segment(images[k : k + 1]).mask for k in range(3)])
    np.testing.assert_array_equal(segment(images).mask, alone)
    empty = np.full((1, SIZE, SIZE), 180, dtype=np.uint8)
    found = measure_morphology(np.concatenate([images, empty]))
    assert np.isnan(found.columns()[3]).all()
    assert np.isfinite(found.ecd[:3]).all()


def test_brightness_of_the_lamp_does_not_move_the_outline() -> None:
    images = ellipses(np.full(5, 12.0))
    np.testing.assert_array_equal(segment(images).mask, segment(images + 40).mask)


def test_distances_find_the_measure_that_differs() -> None:
    generator = np.random.default_rng(3)
    sizes = generator.uniform(8, 14, (3, 120))
    real, same, larger = (
        measure_morphology(ellipses(s * factor, seed=k))
        for k, (s, factor) in enumerate(zip(sizes, (1, 1, 1.3), strict=True))
    )
    floor = morphology_distances(real, same, draws=20)
    found = morphology_distances(real, larger, draws=20)
    assert set(found) == set(MEASURES)
    assert found["ecd"]["ks"].low > floor["ecd"]["ks"].high
    # A scaled uniform distribution: the mean moves by 0.3 · 11 of a deviation of 6 / √12.
    assert found["ecd"]["wasserstein"].value == pytest.approx(3.3 / (6 / 12**0.5), rel=0.12)
    assert floor["ecd"]["ks"].value < 0.2
    assert found["mean_intensity"]["ks"].value < 0.6
    means = mean_measures(real)["ecd"], mean_measures(larger)["ecd"]
    assert means[1] == pytest.approx(1.3 * means[0], rel=0.06)
    twice = morphology_distances(real, real, draws=5)
    assert all(d["ks"].value == d["wasserstein"].value == 0 for d in twice.values())
    assert real.radial_profile.shape == (120, RINGS)
