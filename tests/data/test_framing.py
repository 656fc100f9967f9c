"""Crops of one size: centred, seamless, never stretched, deterministic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svp_lightning.data.importers.framing import automatic_size, frame


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
@settings(max_examples=80, deadline=None)
def test_any_size_gives_the_crop_size_and_the_same_crop_again(h: int, w: int, size: int) -> None:
    image = picture(h, w, h // 2, w // 2)
    crop, level = frame(image, size)
    assert crop.shape == (size, size)
    assert crop.dtype == np.uint8
    assert 0 <= level <= 255
    assert (frame(image, size)[0] == crop).all()


@pytest.mark.parametrize(("y", "x"), [(8, 30), (40, 60), (20, 12)])
def test_a_large_image_is_cut_around_its_particle(y: int, x: int) -> None:
    crop, _ = frame(picture(60, 90, y, x), 32)
    expected = [y - np.clip(y - 16, 0, 28), x - np.clip(x - 16, 0, 58)]
    assert centre_of_dark(crop) == pytest.approx(expected, abs=1)


def test_a_small_image_keeps_all_pixels_and_its_particle_moves_towards_the_middle() -> None:
    image = picture(20, 24, 7, 15)
    crop, level = frame(image, 48)
    assert centre_of_dark(crop) == pytest.approx([24, 24], abs=1)
    windows = np.lib.stride_tricks.sliding_window_view(crop, image.shape)
    assert (windows == image).all(axis=(2, 3)).any()
    assert level == pytest.approx(170, abs=2)


def test_bright_specks_far_off_do_not_move_the_centre() -> None:
    image = picture(80, 80, 40, 40)
    image[2, 2] = 255
    image[77, 5] = 0
    crop, _ = frame(image, 32)
    assert centre_of_dark(crop) == pytest.approx([16, 16], abs=1)


def test_the_crop_size_itself_is_left_alone() -> None:
    image = picture(32, 32, 5, 5)
    assert (frame(image, 32)[0] == image).all()


@pytest.mark.parametrize("smoothing", [0, 1])
@pytest.mark.parametrize("height", [12, 20, 30])
def test_padding_looks_like_the_background(height: int, smoothing: int) -> None:
    from scipy.ndimage import uniform_filter

    rng = np.random.default_rng(height)
    noise = rng.normal(0, 4, (height, height))
    image = (150 + (uniform_filter(noise, 2) if smoothing else noise)).astype(np.uint8)
    crop, _ = frame(image, 64)
    outside = crop[:10].astype(float)
    assert outside.mean() == pytest.approx(image.mean(), abs=1.5)
    assert outside.std() == pytest.approx(image.std(), rel=0.45)
    rough = [np.diff(a.astype(float), axis=1).std() for a in (outside, image)]
    assert rough[0] == pytest.approx(rough[1], rel=0.45)


def test_a_halo_at_the_edge_leaves_no_seam() -> None:
    rows, columns = np.mgrid[:24, :24] - 12
    image = (150 + 40 * np.cos(np.hypot(rows, columns) / 4)).astype(np.uint8)
    crop, _ = frame(image, 48)
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
    crop, level = frame(image, 48, opaque)
    assert level == pytest.approx(170, abs=2)
    assert (crop < 110).sum() == (image[:, 8:] < 110).sum()


def test_backgrounds_are_brought_to_one_level_on_request() -> None:
    for level in (120, 170, 200):
        crop, found = frame(picture(40, 40, 20, 20, level), 48, background=180)
        assert np.median(crop) == pytest.approx(180, abs=2)
        assert found == pytest.approx(level, abs=2)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=200))
def test_the_automatic_size_holds_nineteen_of_twenty(sides: list[int]) -> None:
    size = automatic_size(np.array(sides))
    assert size % 16 == 0
    assert 16 <= size <= 128
    held = np.mean(np.array(sides) <= size)
    assert size == 128 or held >= 0.95 - 1 / len(sides)
    if size > 16:
        assert np.percentile(sides, 95) > size - 16
