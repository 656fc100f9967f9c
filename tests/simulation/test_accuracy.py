"""Spheres of the priors against an exact calculation, and their symmetry."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from svp_lightning.simulation.imaging import ImagingGrid, imaging_grid, lattice_side_at
from svp_lightning.simulation.mie import RADII_UM, nearest_radius
from svp_lightning.simulation.scene import Sphere
from tests.simulation.exact import exact_profile
from tests.simulation.test_imaging import image_of

MEDIUM = 1.338
OIL, AIR = 1.403, 1.0

# Radius, index, defocus (um), NA of objective and condenser.
CASES = [
    (2.5, OIL, -40.0, 0.30, 0.105),
    (2.5, OIL, -29.0, 0.41, 0.105),
    (4.0, OIL, 0.0, 0.35, 0.09),
    (2.0, OIL, 25.0, 0.35, 0.09),
    (3.0, OIL, 36.0, 0.30, 0.10),
    (3.2, OIL, 42.0, 0.41, 0.105),
    (3.2, OIL, 42.0, 0.30, 0.105),
    (3.3, OIL, 44.0, 0.35, 0.085),
    (4.0, OIL, 50.0, 0.35, 0.09),
    (4.0, OIL, 50.0, 0.30, 0.105),
    (4.0, OIL, 50.0, 0.41, 0.105),
    (4.0, OIL, 58.0, 0.35, 0.09),
    (1.3, AIR, 32.0, 0.35, 0.09),
    (1.85, AIR, 27.0, 0.41, 0.105),
    (3.0, AIR, 16.0, 0.30, 0.08),
    (1.85, 1.27, 40.0, 0.35, 0.105),
]


def grid_for(z: float, objective_na: float, condenser_na: float) -> ImagingGrid:
    """The lattice the simulator takes for this depth, where 25 points are asked for."""

    def grid(side: int) -> ImagingGrid:
        return imaging_grid(
            objective_na=objective_na,
            condenser_na=condenser_na,
            wavelength_um=0.47,
            medium_index=MEDIUM,
            num_pixels=64,
            pixel_um=0.26,
            lattice_side=side,
        )

    return grid(max(5, lattice_side_at(grid(5), z)))


def exact_image(
    radius: float, index: float, z: float, objective_na: float, condenser_na: float
) -> NDArray[np.float64]:
    x = (np.arange(64) - 31.5) * 0.26
    distance = np.hypot(x, x[:, None])
    line = np.linspace(0, distance.max(), 900)
    profile = exact_profile(
        line,
        radius=radius,
        index=index,
        z=z,
        objective_na=objective_na,
        condenser_na=condenser_na,
        medium=MEDIUM,
    )
    return np.interp(distance, line, profile)


@pytest.mark.parametrize(("radius", "index", "z", "objective_na", "condenser_na"), CASES)
def test_a_sphere_is_within_two_percent_of_the_exact_image(
    radius: float, index: float, z: float, objective_na: float, condenser_na: float
) -> None:
    radius = float(RADII_UM[nearest_radius(radius)])
    expected = exact_image(radius, index, z, objective_na, condenser_na)
    grid = grid_for(z, objective_na, condenser_na)
    seen = image_of(grid, Sphere(radius, index, 0.0, 0.0, z))
    error = math.sqrt(np.mean((seen - expected) ** 2))
    assert error < 0.02 * (expected.max() - expected.min())


@pytest.mark.parametrize(("radius", "index", "z", "objective_na", "condenser_na"), CASES)
def test_a_sphere_is_radially_symmetric_to_two_percent(
    radius: float, index: float, z: float, objective_na: float, condenser_na: float
) -> None:
    grid = grid_for(z, objective_na, condenser_na)
    image = image_of(grid, Sphere(radius, index, 0.0, 0.0, z))
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
    grid = grid_for(25.0, 0.35, 0.09)
    bent = image_of(grid, Sphere(2.5, OIL, 0.0, 0.0, 25.0, stretch=0.4))
    asymmetry = bent - radial_mean(bent)
    assert math.sqrt(np.mean(asymmetry**2)) > 0.02 * float(np.ptp(bent))


def test_few_source_points_are_not_enough_where_a_droplet_projects_the_source() -> None:
    assert lattice_side_at(grid_for(10.0, 0.35, 0.09), 10.0) == 5
    assert lattice_side_at(grid_for(10.0, 0.35, 0.09), -60.0) == 5
    assert lattice_side_at(grid_for(10.0, 0.35, 0.09), 60.0) > 5
