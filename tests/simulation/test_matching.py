"""Which simulated microscopes look most like given images."""

import numpy as np
import pytest

from svp_lightning.simulation.matching import (
    COMPARED,
    IMAGES,
    appearance,
    background_level,
    distances,
    known_by,
    looks_of,
    looks_settings,
)
from svp_lightning.simulation.microscopes import microscope
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.simulator import Simulator
from tests.configured import simulation

SIZE, MICROSCOPES = 16, 5


@pytest.fixture(scope="module")
def base() -> SimulationSettings:
    return simulation(workers=0)


@pytest.fixture(scope="module")
def looks(base: SimulationSettings) -> np.ndarray:
    return np.stack(list(looks_of(base, SIZE, range(MICROSCOPES))))


def images_of(base: SimulationSettings, number: int, seed: int, count: int) -> dict:
    simulator, indices = Simulator(microscope(base, number), SIZE, seed), np.arange(count)
    return {name: simulator.render([name] * count, indices, indices % 3)[0] for name in COMPARED}


@pytest.mark.parametrize("number", range(MICROSCOPES))
def test_a_microscope_is_nearest_to_other_images_of_its_own(
    base: SimulationSettings, looks: np.ndarray, number: int
) -> None:
    found = distances(looks, images_of(base, number, seed=1, count=48))
    assert found.shape == (MICROSCOPES,)
    assert (found >= 0).all()
    assert found.argmin() == number


def test_looks_are_those_of_the_images_whoever_renders_them(
    base: SimulationSettings, looks: np.ndarray
) -> None:
    images = known_by(base, SIZE, 3)
    assert images.shape == (len(COMPARED), IMAGES, SIZE, SIZE)
    assert np.array_equal(looks[3], [appearance(of_class) for of_class in images])
    two = base.model_copy(update={"workers": 2})
    assert np.array_equal(np.stack(list(looks_of(two, SIZE, range(MICROSCOPES)))), looks)


def test_neither_exposure_nor_order_counts(base: SimulationSettings) -> None:
    images = known_by(base, SIZE, 0)[0]
    known = appearance(images)
    assert np.allclose(appearance(images[::-1]), known)
    darker = (images * 0.8).round().astype(np.uint8)
    assert background_level(darker) == pytest.approx(0.8 * background_level(images), abs=1)
    # Grey levels are whole: the little power at the finest waves is rounding.
    coarse = slice(0, SIZE // 4)
    assert np.allclose(appearance(darker)[coarse], known[coarse], atol=0.1)
    assert np.allclose(appearance(darker)[-6:], known[-6:], atol=3)


def test_looks_depend_on_what_no_microscope_changes(base: SimulationSettings) -> None:
    known, images = looks_settings(base), known_by(base, SIZE, 1)
    for same in (
        simulation("mfi_5200", difficulty=0.9),
        simulation(label_noise={"rate": 0.5}),
        simulation(sessions_per_split={"train": 7}, counts={"train": {"protein": 9}}),
    ):
        assert looks_settings(same) == known
        assert np.array_equal(known_by(same, SIZE, 1), images)
    for other in ({"neighbour_share": 1.0}, {"optics": {"medium_index": (1.4, 1.4)}}):
        assert looks_settings(simulation(**other)) != known
