"""What was added to come closer to real crops: sensor pixels, smooth noise, halo gain, edges."""

import math

import numpy as np
import pytest

from svp_lightning.simulation.camera import grain_kernel
from svp_lightning.simulation.large_bubble import draw_large_bubble
from svp_lightning.simulation.session import draw_session
from svp_lightning.simulation.simulator import Simulator
from tests.simulation.few import FEW

ROWS = np.arange(12)


def render(name: str, **changes: object) -> np.ndarray:
    """Twelve images of two sessions, as int."""
    simulator = Simulator(FEW.model_copy(update=changes), 64, seed=9)
    return simulator.render([name] * 12, ROWS, ROWS % 2)[0].astype(int)


@pytest.mark.parametrize(("sensor_px", "low", "high"), [(1.0, -0.05, 0.05), (2.5, 0.6, 0.95)])
def test_enlarged_noise_is_smooth_and_as_strong(sensor_px: float, low: float, high: float) -> None:
    white = np.random.default_rng(0).standard_normal((64, 64), dtype=np.float32)
    grain = grain_kernel(64, sensor_px)
    noise = grain @ white @ grain.T
    assert noise.std() == pytest.approx(1, abs=0.1)
    neighbours = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    assert low < neighbours < high


def test_coarser_sensors_give_softer_images() -> None:
    def sharpness(sensor_um: float) -> float:
        optics = FEW.optics.model_copy(update={"sensor_pixel_um": (sensor_um, sensor_um)})
        images = render("protein", optics=optics)
        return float(np.abs(np.diff(images, axis=2)).mean())

    assert sharpness(1.0) < 0.8 * sharpness(0.3)


def test_halo_gain_brightens_halos_of_small_bubbles_only() -> None:
    pure = render("air_bubble", air_halo_gain=(1.0, 1.0), large_bubble_share=0.0)
    gained = render("air_bubble", air_halo_gain=(1.5, 1.5), large_bubble_share=0.0)
    bright, dark = pure > 185, pure < 165
    assert bright.any(axis=(1, 2)).sum() > 6
    assert (gained - pure)[bright].mean() > 4
    np.testing.assert_array_equal(gained[dark], pure[dark])
    for name, share in (("silicone_oil", 0.0), ("air_bubble", 1.0)):
        same = [render(name, air_halo_gain=(g, g), large_bubble_share=share) for g in (1, 1.5)]
        np.testing.assert_array_equal(*same)


def test_bubbles_that_are_to_look_like_oil_have_no_halo_gain() -> None:
    same = [
        render("air_bubble", air_halo_gain=(g, g), large_bubble_share=0.0, difficulty=1.0)
        for g in (1, 1.5)
    ]
    np.testing.assert_array_equal(*same)


def test_a_part_of_a_large_bubble_holds_its_rim_or_the_edge_of_its_inner_disc() -> None:
    rng, window = np.random.default_rng(0), 16.64
    drawn = [draw_large_bubble(rng, window)[1] for _ in range(300)]
    larger = [bubble for bubble in drawn if bubble.radius_um > window / 2]
    assert len(larger) > 100
    for bubble in larger:
        from_centre = math.hypot(bubble.x_um, bubble.y_um)
        rim, inner = abs(from_centre - bubble.radius_um), from_centre - 0.55 * bubble.radius_um
        assert min(rim, abs(inner)) < 0.45 * window


@pytest.mark.parametrize("image_size", [16, 64])
def test_no_sensor_is_finer_than_the_image(image_size: int) -> None:
    session = draw_session(FEW, image_size, seed=1, number=0)
    pixel = session.grid.pixel_um * session.binning
    low, high = FEW.optics.sensor_pixel_um
    assert session.sensor_pixel_um >= pixel
    assert image_size == 16 or low <= session.sensor_pixel_um <= high
