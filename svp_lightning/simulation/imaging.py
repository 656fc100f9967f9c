"""Partially coherent bright-field imaging: Abbe's sum over condenser points.

For each source point s the camera sees |E_s|^2 with

    E_s(x) = sum_f [F(f - f_s) + delta(f - f_s)] P(f) exp(i [k_z(f) z + W(f)]) exp(2 pi i f x),

and I = sum_s w_s |E_s|^2 / sum_s w_s |P(f_s)|^2, so an empty field images to 1. Only the
K x K frequencies inside the pupil are kept and a matrix DFT (two matrix products) takes
them to the pixels. Source points lie on the same frequency lattice, so F(f - f_s) is a
slice of a larger spectrum; what lies between the points is made up for afterwards by a blur
(:mod:`svp_lightning.simulation.source`). See Born & Wolf, *Principles of Optics*, 10.6.3.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from svp_lightning.simulation.source import DIAMOND_WIDTH, source_blur, source_weights

GHOST_MARGIN_UM = 14.0
"""Least distance from the ghost of a centred particle to the window's edge; its defocused
light then adds less than 0.3 % of the contrast up to z = 50 um."""


@dataclass(frozen=True)
class ImagingGrid:
    """Frequencies, source points and pixels shared by the images of a session.

    Attributes:
        step: distance of neighbouring frequencies, 1/um.
        size: K, frequencies along one side of the pupil box (odd).
        spacing: d, distance of neighbouring source points in frequency samples.
        weights: (S, S) share of the condenser of each source point, sum 1.
        disc: whether the condenser is a disc or a diamond.
        num_pixels: N, pixels along one side.
        pixel_um: pixel size.
        objective_na, wavelength_um, medium_index: the microscope.
    """

    step: float
    size: int
    spacing: int
    weights: Tensor
    disc: bool
    num_pixels: int
    pixel_um: float
    objective_na: float
    wavelength_um: float
    medium_index: float

    @property
    def margin(self) -> int:
        """Samples the object's spectrum extends beyond the pupil box on each side."""
        return self.spacing * (self.weights.shape[0] - 1) // 2

    @property
    def source_step(self) -> float:
        """Distance of neighbouring source points, 1/um."""
        return self.spacing * self.step

    def frequencies(self, margin: int = 0) -> Tensor:
        """float32 (K + 2 margin,) lattice frequencies, 1/um, symmetric about 0."""
        half = self.size // 2 + margin
        return self.step * torch.arange(-half, half + 1, dtype=torch.float32)

    def positions(self) -> Tensor:
        """float32 (N,) pixel centres, um, symmetric about 0."""
        n = self.num_pixels
        return self.pixel_um * (torch.arange(n, dtype=torch.float32) - (n - 1) / 2)

    def to_pixels(self) -> Tensor:
        """complex64 (N, K) matrix of the DFT from frequencies to pixels."""
        phase = 2 * math.pi * torch.outer(self.positions(), self.frequencies())
        return torch.polar(torch.ones_like(phase), phase)


def imaging_grid(
    *,
    objective_na: float,
    condenser_na: float,
    wavelength_um: float,
    medium_index: float,
    num_pixels: int,
    pixel_um: float,
    lattice_side: int,
    disc: bool = True,
) -> ImagingGrid:
    """Lay out frequencies so that source points fall on them and ghosts stay outside.

    Args:
        objective_na: numerical aperture of the objective.
        condenser_na: numerical aperture of the illumination.
        wavelength_um: in vacuum.
        medium_index: refractive index around the particle.
        num_pixels: along one side of the camera window.
        pixel_um: pixel size.
        lattice_side: source points along one side (odd).
        disc: a round light source; otherwise a diamond of the same area.
    """
    width = 2 if disc else DIAMOND_WIDTH
    source_step = width * condenser_na / wavelength_um / lattice_side
    period = num_pixels * pixel_um / 2 + GHOST_MARGIN_UM
    spacing = max(1, math.ceil(source_step * period))
    step = source_step / spacing
    half = math.ceil(objective_na / wavelength_um / step)
    return ImagingGrid(
        step=step,
        size=2 * half + 1,
        spacing=spacing,
        weights=source_weights(lattice_side, disc),
        disc=disc,
        num_pixels=num_pixels,
        pixel_um=pixel_um,
        objective_na=objective_na,
        wavelength_um=wavelength_um,
        medium_index=medium_index,
    )


@dataclass(frozen=True)
class Pupil:
    """The objective of one image, on the (possibly tilted) K x K lattice."""

    transmission: Tensor
    """complex64 (K, K): amplitude and aberrations."""
    k_z: Tensor
    """float32 (K, K): axial wave number relative to the axis, rad/um."""


def pupil(grid: ImagingGrid, tilt: tuple[float, float], waves: Tensor) -> Pupil:
    """The pupil with aberrations, seen from a tilted condenser.

    Tilting the illumination by f_t moves every f to f + f_t and multiplies the field by a
    plane phase, which the intensity does not see: only the pupil shifts.

    Args:
        grid: the session's lattice.
        tilt: condenser tilt (x, y) as a numerical aperture.
        waves: (7,) Zernike rms coefficients in waves: spherical, coma x/y, astigmatism
            0/45, trefoil x/y.
    """
    f = grid.frequencies().to(waves.device)
    fx, fy = f + tilt[0] / grid.wavelength_um, (f + tilt[1] / grid.wavelength_um)[:, None]
    squared = fx.square() + fy.square()
    cutoff = grid.objective_na / grid.wavelength_um
    amplitude = ((cutoff - squared.sqrt()) / grid.step + 0.5).clamp(0, 1)
    sine_squared = squared * (grid.wavelength_um / grid.medium_index) ** 2
    k = 2 * math.pi * grid.medium_index / grid.wavelength_um
    k_z = k * ((1 - sine_squared).clamp(min=0).sqrt() - 1)
    phase = 2 * math.pi * _aberration(fx / cutoff, fy / cutoff, squared / cutoff**2, waves)
    return Pupil(torch.polar(amplitude, phase), k_z)


def _aberration(x: Tensor, y: Tensor, rho2: Tensor, waves: Tensor) -> Tensor:
    """Wavefront error in waves from orthonormal Zernike polynomials; (K, K)."""
    spherical, coma_x, coma_y, astig_0, astig_45, trefoil_x, trefoil_y = waves.unbind()
    x2, y2 = x.square(), y.square()
    total = spherical * math.sqrt(5) * ((6 * rho2 - 6) * rho2 + 1)
    total = total + math.sqrt(8) * (3 * rho2 - 2) * (coma_x * x + coma_y * y)
    total = total + math.sqrt(6) * (astig_0 * (x2 - y2) + astig_45 * (2 * x * y))
    trefoil = trefoil_x * x * (x2 - 3 * y2) + trefoil_y * y * (3 * x2 - y2)
    return total + math.sqrt(8) * trefoil


def abbe_intensity(
    grid: ImagingGrid, lens: Pupil, spectra: Tensor, depths: Tensor, dft: Tensor
) -> Tensor:
    """Image of scattering layers, before the camera.

    Args:
        grid: the session's lattice.
        lens: the image's pupil.
        spectra: complex64 (L, K + 2 margin, K + 2 margin), rows along y: F of each layer, um^2.
        depths: float32 (L,) distance z from each layer to the plane in focus, um; positive
            where the light has passed the particle before the plane.
        dft: complex64 (N, K) from :meth:`ImagingGrid.to_pixels`.

    Returns:
        float32 (N, N) intensity, background 1, not yet blurred by source patches.
    """
    fields, weights = _source_fields(grid, lens, spectra, depths)
    size, n, points = grid.size, grid.num_pixels, weights.numel()
    rows = (fields.view(size * points, size) @ dft.T).view(size, points * n)
    seen = torch.view_as_real(dft @ rows).view(n, points, 2 * n)
    return (weights @ seen.square_()).view(n, n, 2).sum(-1)


def _source_fields(
    grid: ImagingGrid, lens: Pupil, spectra: Tensor, depths: Tensor
) -> tuple[Tensor, Tensor]:
    """Pupil-plane fields (K, S, S, K) of all source points, and their weights (1, S * S).

    Source points run backwards along both axes: F(f - f_s) looks further left for larger f_s,
    so that the windows of ``spectra`` come out in this order without a copy.
    """
    keep, spacing, side = grid.size, grid.spacing, grid.weights.shape[0]
    place = keep // 2 - spacing * (torch.arange(side, device=spectra.device) - side // 2)
    row, column = place[:, None], place
    windows = spectra.unfold(1, keep, spacing).unfold(2, keep, spacing).permute(0, 3, 1, 2, 4)
    total = torch.empty(windows.shape[1:], dtype=spectra.dtype, device=spectra.device)
    torch.mul(windows[0], _through(lens, depths[0])[:, None, None], out=total)
    unscattered = lens.transmission[row, column]
    # Fields are referred to the first layer's phase, in which the unscattered wave has k_z z.
    for window, depth in zip(windows[1:], depths[1:], strict=True):
        part = window * _through(lens, depth)[:, None, None]
        phase = lens.k_z[row, column] * (depths[0] - depth)
        total += part.mul_(torch.polar(torch.ones_like(phase), phase)[:, :, None])
    phase = lens.k_z[row, column] * depths[0]
    source = torch.arange(side, device=spectra.device)
    wave = unscattered * torch.polar(torch.full_like(phase, 1 / grid.step**2), phase)
    total[row, source[:, None], source, column] += wave
    weights = grid.weights.to(spectra.device).flip(0, 1).reshape(1, -1)
    power = (weights * wave.abs().square().view(1, -1)).sum()
    return total, weights / power


def _through(lens: Pupil, depth: Tensor) -> Tensor:
    """Objective and defocus; complex64 (K, K)."""
    return lens.transmission * torch.polar(torch.ones_like(lens.k_z), lens.k_z * depth)


@lru_cache(maxsize=16)
def cosine_basis(size: int) -> Tensor:
    """Orthonormal DCT-II matrix, float32 (size, size), rows are frequencies."""
    k, n = np.arange(size)[:, None], np.arange(size)
    basis = np.cos(np.pi * k * (2 * n + 1) / (2 * size)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return torch.from_numpy(basis.astype(np.float32))


def box_transfer(size: int, width_px: float) -> Tensor:
    """Transfer of a box blur at the DCT frequencies; float32 (size,)."""
    return torch.sinc(torch.arange(size, dtype=torch.float32) * (width_px / (2 * size)))


def defocus_blur(grid: ImagingGrid, depth_um: float) -> Tensor:
    """Blur that completes the source for a particle at this depth; float32 (N, N)."""
    shift = abs(depth_um) * grid.source_step * grid.wavelength_um / grid.medium_index
    return source_blur(grid.weights, grid.disc, shift / grid.pixel_um, grid.num_pixels)


def filter_image(image: Tensor, transfer: Tensor) -> Tensor:
    """Multiply the image's cosine spectrum; (N, N) -> (N, N).

    A DCT mirrors the window at its borders, so nothing wraps around.
    """
    basis = cosine_basis(image.shape[-1]).to(image.device)
    return basis.T @ ((basis @ image @ basis.T) * transfer.to(image.device)) @ basis
