"""The imaging core against an independent calculation: dense source, FFT, double precision."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from svp_lightning.simulation.imaging import (
    ImagingGrid,
    abbe_intensity,
    box_transfer,
    defocus_blur,
    filter_image,
    imaging_grid,
    pupil,
)
from svp_lightning.simulation.mie import RADII_UM, nearest_radius, scattering_amplitudes
from svp_lightning.simulation.scene import Sphere, Spheres

NA, NC, WAVELENGTH, MEDIUM = 0.34, 0.09, 0.47, 1.338


def make_grid(points: int = 25, num_pixels: int = 64) -> ImagingGrid:
    return imaging_grid(
        objective_na=NA,
        condenser_na=NC,
        wavelength_um=WAVELENGTH,
        medium_index=MEDIUM,
        num_pixels=num_pixels,
        pixel_um=16.64 / num_pixels,
        lattice_side=math.isqrt(points),
    )


def image_of(grid: ImagingGrid, *spheres: Sphere) -> NDArray[np.float32]:
    """Light on point-like pixels, with the source patches' blur but no pixel area."""
    scene = Spheres(spheres)
    lens = pupil(grid, (0.0, 0.0), torch.zeros(7))
    spectra = scene.spectra(grid, torch.device("cpu"))
    depths = torch.tensor(scene.depths_um)
    light = abbe_intensity(grid, lens, spectra, depths, grid.to_pixels())
    return filter_image(light, defocus_blur(grid, float(depths.mean()))).numpy()


def reference_image(radius: float, index: float, z: float, num_points: int) -> NDArray[np.float64]:
    """Abbe's sum over a dense sunflower of source points, fields by a large FFT."""
    size, pixel = 256, 0.26
    f = np.fft.fftfreq(size, pixel)
    fx, fy = np.meshgrid(f, f)
    sines = np.linspace(0, 0.5, 4001)
    k = 2 * np.pi * MEDIUM / WAVELENGTH
    s1, s2 = scattering_amplitudes(np.array([k * radius]), index / MEDIUM, np.sqrt(1 - sines**2))
    spectrum = -np.pi / k**2 * (s1 + s2)[0]
    inside = np.hypot(fx, fy) < NA / WAVELENGTH
    k_z = k * (np.sqrt(1 - np.minimum(np.hypot(fx, fy) * WAVELENGTH / MEDIUM, 1) ** 2) - 1)
    total = np.zeros((size, size))
    for i in range(num_points):
        r, angle = math.sqrt((i + 0.5) / num_points) * NC / WAVELENGTH, i * 2.399963
        sx, sy = r * math.cos(angle), r * math.sin(angle)
        sine = np.hypot(fx - sx, fy - sy)[inside] * WAVELENGTH / MEDIUM
        scattered = np.zeros((size, size), complex)
        scattered[inside] = np.interp(sine, sines, spectrum) * np.exp(1j * k_z[inside] * z)
        # Put the particle in the middle of pixels (127.5, 127.5), as the other code does.
        scattered *= np.exp(-2j * np.pi * (fx + fy) * 127.5 * pixel)
        x = (np.arange(size) - 127.5) * pixel
        wave = np.exp(2j * np.pi * (sx * x + sy * x[:, None]))
        wave *= np.exp(1j * z * k * (math.sqrt(1 - (r * WAVELENGTH / MEDIUM) ** 2) - 1))
        total += np.abs(wave + np.fft.ifft2(scattered) / pixel**2) ** 2
    return (total / num_points)[96:160, 96:160]


@pytest.mark.parametrize(
    ("radius", "index", "z"),
    [(3.0, 1.403, 40.0), (2.6, 1.403, -25.0), (1.85, 1.0, 24.5), (4.0, 1.403, 0.0)],
)
def test_a_sphere_agrees_with_a_dense_source_in_double_precision(
    radius: float, index: float, z: float
) -> None:
    radius = float(RADII_UM[nearest_radius(radius)])
    expected = reference_image(radius, index, z, num_points=220)
    seen = image_of(make_grid(), Sphere(radius, index, 0.0, 0.0, z))
    contrast = expected.max() - expected.min()
    error = math.sqrt(np.mean((seen - expected) ** 2))
    assert error < 0.02 * contrast


def test_more_source_points_come_closer_to_the_dense_source() -> None:
    radius = float(RADII_UM[nearest_radius(3.0)])
    expected = reference_image(radius, 1.403, 40.0, num_points=220)
    sphere = Sphere(radius, 1.403, 0.0, 0.0, 40.0)
    errors = [np.abs(image_of(make_grid(n), sphere) - expected).mean() for n in (9, 25)]
    assert errors[1] < 0.6 * errors[0]


def test_an_empty_field_is_one_for_any_lens() -> None:
    grid = make_grid()
    lens = pupil(grid, (0.03, -0.02), torch.tensor([0.1, 0.1, -0.1, 0.05, 0.1, 0.1, 0.0]))
    side = grid.size + 2 * grid.margin
    empty = torch.zeros((1, side, side), dtype=torch.complex64)
    light = abbe_intensity(grid, lens, empty, torch.tensor([30.0]), grid.to_pixels())
    torch.testing.assert_close(light, torch.ones(64, 64), atol=1e-5, rtol=0)


def test_a_centred_sphere_images_symmetrically() -> None:
    image = image_of(make_grid(), Sphere(2.5, 1.403, 0.0, 0.0, 20.0))
    for turned in (image[::-1], image[:, ::-1], image.T):
        np.testing.assert_allclose(turned, image, atol=2e-4)


def test_a_moved_sphere_moves_its_image() -> None:
    grid = make_grid()
    image = image_of(grid, Sphere(2.0, 1.0, 0.0, 0.0, 15.0))
    moved = image_of(grid, Sphere(2.0, 1.0, 3 * grid.pixel_um, -2 * grid.pixel_um, 15.0))
    np.testing.assert_allclose(moved[8:50, 10:50], image[10:52, 7:47], atol=6e-3)


def test_oil_focuses_light_in_front_and_air_spreads_it() -> None:
    grid = make_grid()
    middle = slice(30, 34)
    oil = image_of(grid, Sphere(3.0, 1.403, 0.0, 0.0, 40.0))
    behind = image_of(grid, Sphere(3.0, 1.403, 0.0, 0.0, -25.0))
    air = image_of(grid, Sphere(1.85, 1.0, 0.0, 0.0, 24.5))
    assert oil[middle, middle].mean() > 1.15
    assert behind[middle, middle].mean() < 0.8
    assert air[middle, middle].mean() < 0.6


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
