"""Copies are caught, new images are not."""

import numpy as np
import pytest
import torch
from scipy.stats import binom

from svp_lightning.data.transforms import apply_symmetry
from svp_lightning.evaluation.fidelity import neighbours as module
from svp_lightning.evaluation.fidelity.memorisation import (
    copied,
    duplicates,
    lower_excess,
    memorisation,
)
from svp_lightning.evaluation.fidelity.neighbours import (
    Neighbours,
    nearest_neighbours,
    pixel_vectors,
    symmetric_images,
)
from tests.evaluation.fidelity.test_morphology import ellipses


def blobs(seed: int, n: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    big = ellipses(generator.uniform(8, 24, n), generator.uniform(0.4, 1, n), seed=seed)
    return big[:, ::2, ::2]


def neighbours(images: np.ndarray, train: np.ndarray) -> Neighbours:
    return nearest_neighbours(pixel_vectors(symmetric_images(images)), pixel_vectors(train))


def test_nearest_neighbours_agree_with_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUERIES", 3)
    monkeypatch.setattr(module, "REFERENCES", 4)
    generator = np.random.default_rng(0)
    queries, references = generator.normal(size=(8, 10, 6)), generator.normal(size=(11, 6))
    every = np.sqrt(np.square(queries[:, :, None] - references).mean(axis=3))
    expected = np.sort(every.min(axis=0), axis=1)
    found = nearest_neighbours(queries, references)
    np.testing.assert_allclose(found.distance, expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(found.second, expected[:, 1], rtol=1e-4)
    best = every[found.symmetry, np.arange(10), found.index]
    np.testing.assert_allclose(best, expected[:, 0], rtol=1e-5)
    alone = nearest_neighbours(references[None], references, exclude_self=True)
    assert (alone.index != np.arange(11)).all()
    assert (alone.distance > 0).all()


def test_turned_copy_is_found_at_distance_zero() -> None:
    train = blobs(1, 40)
    codes = torch.arange(40) % 8
    turned = apply_symmetry(torch.from_numpy(train)[:, None], codes)[:, 0].numpy()
    brighter = turned + 20  # a lamp setting is no difference
    found = neighbours(brighter, train)
    np.testing.assert_array_equal(found.index, np.arange(40))
    np.testing.assert_allclose(found.distance, 0, atol=1e-6)
    back = symmetric_images(brighter)[found.symmetry, np.arange(40)]
    np.testing.assert_array_equal(back, train + 20)


def test_excess_is_exact_under_exchangeability() -> None:
    """The test's level holds, though the threshold is estimated from few images."""
    generator = np.random.default_rng(0)
    draws = generator.random((2000, 250))
    found = [lower_excess(x[:100], x[100:]) for x in draws]
    false_alarms = sum(e.significant for e in found)
    assert false_alarms <= binom(2000, 0.01).ppf(0.999)
    assert np.mean([e.share.value for e in found]) == pytest.approx(found[0].expected, rel=0.1)
    few = lower_excess(draws[0, :50], draws[0, 50:58])
    assert few.expected == pytest.approx(1 / 9)


@pytest.mark.parametrize("noise", [0, 3, 6])
def test_copies_with_noise_are_caught(noise: float) -> None:
    train, heldout = blobs(1, 300), blobs(2, 150)
    generator = np.random.default_rng(3)
    copies = train[generator.integers(300, size=200)]
    copies = (copies + generator.normal(0, noise, copies.shape)).clip(0, 255).astype(np.uint8)
    floor = neighbours(heldout, train)
    found = memorisation(neighbours(copies, train), floor)
    assert found.verdict == "copies"
    assert found.copies.low > 0.5
    assert found.median_distance < 0.7 * found.heldout_median_distance


def test_a_few_copies_among_new_images_are_caught_and_named() -> None:
    train, heldout = blobs(1, 300), blobs(2, 150)
    mixed = np.concatenate([blobs(5, 180), train[:20]])
    found, floor = neighbours(mixed, train), neighbours(heldout, train)
    assert memorisation(found, floor).verdict == "copies"
    assert copied(found, floor)[-20:].all()
    assert copied(found, floor)[:180].sum() <= 4


def test_copies_of_images_that_occur_twice_are_caught() -> None:
    once = blobs(1, 300)
    train = np.concatenate([once, once])
    floor = neighbours(blobs(2, 150), train)
    mixed = np.concatenate([blobs(5, 180), once[:40]])
    assert memorisation(neighbours(mixed, train), floor).verdict == "copies"
    assert copied(neighbours(mixed, train), floor)[-40:].all()


def test_new_images_are_not_flagged() -> None:
    train = blobs(1, 300)
    floor = neighbours(blobs(2, 150), train)
    verdicts = [memorisation(neighbours(blobs(s, 150), train), floor).verdict for s in range(9, 19)]
    assert "copies" not in verdicts
    assert verdicts.count("novel") >= 8  # each sign has a level of 1 %, one floor for all ten


def test_smooth_images_are_close_but_no_copies() -> None:
    """Without camera noise every distance shrinks, with or without memorisation."""
    train, heldout = blobs(1, 300), blobs(2, 150)
    smooth = blobs(7, 150).astype(float)
    smooth = np.where(smooth < 120, 60, 180).astype(np.uint8)
    found = memorisation(neighbours(smooth, train), neighbours(heldout, train))
    assert found.verdict != "copies"


def test_repeated_samples_are_duplicates() -> None:
    real, generated = (pixel_vectors(symmetric_images(blobs(s, 100))) for s in (1, 2))

    def among(x: np.ndarray) -> Neighbours:
        return nearest_neighbours(x, x[0], exclude_self=True)

    assert not duplicates(among(generated), among(real)).significant
    collapsed = generated[:, np.arange(100) % 10]
    found = duplicates(among(collapsed), among(real))
    assert found.significant
    assert found.share.value == 1
