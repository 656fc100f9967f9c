"""From light to grey levels, and the box around a detected particle."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from svp_lightning.simulation.camera import WHITE, Exposure, cut_box, record
from svp_lightning.simulation.session import draw_session
from tests.configured import simulation

SIZE = 64
LIGHT = np.linspace(0, 6, SIZE, dtype=np.float32)


def recorded(level: float, row: np.ndarray = LIGHT) -> np.ndarray:
    """Grey levels of a row of light, without noise and stray light."""
    settings = simulation()
    session = dataclasses.replace(
        draw_session(settings, SIZE, seed=0, number=0),
        stray_light=0.0,
        read_noise=0.0,
        shot_noise=0.0,
        columns=np.zeros(SIZE, np.float32),
    )
    exposure = Exposure(0.0, 0.0, 1.0, level, (0.0, 0.0), np.zeros((SIZE, SIZE), np.float32))
    light = torch.from_numpy(np.tile(row, (1, SIZE, 1)))
    return record(session, light, [exposure])[0, 0].numpy().astype(int)


@pytest.mark.parametrize("level", [120.0, 174.0, 240.0])
def test_shadows_are_straight_and_highlights_roll_off_towards_white(level: float) -> None:
    grey = recorded(level)
    shadows = LIGHT <= 1
    np.testing.assert_allclose(grey[shadows], level * LIGHT[shadows], atol=0.51)
    assert (np.diff(grey) >= 0).all()
    # Where a straight response becomes white this one still has levels left.
    assert (recorded(level, np.full(SIZE, WHITE / level, np.float32)) < WHITE - 1).all()
    assert grey[-1] >= WHITE - 2


def test_the_response_has_no_kink_at_the_background() -> None:
    level = 174.0
    faint = np.linspace(1, 1 + 0.2 * (WHITE / level - 1), SIZE, dtype=np.float32)
    np.testing.assert_allclose(recorded(level, faint), level * faint, atol=0.8)


def test_a_background_beyond_white_is_clipped() -> None:
    assert (recorded(260.0)[LIGHT >= 1] == WHITE).all()


FIELD = 40


def field_with(*particles: tuple[slice, slice, float]) -> NDArray[np.float32]:
    contrast = np.zeros((FIELD, FIELD), np.float32)
    for rows, columns, value in particles:
        contrast[rows, columns] = value
    return contrast


def cut(contrast: NDArray[np.float32], seed: int = 0) -> tuple[NDArray[np.uint8], float]:
    grey = np.clip(175 * (1 + contrast), 0, 255).astype(np.uint8)
    return cut_box(grey, contrast, 64, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(8))
def test_two_or_three_pixels_are_left_around_the_particle(seed: int) -> None:
    image, zoom = cut(field_with((slice(12, 24), slice(14, 26), -0.5)), seed)
    assert image.shape == (64, 64)
    assert 64 / (12 + 6) <= zoom <= 64 / (12 + 4)
    assert image[32, 32] < 95
    assert (np.abs(image[[0, -1]].astype(int) - 175) <= 1).all()


def test_an_elongated_particle_is_stretched_to_the_square() -> None:
    image, zoom = cut(field_with((slice(17, 23), slice(5, 35), -0.5)))
    dark = image < 130
    height, width = dark.any(axis=1).sum(), dark.any(axis=0).sum()
    assert 0.45 < height / width < 0.85  # 0.2 before
    assert 64 / 36 <= zoom <= 64 / np.sqrt(34 * 10)


def test_the_particle_in_the_middle_is_cut_out() -> None:
    main, neighbour = (slice(14, 24), slice(16, 26)), (slice(28, 38), slice(28, 38))
    image, _ = cut(field_with((*main, 0.3), (*neighbour, -0.6)))
    assert image[32, 32] > 200
    assert (image >= 170).all()


def test_of_several_parts_in_the_middle_the_strongest_is_cut_out() -> None:
    main, speck = (slice(6, 17), slice(6, 17)), (slice(20, 22), slice(20, 22))
    image, _ = cut(field_with((*main, 0.3), (*speck, -0.6)))
    assert (image >= 170).all()


def test_a_bright_core_and_its_dark_ring_are_one_particle() -> None:
    ring = field_with((slice(10, 26), slice(10, 26), -0.3), (slice(12, 24), slice(12, 24), 0))
    ring[13:23, 13:23] = 0.4  # one pixel of no contrast between them
    image, zoom = cut(ring)
    assert zoom <= 64 / 20
    assert image.max() > 230
    assert image.min() < 130


def test_a_particle_on_the_edge_is_cut_there_and_a_field_without_any_is_kept_whole() -> None:
    assert cut(field_with((slice(10, 20), slice(10, 20), 0.05)))[1] == 64 / FIELD
    image, zoom = cut(field_with((slice(0, 10), slice(0, 10), -0.5)))
    assert image[0, 0] < 95
    assert 64 / 13 <= zoom <= 64 / 12
