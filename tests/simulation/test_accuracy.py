"""Spheres of the priors against an exact calculation, and their symmetry."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from svp_lightning.simulation.lattice import lattice_side_at
from svp_lightning.simulation.mie import RADII_UM, nearest_radius
from svp_lightning.simulation.particles import OIL_INDEX as OIL
from svp_lightning.simulation.scene import Sphere
from tests.configured import simulation
from tests.simulation.corners import MEDIUM, Corner, corners
from tests.simulation.exact import exact_profile
from tests.simulation.test_imaging import image_of

FLOWCAM = simulation("flowcam_10x")


def corner(
    z: float, objective_na: float, condenser_na: float, radius: float = 2.5, index: float = OIL
) -> Corner:
    return Corner(FLOWCAM, radius, index, z, objective_na, condenser_na)


# Corners of the priors of every instrument, and spheres outside them.
CASES = [
    *corners(FLOWCAM),
    *corners(simulation("flowcam_nano"))[-2:],
    *corners(simulation("mfi_5200"))[-2:],
    corner(-40.0, 0.30, 0.158),
    corner(0.0, 0.35, 0.135, radius=4.0),
    corner(58.0, 0.35, 0.135, radius=4.0),
    corner(31.0, 0.31, 0.18, radius=2.2),
    corner(40.0, 0.31, 0.18, radius=2.8),
]


def exact_image(case: Corner, radius: float) -> NDArray[np.float64]:
    x = (np.arange(64) - 31.5) * case.pixel_um
    distance = np.hypot(x, x[:, None])
    line = np.linspace(0, distance.max(), 300)
    profile = exact_profile(
        line,
        radius=radius,
        index=case.index,
        z=case.z,
        objective_na=case.objective_na,
        condenser_na=case.condenser_na,
        medium=MEDIUM,
    )
    return np.asarray(CubicSpline(line, profile)(distance))


def test_the_corners_span_the_priors() -> None:
    optics = FLOWCAM.optics
    cases = corners(FLOWCAM)
    assert {case.objective_na for case in cases} == set(optics.objective_na)
    assert {case.condenser_na for case in cases} == set(optics.condenser_na)
    assert {(case.index == OIL, case.z > 0) for case in cases} >= {(True, True), (True, False)}
    assert {case.index for case in cases} > {OIL}
    assert len({case.grid().lattice_side for case in cases}) >= 3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_sphere_is_within_two_percent_of_the_exact_image(case: Corner) -> None:
    radius = float(RADII_UM[nearest_radius(case.radius)])
    expected = exact_image(case, radius)
    seen = image_of(case.grid(), Sphere(radius, case.index, 0.0, 0.0, case.z))
    error = math.sqrt(np.mean((seen - expected) ** 2))
    assert error < 0.02 * (expected.max() - expected.min())


def leaves_room(case: Corner) -> bool:
    """Whether a droplet's light leaves most of the window empty."""
    return case.index == OIL and (case.z == 0 or case.radius < 0.14 * 64 * case.pixel_um)


@pytest.mark.parametrize(
    "case", [*filter(leaves_room, [*CASES, *corners(simulation("mfi_5200"))[:8]])], ids=str
)
def test_no_fringes_are_drawn_into_the_empty_field(case: Corner) -> None:
    """A lattice of points is coherent again far from a particle, where a source is not."""
    radius = float(RADII_UM[nearest_radius(case.radius)])
    expected = exact_image(case, radius)
    empty = np.abs(expected - 1) < 0.01
    assert np.count_nonzero(empty) > 1000
    seen = image_of(case.grid(), Sphere(radius, case.index, 0.0, 0.0, case.z))
    assert math.sqrt(np.mean((seen - expected)[empty] ** 2)) < 0.002  # the noise is 0.006


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_sphere_is_radially_symmetric_to_two_percent(case: Corner) -> None:
    image = image_of(case.grid(), Sphere(case.radius, case.index, 0.0, 0.0, case.z))
    asymmetry = image - radial_mean(image)
    assert math.sqrt(np.mean(asymmetry**2)) < 0.02 * float(np.ptp(image))


def radial_mean(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Every pixel replaced by a radial curve: a least-squares spline of half-pixel knots."""
    x = np.arange(image.shape[0]) - (image.shape[0] - 1) / 2
    at = np.hypot(x, x[:, None]).ravel() / 1.0
    below = at.astype(int)
    share = at - below
    hats = np.zeros((at.size, below.max() + 2))
    hats[np.arange(at.size), below], hats[np.arange(at.size), below + 1] = 1 - share, share
    curve, *_ = np.linalg.lstsq(hats, image.ravel().astype(float), rcond=None)
    return (hats @ curve).reshape(image.shape)


def test_symmetry_is_measured_not_assumed() -> None:
    grid = corner(25.0, 0.35, 0.135).grid()
    bent = image_of(grid, Sphere(2.5, OIL, 0.0, 0.0, 25.0, stretch=0.4))
    asymmetry = bent - radial_mean(bent)
    assert math.sqrt(np.mean(asymmetry**2)) > 0.02 * float(np.ptp(bent))


def test_few_source_points_are_not_enough_where_a_droplet_projects_the_source() -> None:
    grid = corner(10.0, 0.35, 0.135).grid()
    assert [lattice_side_at(grid, z) for z in (-25.0, 10.0)] == [5, 5]
    assert lattice_side_at(grid, -60.0) > 5
    sides = [lattice_side_at(grid, z) for z in (38.0, 45.0, 60.0)]
    assert sides == sorted(set(sides))
    assert sides[0] > 5
