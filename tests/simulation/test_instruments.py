"""The instrument files of conf/data/instrument, and microscopes at random."""

import math
from pathlib import Path

import numpy as np
import pytest

from svp_lightning.__main__ import configured
from svp_lightning.errors import SettingsError
from svp_lightning.simulation.large_bubble import (
    FOCUS_RATIOS,
    bubble_profile,
    draw_large_bubble,
    nominal_optics,
)
from svp_lightning.simulation.microscopes import ALIKE, APART, BLUR_UM, DEPTH_UM, SIZE, microscope
from svp_lightning.simulation.scene import Particle, PhaseScreens, Sphere, Spheres, magnified
from svp_lightning.simulation.simulator import Simulator
from tests.configured import simulation

FOLDER = Path(__file__).parents[2] / "conf" / "data" / "instrument"
NAMES = ("flowcam_10x", "flowcam_nano", "mfi_5200")


def test_every_instrument_is_tested() -> None:
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(NAMES)


def test_the_default_instrument_is_the_flowcam() -> None:
    assert configured("scale=tiny").data.simulation.instrument == simulation().instrument


@pytest.mark.parametrize("name", NAMES)
def test_an_instrument_shows_whole_particles_on_its_background(name: str) -> None:
    settings = simulation(name, source_points=9, large_bubble_share=0.0)
    simulator, rows = Simulator(settings, 64, seed=2), np.arange(8)
    for class_name in ("protein", "silicone_oil", "air_bubble"):
        images, table = simulator.render([class_name] * 8, rows, rows % 2)
        assert abs(np.median(images) - settings.instrument.background[0]) < 12
        assert table["ecd_um"].max() < settings.instrument.field_of_view_um
        assert table["ecd_um"].min() > 2 * simulator.pixel_size_um
        contrast = np.abs(images.astype(int) - int(np.median(images)))
        assert (contrast[:, 16:48, 16:48].max(axis=(1, 2)) > 12).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("optics.objective_na=[0.1,0.1]", "condenser_na up to 0.177 is wider"),
        ("optics.sensor_pixel_um=[1000,1000]", "sensor_pixel_um"),
        ("instrument.field_of_view_um=3548", "field_of_view_um"),
        ("instrument.camera_pixel_um=0.0079", "camera_pixel_um"),
        ("instrument.noise=[1000,10000]", "noise"),
        ("instrument.background=[175,500]", "background"),
    ],
)
def test_instruments_that_cannot_be_are_refused(values: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        configured(f"data.simulation.{values}")


def test_magnifying_keeps_the_parts_of_a_doublet_together() -> None:
    pair = Spheres((Sphere(2.0, 1.4, 0.0, 0.0, 30.0), Sphere(1.0, 1.4, 3.0, 0.0, 30.5)))
    particle = Particle("doublet", 2.0, 5.0, 30.0, 1.4)
    grown, spheres = magnified(particle, pair, size=2.0, depth=3.0, medium_index=1.338)
    assert isinstance(spheres, Spheres)
    assert (grown.radius_um, grown.ecd_um, grown.defocus_um) == (4.0, 10.0, 90.0)
    first, second = spheres.spheres
    assert (first.radius_um, second.radius_um, second.x_um) == (4.0, 2.0, 6.0)
    assert (first.z_um, second.z_um) == (90.0, 91.0)


def test_a_magnified_aggregate_keeps_its_phase_and_states_its_index() -> None:
    screen = np.full((4, 4), 0.1j, np.complex64)
    halves = PhaseScreens(screen, screen, 0.2, 0.0, 0.0, (1.0, -1.0))
    particle = Particle("film", 2.0, 4.0, 0.0, 1.358)
    grown, screens = magnified(particle, halves, size=0.25, depth=1.0, medium_index=1.338)
    assert isinstance(screens, PhaseScreens)
    assert screens.front is halves.front  # a quarter as thick, with four times the contrast
    assert grown.refractive_index == pytest.approx(1.338 + 0.08)


def test_large_bubbles_follow_the_objective() -> None:
    """A bubble sends little light into a small aperture: only near its axis it is not dark."""
    focus = int(np.abs(FOCUS_RATIOS - 0.85).argmin())
    bright = {}
    for name in ("flowcam_10x", "mfi_5200"):
        optics = simulation(name).optics
        profile = bubble_profile(nominal_optics(optics), 4, focus)
        assert profile[-1] == pytest.approx(1, abs=0.02)
        bright[name] = np.flatnonzero(profile[: profile.size // 3] > 0.1).size
    assert 0 < bright["mfi_5200"] < 0.6 * bright["flowcam_10x"]


def test_bubbles_that_fit_are_mostly_cut_out_whole() -> None:
    def whole(window_um: float) -> float:
        rng, found = np.random.default_rng(0), []
        for _ in range(200):
            particle, bubble = draw_large_bubble(rng, window_um)
            reach = max(abs(bubble.x_um), abs(bubble.y_um)) + particle.radius_um
            found.append(reach < window_um / 2 + 1)
        return float(np.mean(found))

    assert whole(16.64) < 0.2
    assert whole(80.0) > 0.7


NUMBERS = range(24)


def test_none_sees_spheres_as_the_default_instrument_does() -> None:
    for number in NUMBERS:
        one = microscope(simulation(), number)
        optics, instrument = one.optics, one.instrument
        blur = optics.wavelength_um / (optics.objective_na[0] / 0.9)
        size = instrument.size_scale / blur * BLUR_UM
        depth = instrument.depth_scale * optics.wavelength_um / blur**2 * DEPTH_UM
        assert max(abs(math.log(size)), abs(math.log(depth))) > APART
        assert 10 < instrument.field_of_view_um < 110
        assert instrument.field_of_view_um / SIZE <= instrument.camera_pixel_um


def test_a_microscope_is_a_function_of_its_number_and_few_share_optics() -> None:
    base = simulation(counts={"train": {"air_bubble": 7}}, neighbour_share=0.5)
    found = [microscope(base, number) for number in NUMBERS]
    assert microscope(base, 5) == found[5]
    assert len({one.instrument.field_of_view_um for one in found}) == len(NUMBERS)
    optics = [one.optics.wavelength_um for one in found[: 2 * ALIKE]]
    assert len(set(optics[:ALIKE])) == len(set(optics[ALIKE:])) == 1
    assert optics[0] != optics[ALIKE]
    for one in found:  # small bubbles are air; the rest is that of the base
        assert (one.air_indices, one.counts, one.neighbour_share) == ((1.0,), base.counts, 0.5)
