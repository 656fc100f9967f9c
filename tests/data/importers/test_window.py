"""Crops of one size: centred, seamless, never stretched, deterministic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_lightning.data.importers.window import border, choose_window, frame
from svp_lightning.data.settings import WindowSettings
from tests.examples import examples


def picture(height: int, width: int, y: int, x: int, level: int = 170, noise: float = 3.0):
    """Noisy background with a dark disc of radius 4 px at (y, x)."""
    rng = np.random.default_rng(height * width + y)
    image = rng.normal(level, noise, (height, width))
    rows, columns = np.ogrid[:height, :width]
    image[(rows - y) ** 2 + (columns - x) ** 2 <= 16] = 60
    return np.clip(image, 0, 255).astype(np.uint8)


def centre_of_dark(image: np.ndarray) -> np.ndarray:
    return np.argwhere(image < 110).mean(axis=0)


@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([16, 32, 64]))
@examples(80)
def test_any_size_gives_the_crop_size_and_the_same_crop_again(h: int, w: int, size: int) -> None:
    image = picture(h, w, h // 2, w // 2)
    crop, level, scale, _ = frame(image, size)
    assert scale == 1
    assert crop.shape == (size, size)
    assert crop.dtype == np.uint8
    assert 0 <= level <= 255
    assert (frame(image, size).image == crop).all()


@pytest.mark.parametrize(("y", "x"), [(8, 30), (40, 60), (20, 12)])
def test_a_large_image_is_cut_around_its_particle(y: int, x: int) -> None:
    image = picture(60, 90, y, x)
    windows = np.lib.stride_tricks.sliding_window_view(image, (32, 32))
    (corner,) = np.argwhere((windows == frame(image, 32).image).all(axis=(2, 3)))
    last = np.array([60 - 32, 90 - 32])
    expected = np.clip([y - 16, x - 16], 0, last)
    assert corner == pytest.approx(expected, abs=1)
    at_edge = (expected == 0) | (expected == last)
    assert (corner == expected)[at_edge].all()


def test_a_small_image_keeps_all_pixels_and_its_particle_moves_towards_the_middle() -> None:
    image = picture(20, 24, 7, 15)
    crop, level, _, cut = frame(image, 48)
    assert not cut
    assert centre_of_dark(crop) == pytest.approx([24, 24], abs=1)
    windows = np.lib.stride_tricks.sliding_window_view(crop, image.shape)
    assert (windows == image).all(axis=(2, 3)).any()
    assert level == pytest.approx(170, abs=2)


def test_bright_specks_far_off_do_not_move_the_centre() -> None:
    image = picture(80, 80, 40, 40)
    image[2, 2] = 255
    image[77, 5] = 0
    crop, _, _, cut = frame(image, 32)
    assert not cut
    assert centre_of_dark(crop) == pytest.approx([16, 16], abs=1)


def test_noise_is_no_particle() -> None:
    crop, _, _, cut = frame(picture(80, 80, 50, 30, noise=20), 32)
    assert not cut
    assert centre_of_dark(crop) == pytest.approx([16, 16], abs=1.5)


@given(st.integers(1, 9), st.integers(1, 9))
def test_the_border_is_every_pixel_with_no_neighbour_on_a_side_once(h: int, w: int) -> None:
    image = np.arange(h * w).reshape(h, w)
    edge = np.ones((h, w), bool)
    edge[1:-1, 1:-1] = False
    assert sorted(border(image)) == image[edge].tolist()


def test_the_crop_size_itself_is_left_alone() -> None:
    image = picture(32, 32, 5, 5)
    assert (frame(image, 32).image == image).all()


@pytest.mark.parametrize("smoothing", [0, 1])
@pytest.mark.parametrize("height", [12, 20, 30])
def test_padding_looks_like_the_background(height: int, smoothing: int) -> None:
    from scipy.ndimage import uniform_filter

    rng = np.random.default_rng(height)
    noise = rng.normal(0, 4, (height, height))
    image = (150 + (uniform_filter(noise, 2) if smoothing else noise)).astype(np.uint8)
    crop = frame(image, 64).image
    outside = crop[:10].astype(float)
    assert outside.mean() == pytest.approx(image.mean(), abs=1.5)
    assert outside.std() == pytest.approx(image.std(), rel=0.45)
    rough = [np.diff(a.astype(float), axis=1).std() for a in (outside, image)]
    assert rough[0] == pytest.approx(rough[1], rel=0.45)


def test_a_halo_at_the_edge_leaves_no_seam() -> None:
    rows, columns = np.mgrid[:24, :24] - 12
    image = (150 + 40 * np.cos(np.hypot(rows, columns) / 4)).astype(np.uint8)
    crop = frame(image, 48).image
    top, left = np.argwhere(
        (np.lib.stride_tricks.sliding_window_view(crop, (24, 24)) == image).all(axis=(2, 3))
    )[0]
    step = np.abs(crop[top, left : left + 24].astype(int) - crop[top - 1, left : left + 24])
    assert step.mean() < 8


def test_transparent_pixels_become_background() -> None:
    image = picture(40, 40, 20, 20)
    image[:, :8] = 0
    opaque = np.ones(image.shape, dtype=bool)
    opaque[:, :8] = False
    crop, level, *_ = frame(image, 48, opaque)
    assert level == pytest.approx(170, abs=2)
    assert (crop < 110).sum() == (image[:, 8:] < 110).sum()


def test_backgrounds_are_brought_to_one_level_on_request() -> None:
    for level in (120, 170, 200):
        crop, found, *_ = frame(picture(40, 40, 20, 20, level), 48, background=180)
        assert np.median(crop) == pytest.approx(180, abs=2)
        assert found == pytest.approx(level, abs=2)


SIDES = st.lists(st.integers(1, 400), min_size=1, max_size=200)


@given(SIDES, st.floats(0.5, 1), st.integers(0, 2**32 - 1))
def test_the_window_holds_the_large_particles(sides: list[int], holds: float, seed: int) -> None:
    ecd = np.random.default_rng(seed).uniform(2, 20, len(sides))
    size = choose_window(np.array(sides), ecd, WindowSettings(holds=holds, at_least_um=10))
    assert size % 16 == 0
    assert 16 <= size <= 128
    large = np.array(sides)[ecd >= 10]
    if large.size and size < 128:
        assert np.mean(large <= size) >= holds
    if large.size and size > 16:
        assert np.mean(large <= size - 16) < holds


@pytest.mark.parametrize("ecd", [None, np.full(1000, np.nan), np.full(1000, 3.0)])
def test_without_large_sizes_the_largest_images_decide(ecd: np.ndarray | None) -> None:
    sides = np.array([30] * 970 + [100] * 30)
    usual = WindowSettings(holds=0.95, at_least_um=10)
    assert choose_window(sides, ecd, usual) == 112
    assert choose_window(sides[20:], None if ecd is None else ecd[20:], usual) == 112
    one_large = np.array([30] * 999 + [400])
    assert choose_window(one_large, ecd, usual) == 32


def disc(side: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    image = np.random.default_rng(side).normal(170, 2, (side, side))
    image[np.hypot(rows, columns) < radius] = 60
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("radius", "cut"), [(10, False), (23, False), (26, True), (40, True)])
def test_a_particle_that_loses_pixels_is_cut_and_background_does_not_count(radius, cut) -> None:
    found = frame(disc(100, radius), 48)
    assert (found.cut, found.scale) == (cut, 1)


@pytest.mark.parametrize("upright", [True, False])
def test_a_particle_at_the_edge_of_its_image_loses_no_pixels_there(upright) -> None:
    image = np.random.default_rng(0).normal(170, 2, (60, 90)).astype(np.uint8)
    image[25:35, :20] = 60
    assert not frame(image if upright else image.T, 32).cut


def test_a_particle_that_would_be_cut_is_shrunk_by_area_and_its_scale_is_recorded() -> None:
    image = disc(120, 50)
    found = frame(image, 48, fit="shrink")
    assert (found.cut, found.scale) == (False, 0.4)
    dark = (found.image < 115).sum()
    assert dark / found.scale**2 == pytest.approx(np.pi * 50**2, rel=0.02)
    assert found.image.mean() == pytest.approx(image.mean(), abs=0.5)
    fits = disc(100, 20)
    kept, same = frame(fits, 48, fit="shrink"), frame(fits, 48)
    assert kept.scale == 1
    assert (kept.image == same.image).all()


def test_a_long_particle_keeps_its_shape_when_it_is_shrunk() -> None:
    image = np.full((20, 96), 170, np.uint8)
    image[6:14, 8:88] = 60
    found = frame(image, 32, fit="shrink")
    rows, columns = np.nonzero(found.image < 115)
    assert (np.ptp(columns) + 1) / (np.ptp(rows) + 1) == pytest.approx(10, rel=0.35)
    assert (170 - found.image.astype(float)).sum() / 110 == pytest.approx(80 * 8 / 9, rel=0.05)
