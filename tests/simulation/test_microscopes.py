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
