import numpy as np
import pytest
from scipy import ndimage

from svp_lightning.data.classes import AIR_BUBBLE, SILICONE_OIL
from svp_lightning.simulation import draw
from svp_lightning.simulation.aggregates import film
from svp_lightning.simulation.scene import Sphere, Spheres, Together, centred
from svp_lightning.simulation.simulator import Simulator
from tests.configured import simulation

SETTINGS = simulation(large_bubble_share=0.0, neighbour_share=0.0)


def mean_offset(name: str) -> float:
    """Distance of the particles from the middle of the window, px."""
    rows = np.arange(24)
    images, _ = Simulator(SETTINGS, 64, seed=3).render([name] * 24, rows, rows % 12)
    contrast = np.abs(ndimage.gaussian_filter(images / 174.5 - 1, (0, 1, 1)))
    weight = (contrast - 0.06).clip(0, 0.12) + 1e-9
    at, total = np.arange(64) - 31.5, weight.sum((1, 2))
    x, y = weight.sum(1) @ at / total, weight.sum(2) @ at / total
    return float(np.hypot(x, y).mean())


@pytest.mark.parametrize("name", [SILICONE_OIL, AIR_BUBBLE])
def test_the_window_follows_the_shift_of_oblique_light(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = mean_offset(name)
    monkeypatch.setattr(draw, "centred", lambda scene, tilt, index: scene)
    assert followed < 0.7 * mean_offset(name)


def test_the_shift_grows_with_depth_and_tilt() -> None:
    sphere = Spheres((Sphere(3.0, 1.403, 0.2, 0.1, 40.0),))
    moved = centred(sphere, (0.06, -0.03), 1.333)
    assert isinstance(moved, Spheres)
    assert moved.spheres[0].x_um == pytest.approx(0.2 - 1.8, abs=0.01)
    assert moved.spheres[0].y_um == pytest.approx(0.1 + 0.9, abs=0.01)


def test_a_neighbour_keeps_its_distance() -> None:
    droplet = Spheres((Sphere(3.0, 1.403, 0.0, 0.0, 40.0),))
    pair = centred(Together(droplet, droplet, 5.0, 2.0), (0.05, 0.02), 1.338)
    assert isinstance(pair, Together)
    assert (pair.x_um, pair.y_um, pair.main) == (5.0, 2.0, pair.other)


def test_a_film_ends_within_its_grid() -> None:
    for seed in range(40):
        sheet = film(np.random.default_rng(seed))
        total = sheet.front_um + sheet.back_um
        border = np.concatenate([total[[0, -1]].ravel(), total[:, [0, -1]].ravel()])
        assert border.max() < 0.1 * sheet.deepest_um
