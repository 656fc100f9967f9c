"""Microscopes at random: valid, reproducible, and none like the default instrument."""

import math

from svp_lightning.simulation.microscopes import (
    ALIKE,
    APART,
    BLUR_UM,
    DEPTH_UM,
    SIZE,
    microscope,
)
from tests.configured import simulation

NUMBERS = range(24)


def test_a_microscope_is_a_function_of_its_number() -> None:
    base = simulation()
    assert microscope(base, 5) == microscope(base, 5)
    assert len({microscope(base, n).instrument.field_of_view_um for n in NUMBERS}) == len(NUMBERS)


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


def test_small_bubbles_are_air_and_the_rest_is_that_of_the_base() -> None:
    base = simulation(counts={"train": {"air_bubble": 7}}, neighbour_share=0.5)
    one = microscope(base, 3)
    assert one.air_indices == (1.0,)
    assert one.counts == base.counts
    assert one.neighbour_share == 0.5


def test_neighbours_in_number_share_their_optics() -> None:
    optics = [microscope(simulation(), n).optics.wavelength_um for n in range(2 * ALIKE)]
    assert len(set(optics[:ALIKE])) == len(set(optics[ALIKE:])) == 1
    assert optics[0] != optics[ALIKE]
