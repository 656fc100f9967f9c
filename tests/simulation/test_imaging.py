"""Properties of the imaging core; test_accuracy.py compares it with an exact calculation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from svp_lightning.simulation.imaging import abbe_intensity, box_transfer, filter_image, pupil
from svp_lightning.simulation.lattice import ImagingGrid, phasor
from svp_lightning.simulation.scene import Sphere, Spheres, scene_spectra
from svp_lightning.simulation.source import DIAMOND_WIDTH, source_weights

NA, NC, WAVELENGTH, MEDIUM = 0.34, 0.135, 0.47, 1.338


def make_grid(points: int = 25, num_pixels: int = 64, *, disc: bool = True) -> ImagingGrid:
    return ImagingGrid(
        objective_na=NA,
        condenser_na=NC,
        wavelength_um=WAVELENGTH,
        medium_index=MEDIUM,
        num_pixels=num_pixels,
        pixel_um=16.64 / num_pixels,
        lattice_side=math.isqrt(points),
        disc=disc,
    )


def image_of(grid: ImagingGrid, *spheres: Sphere) -> NDArray[np.float32]:
    """Light on point-like pixels."""
    scene = Spheres(spheres)
    lens = pupil(grid, torch.zeros(1, 2), torch.zeros(1, 7))
    spectra = scene_spectra([scene], grid, torch.device("cpu"))
    depths = torch.tensor([scene.depths_um])
    return abbe_intensity(grid, lens, spectra, depths, depths.mean(1), grid.to_pixels())[0].numpy()


def test_an_empty_field_is_one_for_any_lens() -> None:
    grid = make_grid()
    waves = torch.tensor([[0.1, 0.1, -0.1, 0.05, 0.1, 0.1, 0.0]])
    lens = pupil(grid, torch.tensor([[0.03, -0.02]]), waves)
    side = grid.size + 2 * grid.margin
    empty = torch.zeros((1, 1, side, side), dtype=torch.complex64)
    depth = torch.tensor([[30.0]])
    light = abbe_intensity(grid, lens, empty, depth, depth[0], grid.to_pixels())
    torch.testing.assert_close(light, torch.ones(1, 64, 64), atol=1e-5, rtol=0)


def test_a_moved_sphere_moves_its_image() -> None:
    grid = make_grid()
    image = image_of(grid, Sphere(2.0, 1.0, 0.0, 0.0, 15.0))
    moved = image_of(grid, Sphere(2.0, 1.0, 3 * grid.pixel_um, -2 * grid.pixel_um, 15.0))
    np.testing.assert_allclose(moved[8:50, 10:50], image[10:52, 7:47], atol=6e-3)


def test_two_spheres_far_apart_scatter_as_each_alone() -> None:
    grid = make_grid()
    left = Sphere(0.5, 1.403, -4.0, 0.0, 0.0)
    right = Sphere(0.5, 1.403, 4.0, 0.0, 5.0)
    both = image_of(grid, left, right) - 1
    # The blur of source patches uses the mean depth, hence the small tolerance.
    apart = image_of(grid, left) + image_of(grid, right) - 2
    np.testing.assert_allclose(both, apart, atol=0.02)


def test_filtering_with_mirrored_borders_keeps_the_mean() -> None:
    image = torch.rand(32, 32)
    blurred = filter_image(image, torch.outer(box_transfer(32, 3.0), box_transfer(32, 3.0)))
    assert float(blurred.mean()) == pytest.approx(float(image.mean()), abs=1e-5)
    assert float(blurred.std()) < 0.6 * float(image.std())


@pytest.mark.parametrize("binning", [1, 2, 4])
def test_a_pixel_sums_the_light_of_its_own_area_once(binning: int) -> None:
    """A cosine wave keeps sinc(width x frequency) of itself at the centres of coarse pixels."""
    wave, size = 5, 32
    fine = torch.cos(math.pi * wave * (torch.arange(size) + 0.5) / size).expand(1, size, size)
    area = box_transfer(size, binning)
    seen = filter_image(fine, torch.outer(area, area), binning)
    centres = binning * (torch.arange(size // binning) + 0.5)
    kept = torch.sinc(torch.tensor(binning * wave / (2 * size)))
    expected = kept * torch.cos(math.pi * wave * centres / size)
    torch.testing.assert_close(seen, expected.expand_as(seen), atol=1e-5, rtol=0)


def test_light_is_the_sum_over_the_source_points() -> None:
    """Of two layers under an oblique condenser, by the sum of |E_s|^2 as it is written."""
    grid = replace(make_grid(81, 16), margin_um=-1.0)
    assert grid.spacing == 1  # every frequency of the condenser is a point
    f = grid.frequencies(grid.margin)
    sphere = Spheres((Sphere(1.5, 1.403, 1.0, -0.5, 6.0), Sphere(1.0, 1.0, -1.5, 2.0, -3.0)))
    spectra = scene_spectra([sphere], grid, torch.device("cpu"))
    depths = torch.tensor([sphere.depths_um])
    waves = torch.tensor([[0.1, 0.05, -0.1, 0.05, 0.1, 0.02, 0.04]])
    lens = pupil(grid, torch.tensor([[0.05, -0.03]]), waves)
    seen = abbe_intensity(grid, lens, spectra, depths, torch.zeros(1), grid.to_pixels())
    through, reach, half = lens.through(depths)[0], grid.margin, grid.size // 2
    dft = phasor(2 * math.pi * torch.outer(grid.positions(), f[reach:-reach]))
    total, power = torch.zeros(16, 16), 0.0
    for i, j in np.ndindex(9, 9):
        y, x, weight = i - 4, j - 4, float(grid.weights[i, j])
        wave, k_z = lens.transmission[0, half + y, half + x], lens.k_z[0, half + y, half + x]
        rows, columns = (slice(reach - at, reach - at + grid.size) for at in (y, x))
        lit = phasor(-k_z * depths[0])[:, None, None]  # each layer by the light that meets it
        field = (through * spectra[0, :, rows, columns] * lit).sum(0)
        field[half + y, half + x] += wave / grid.step**2
        total += weight * (dft @ field @ dft.T).abs().square()
        power += weight * float(wave.abs() ** 2) / grid.step**4
    torch.testing.assert_close(seen[0], total / power, atol=1e-4, rtol=0)
    assert float(seen.max() - seen.min()) > 0.5


def test_the_field_of_a_wide_window_is_empty() -> None:
    """A lattice of points is coherent again far from a particle, where a source is not."""
    wide = replace(make_grid(num_pixels=128), pixel_um=0.45)
    image = image_of(wide, Sphere(2.0, 1.403, 0.0, 0.0, 20.0))
    x = wide.positions().numpy()
    assert float(np.abs(image - 1)[np.hypot(x, x[:, None]) > 15].max()) < 0.002


@pytest.mark.parametrize("disc", [True, False])
def test_few_points_and_their_blur_stand_for_a_dense_source(disc: bool) -> None:
    bubble = Sphere(2.0, 1.0, 0.0, 0.0, 20.0)
    dense = image_of(make_grid(21**2, disc=disc), bubble)
    few = image_of(make_grid(disc=disc), bubble)
    assert math.sqrt(np.mean((few - dense) ** 2)) < 0.01 * float(np.ptp(dense))


@pytest.mark.parametrize("disc", [True, False])
def test_a_condenser_is_as_wide_as_the_objective(disc: bool) -> None:
    wide = replace(make_grid(disc=disc), condenser_na=NA)
    pair = Sphere(1.5, 1.403, -2.0, 0.0, 4.0), Sphere(1.0, 1.0, 2.0, 0.0, -3.0)
    dense = image_of(replace(wide, lattice_side=21), *pair)
    error = image_of(replace(wide, lattice_side=9), *pair) - dense
    assert math.sqrt(np.mean(error**2)) < 0.02 * float(np.ptp(dense))


def test_a_diamond_is_as_wide_as_the_round_source() -> None:
    for disc, width in ((True, 2.0), (False, DIAMOND_WIDTH)):
        weights = source_weights(41, disc).sum(0).double()
        place = (torch.arange(41) - 20) * (width / 41)
        assert float((weights * place.square()).sum()) == pytest.approx(1 / 8, rel=0.01)


def test_a_centred_sphere_images_symmetrically() -> None:
    image = image_of(make_grid(), Sphere(2.5, 1.403, 0.0, 0.0, 20.0))
    for turned in (image[::-1], image[:, ::-1], image.T):
        np.testing.assert_allclose(turned, image, atol=2e-4)


def test_oil_focuses_light_in_front_and_air_spreads_it() -> None:
    grid = make_grid()
    middle = slice(30, 34)
    oil = image_of(grid, Sphere(3.0, 1.403, 0.0, 0.0, 40.0))
    behind = image_of(grid, Sphere(3.0, 1.403, 0.0, 0.0, -25.0))
    air = image_of(grid, Sphere(1.85, 1.0, 0.0, 0.0, 24.5))
    assert oil[middle, middle].mean() > 1.15
    assert behind[middle, middle].mean() < 0.8
    assert air[middle, middle].mean() < 0.6
