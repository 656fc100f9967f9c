"""What was added to come closer to real crops: sensor pixels, smooth noise, halo gain."""

import dataclasses

import numpy as np
import pytest
import torch

from svp_lightning.simulation.camera import Exposure, record, sensor_sampling
from svp_lightning.simulation.dataset import Simulator
from svp_lightning.simulation.session import draw_session
from svp_lightning.simulation.settings import OpticsSettings, SimulationSettings

ROWS = np.arange(12)


def render(settings: SimulationSettings, name: str, **changes: object) -> np.ndarray:
    """Twelve images of two sessions, as int."""
    simulator = Simulator(settings.model_copy(update=changes), 64, seed=9)
    return simulator.render([name] * 12, ROWS, ROWS % 2)[0].astype(int)


@pytest.mark.parametrize("sensor_px", [1.0, 2.5, 3.7])
def test_sensor_sampling_keeps_light_and_smooth_images(sensor_px: float) -> None:
    sampling, enlarging = sensor_sampling(64, sensor_px)
    both = (enlarging @ sampling).numpy()
    np.testing.assert_allclose(both.sum(axis=1), 1, atol=1e-5)
    wave = np.sin(2 * np.pi * np.arange(64) / 32)
    np.testing.assert_allclose((both @ wave)[4:-4], wave[4:-4], atol=0.03)
    if sensor_px == 1:
        np.testing.assert_array_equal(both, np.eye(64))


def test_enlarged_noise_is_smooth() -> None:
    white = np.random.default_rng(0).standard_normal((64, 64))
    _, enlarging = sensor_sampling(64, 3.0)
    count = enlarging.shape[1]
    noise = enlarging.numpy() @ white[:count, :count] @ enlarging.numpy().T
    assert 0.6 < noise.std() < 1
    neighbours = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    assert 0.7 < neighbours < 0.97


def test_response_bends_softly_into_saturation() -> None:
    session = draw_session(
        SimulationSettings.model_validate({"counts": {"train": {"protein": 1}}}), 64, 1, 0
    )
    quiet = dataclasses.replace(
        session, read_noise=0.0, shot_noise=0.0, stray_light=0.0, columns=np.zeros(64, np.float32)
    )
    shot = Exposure(0.0, 0.0, 1.0, 175.0, (0.0, 0.0), np.zeros((64, 64), np.float32))
    levels = torch.tensor([0.0, 1.0, 1.2, 255 / 175, 1.6, 4.0])
    light = levels[:, None, None].expand(-1, 64, 64)
    seen = record(quiet, light, [shot] * len(levels)).numpy()[:, 32, 32].astype(int)
    assert (np.diff(seen) >= 0).all()
    assert seen[[0, 1, 2]].tolist() == pytest.approx([0, 175, 210], abs=1)
    assert 240 < seen[3] < seen[4]
    assert seen[5] == 255


def test_coarser_sensors_give_softer_images(settings: SimulationSettings) -> None:
    def sharpness(sensor_um: float) -> float:
        optics = OpticsSettings(sensor_pixel_um=(sensor_um, sensor_um))
        images = render(settings, "protein", optics=optics)
        return float(np.abs(np.diff(images, axis=2)).mean())

    assert sharpness(1.0) < 0.8 * sharpness(0.3)


@pytest.mark.parametrize("image_size", [16, 64])
def test_no_sensor_is_finer_than_the_image(settings: SimulationSettings, image_size: int) -> None:
    session = draw_session(settings, image_size, seed=1, number=0)
    pixel = session.grid.pixel_um * session.binning
    low, high = settings.optics.sensor_pixel_um
    assert session.sensor_pixel_um >= pixel
    assert image_size == 16 or low <= session.sensor_pixel_um <= high


def test_halo_gain_brightens_halos_of_small_bubbles_only(settings: SimulationSettings) -> None:
    # On a sensor as fine as the image, for enlargement mixes neighbouring pixels.
    settings = settings.model_copy(update={"optics": OpticsSettings(sensor_pixel_um=(0.2, 0.2))})
    pure = render(settings, "air_bubble", air_halo_gain=(1.0, 1.0), large_bubble_share=0.0)
    gained = render(settings, "air_bubble", air_halo_gain=(1.5, 1.5), large_bubble_share=0.0)
    bright, dark = pure > 185, pure < 165
    assert bright.any(axis=(1, 2)).sum() > 6
    assert (gained - pure)[bright].mean() > 4
    np.testing.assert_array_equal(gained[dark], pure[dark])
    for name, share in (("silicone_oil", 0.0), ("air_bubble", 1.0)):
        same = [
            render(settings, name, air_halo_gain=(g, g), large_bubble_share=share) for g in (1, 1.5)
        ]
        np.testing.assert_array_equal(*same)


def test_bubbles_that_are_to_look_like_oil_have_no_halo_gain(settings: SimulationSettings) -> None:
    same = [
        render(settings, "air_bubble", air_halo_gain=(g, g), large_bubble_share=0.0, difficulty=1.0)
        for g in (1, 1.5)
    ]
    np.testing.assert_array_equal(*same)
