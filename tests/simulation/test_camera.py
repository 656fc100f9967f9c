"""From light to grey levels."""

import dataclasses

import numpy as np
import pytest
import torch

from svp_lightning.simulation.camera import WHITE, Exposure, record
from svp_lightning.simulation.session import draw_session
from svp_lightning.simulation.settings import SimulationSettings

SIZE = 64
LIGHT = np.linspace(0, 6, SIZE, dtype=np.float32)


def recorded(level: float, row: np.ndarray = LIGHT) -> np.ndarray:
    """Grey levels of a row of light, without noise and stray light."""
    settings = SimulationSettings.model_validate({"counts": {"train": {"protein": 1}}})
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
