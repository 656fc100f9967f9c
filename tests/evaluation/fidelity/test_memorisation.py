"""Copies are caught, new images are not."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, fisher_exact

from svp_lightning.data.transforms import apply_symmetry
from svp_lightning.evaluation.fidelity.copies import (
    Neighbours,
    compare_signs,
    copied,
    duplicates,
    lower_tail,
    memorisation,
    nearest_neighbours,
    pixel_closeness,
    pixel_vectors,
    symmetric_images,
)
from tests.evaluation.fidelity.test_morphology import ellipses

FIELDS = ("distance", "second", "index", "symmetry")


def blobs(seed: int, n: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    big = ellipses(generator.uniform(8, 24, n), generator.uniform(0.4, 1, n), seed=seed)
    return big[:, ::2, ::2]


def neighbours(images: np.ndarray, train: np.ndarray) -> Neighbours:
    return nearest_neighbours(pixel_vectors(symmetric_images(images)), pixel_vectors(train))


def test_nearest_neighbours_agree_with_the_definition() -> None:
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


def test_the_level_is_exact_under_exchangeability() -> None:
    """The test's level holds, though the threshold is estimated from few images."""
    generator = np.random.default_rng(0)
    draws = generator.random((1000, 250))
    found = [lower_tail(x[:100], x[100:]) for x in draws]
    false_alarms = sum(e.significant for e in found)
    assert false_alarms <= binom(1000, 0.01).ppf(0.999)
    assert np.mean([e.share.value for e in found]) == pytest.approx(found[0].expected, rel=0.1)
    few = lower_tail(draws[0, :50], draws[0, 50:58])
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


@pytest.mark.parametrize("count", [1, 6, 18])
def test_a_few_images_equal_to_training_images_are_copies(count: int) -> None:
    train, heldout = blobs(1, 300), blobs(2, 150)
    generated = blobs(5, 300)
    generated[:count] = train[:count, ::-1] + 5  # turned, and in another light
    found = memorisation(neighbours(generated, train), neighbours(heldout, train))
    assert found.verdict == "copies"
    assert (found.identical.count, found.identical.heldout_count) == (count, 0)


def test_images_that_held_out_ones_equal_as_often_are_no_copies() -> None:
    """Images taken twice, on both sides of a split, and such as equal one another by chance."""
    train, heldout, generated = blobs(1, 300), blobs(2, 150), blobs(5, 300)
    heldout[:3], generated[:6] = train[:3], train[3:9]
    found = memorisation(neighbours(generated, train), neighbours(heldout, train))
    assert found.verdict == "novel"
    assert (found.identical.count, found.identical.heldout_count) == (6, 3)
    generated[:60] = train[:60]
    found = memorisation(neighbours(generated, train), neighbours(heldout, train))
    assert found.verdict == "copies"


def test_duplicates_among_training_images_and_blank_images_are_no_copies() -> None:
    train, heldout, generated = blobs(1, 300), blobs(2, 150), blobs(5, 300)
    train[200:] = train[:100]
    train[0], generated[:5] = 170, 168
    generated[:5, 0, 0] += 3  # less than anything that shows
    generated[0] = 169
    assert pixel_closeness(train, heldout, generated).found.verdict == "novel"
    assert neighbours(generated, train).identical.sum() == 1


def test_few_copies_with_noise_show_both_signs() -> None:
    train, heldout, generated = blobs(1, 300), blobs(2, 150), blobs(5, 300)
    noise = np.random.default_rng(3).normal(0, 1, (30, *train.shape[1:]))
    generated[:30] = (train[:30] + noise).clip(0, 255)
    found = memorisation(neighbours(generated, train), neighbours(heldout, train))
    assert found.identical.count == 0
    assert found.both.significant
    assert found.verdict == "copies"
    # 30 of 300 is more than the share that is promised to be noticed.
    assert found.both.smallest_share is not None
    assert found.both.smallest_share <= found.copies.value


def test_signs_agree_with_fishers_exact_test() -> None:
    generator = np.random.default_rng(0)
    for n, m in ((30, 12), (8, 20)):
        a, b = generator.random(n) < 0.4, generator.random(m) < 0.2
        found = compare_signs(a, b)
        table = [[a.sum(), n - a.sum()], [b.sum(), m - b.sum()]]
        assert found.p_value == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
        assert found.smallest_share is not None
        enough = round(found.smallest_share * n)
        for count, significant in ((enough, True), (enough - 1, False)):
            assert compare_signs(np.arange(n) < count, b).significant == significant
    hopeless = compare_signs(np.ones(3, dtype=bool), np.zeros(3, dtype=bool))
    assert (hopeless.smallest_share, hopeless.significant) == (None, False)


@pytest.mark.parametrize("correlation", [0, 0.9, 1])
def test_both_signs_together_keep_the_level(correlation: float) -> None:
    """The thresholds are the held-out images' own, and the test still errs in 1 % at most."""
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        distance, other = generator.normal(size=(2, 250))
        mixed = correlation * distance + (1 - correlation**2) ** 0.5 * other
        d1, ratio = 10 + distance, 0.5 + 0.05 * mixed
        none = np.zeros(250, dtype=np.int64)
        both = Neighbours(d1, d1 / ratio, none, none)
        new, floor = (
            Neighbours(*(getattr(both, name)[part] for name in FIELDS))
            for part in (slice(100), slice(100, None))
        )
        alarms += memorisation(new, floor).both.significant
    assert alarms <= binom(300, 0.01).ppf(0.999)


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
    real, generated = blobs(1, 100), blobs(2, 100)
    assert not duplicates(generated, real).significant
    found = duplicates(generated[np.arange(100) % 10], real)
    assert found.significant
    assert found.share.value == 1
