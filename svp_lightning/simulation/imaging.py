"""Partially coherent bright-field imaging: Abbe's sum over condenser points.

For each source point s the camera sees |U_s + V_s|^2, the unscattered and the scattered wave:

    V_s(x) = sum_f F(f - f_s) P(f) exp(i [k_z(f) z + W(f)]) exp(2 pi i f x),

and U_s has delta for F. I = sum_s w_s |U_s + V_s|^2 / sum_s w_s |P(f_s)|^2, so an empty field
images to 1. Only the K x K frequencies inside the pupil are kept and a matrix DFT (two matrix
products) takes them to the pixels.

The interference 2 Re sum_s w_s U_s* V_s is linear in F: one image, whose transfer is the
correlation of the lit pupil with the pupil, over every frequency of the condenser. Far from the
particle it vanishes. A coarse lattice of points, coherent again one over their distance away,
would draw fringes there. The scattered light sum_s w_s |V_s|^2 needs an image for each point and
does with few: F(f - f_s) is a slice of a larger spectrum, and what lies between the points is made
up for by a blur (:mod:`svp_lightning.simulation.source`). See Born & Wolf, *Principles of Optics*,
10.6.3.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from svp_lightning.simulation.lattice import ImagingGrid, Microscope, phasor
from svp_lightning.simulation.source import source_blur


@dataclass(frozen=True)
class Pupil:
    """The objective of B images, on each one's (possibly tilted) K x K lattice."""

    transmission: Tensor
    """complex64 (B, K, K): amplitude and aberrations."""
    k_z: Tensor
    """float32 (B, K, K): axial wave number relative to the axis, rad/um."""

    def through(self, depths: Tensor) -> Tensor:
        """Objective and defocus (B, L); complex64 (B, L, K, K)."""
        return self.transmission[:, None] * phasor(self.k_z[:, None] * depths[..., None, None])


def pupil(
    grid: ImagingGrid, tilts: Tensor, waves: Tensor, microscope: Microscope | None = None
) -> Pupil:
    """The pupil with aberrations, seen from a tilted condenser.

    Tilting the illumination by f_t moves every f to f + f_t and multiplies the field by a plane
    phase, which the intensity does not see: only the pupil shifts.

    Args:
        grid: the session's lattice.
        tilts: float32 (B, 2) condenser tilt (x, y) as a numerical aperture.
        waves: float32 (B, 7) Zernike rms coefficients in waves: spherical, coma x/y,
            astigmatism 0/45, trefoil x/y.
        microscope: whose pupil it is; None: the lattice's own.
    """
    optics = microscope or grid
    f = grid.frequencies().to(waves.device)
    shift = tilts[:, :, None] / optics.wavelength_um
    fx, fy = (f + shift[:, 0])[:, None, :], (f + shift[:, 1])[:, :, None]
    squared = fx.square() + fy.square()
    cutoff = optics.objective_na / optics.wavelength_um
    amplitude = ((cutoff - squared.sqrt()) / grid.step + 0.5).clamp(0, 1)
    sine_squared = squared * (optics.wavelength_um / optics.medium_index) ** 2
    k = 2 * math.pi * optics.medium_index / optics.wavelength_um
    k_z = k * ((1 - sine_squared).clamp(min=0).sqrt() - 1)
    phase = 2 * math.pi * _aberration(fx / cutoff, fy / cutoff, squared / cutoff**2, waves)
    return Pupil(torch.polar(amplitude, phase), k_z)


def _aberration(x: Tensor, y: Tensor, rho2: Tensor, waves: Tensor) -> Tensor:
    """Wavefront error in waves from orthonormal Zernike polynomials; (B, K, K)."""
    coefficients = waves[:, :, None, None].unbind(1)
    spherical, coma_x, coma_y, astig_0, astig_45, trefoil_x, trefoil_y = coefficients
    x2, y2 = x.square(), y.square()
    total = spherical * math.sqrt(5) * ((6 * rho2 - 6) * rho2 + 1)
    total = total + math.sqrt(8) * (3 * rho2 - 2) * (coma_x * x + coma_y * y)
    total = total + math.sqrt(6) * (astig_0 * (x2 - y2) + astig_45 * (2 * x * y))
    trefoil = trefoil_x * x * (x2 - 3 * y2) + trefoil_y * y * (3 * x2 - y2)
    return total + math.sqrt(8) * trefoil


def abbe_intensity(
    grid: ImagingGrid,
    lens: Pupil,
    spectra: Tensor,
    depths: Tensor,
    smears: Tensor,
    dft: Tensor,
) -> Tensor:
    """Images of layers under the whole source, float32 (B, N, N), background 1.

    Args:
        grid: the session's lattice.
        lens: the images' pupils.
        spectra: complex64 (B, L, M, M), rows along y: F of each layer, um^2.
        depths: float32 (B, L) distance z from each layer to the plane in focus, um; positive
            where the light has passed the particle before the plane.
        smears: float32 (B,) depth whose blur stands for what lies between the source points.
        dft: complex64 (N, M) from :meth:`ImagingGrid.to_pixels`.
    """
    source = grid.dense_weights.to(spectra.device)
    edge, width = grid.size // 2 - source.shape[0] // 2, source.shape[0]
    inner = (..., slice(edge, edge + width), slice(edge, edge + width))
    power = (source * lens.transmission[inner].abs().square()).sum((1, 2))[:, None, None]
    through = lens.through(depths)
    fields = _source_fields(grid, spectra, through, lens.k_z, depths)
    scattered = _scattered(grid, fields, dft) / power
    transfer = _correlation(through[inner] * source, through, grid.margin)
    interference = (dft @ (spectra * transfer).sum(1) @ dft.T).real * (2 * grid.step**2)
    return 1 + filter_image(scattered, defocus_blur(grid, smears)) + interference / power


def _correlation(lit: Tensor, through: Tensor, margin: int) -> Tensor:
    """sum_s conj(lit(s)) through(g + s) of every g; (..., D, D), (..., K, K) to (..., M, M).

    All are centred on frequency 0, and D, K and M = K + 2 margin are odd.
    """
    width, size = lit.shape[-1], through.shape[-1]
    padded = next_fast_len(size + margin + width // 2)  # what wraps around is cut off
    spectrum: Tensor = torch.fft.fft2(through, (padded, padded))
    spectrum *= torch.fft.fft2(lit, (padded, padded)).conj()
    sums: Tensor = torch.fft.ifft2(spectrum)
    # Frequency 0 is at size // 2 of the one and width // 2 of the other: so g = 0 is at the rest.
    reach = size // 2 + margin
    g = torch.arange(-reach, reach + 1, device=lit.device) + size // 2 - width // 2
    return sums[..., g[:, None], g]


def _scattered(grid: ImagingGrid, fields: Tensor, dft: Tensor) -> Tensor:
    """sum_s w_s |scattered field|^2, not yet blurred; float32 (B, N, N)."""
    weights = grid.weights.to(fields.device).flip(0, 1).reshape(1, 1, -1)
    count, size, n, points = len(fields), grid.size, grid.num_pixels, weights.shape[-1]
    dft = dft[:, grid.margin : grid.margin + size]
    rows = (fields.view(-1, size) @ dft.T).view(count, size, points * n)
    seen = torch.view_as_real(dft @ rows).view(count, n, points, 2 * n)
    return (weights @ seen.square_()).view(count, n, n, 2).sum(-1) * grid.step**4


def _source_fields(
    grid: ImagingGrid, spectra: Tensor, through: Tensor, k_z: Tensor, depths: Tensor
) -> Tensor:
    """Scattered fields in the pupil, (B, K, S, S, K), of all source points.

    Source points run backwards along both axes: F(f - f_s) looks further left for larger f_s,
    so that the windows of ``spectra`` come out in this order without a copy.
    """
    keep, spacing, side = grid.size, grid.spacing, grid.lattice_side
    source = torch.arange(side, device=spectra.device)
    place = keep // 2 - spacing * (source - side // 2)
    row, column = place[:, None], place
    windows = spectra.unfold(2, keep, spacing).unfold(3, keep, spacing).permute(1, 0, 4, 2, 3, 5)
    total = torch.empty(windows.shape[1:], dtype=spectra.dtype, device=spectra.device)
    torch.mul(windows[0], through[:, 0, :, None, None], out=total)
    # Fields are referred to the first layer's phase. The faint tips of a diamond may be beyond the
    # lattice: they take the phase of its edge.
    axial = k_z[:, row.clamp(0, keep - 1), column.clamp(0, keep - 1)]
    for layer in range(1, len(windows)):
        part = windows[layer] * through[:, layer, :, None, None]
        phase = axial * (depths[:, 0] - depths[:, layer])[:, None, None]
        total += part.mul_(phasor(phase)[:, None, :, :, None])
    return total


@lru_cache(maxsize=16)
def cosine_basis(size: int, binning: int = 1) -> Tensor:
    """Orthonormal DCT-II matrix, rows are frequencies, columns pixels; float32.

    (size, size / binning), at the centres of pixels ``binning`` times as wide.
    """
    k, n = np.arange(size)[:, None], binning * (np.arange(size // binning) + 0.5)
    basis = np.cos(np.pi * k * n / size) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return torch.from_numpy(basis.astype(np.float32))


def box_transfer(size: int, width_px: float) -> Tensor:
    """Transfer of a box blur at the DCT frequencies; float32 (size,)."""
    return torch.sinc(torch.arange(size, dtype=torch.float32) * (width_px / (2 * size)))


def defocus_blur(grid: ImagingGrid, depths_um: Tensor) -> Tensor:
    """Blur that completes the source for particles at these (B,) depths; float32 (B, N, N)."""
    shift = depths_um.abs() * (grid.source_step * grid.wavelength_um / grid.medium_index)
    return source_blur(grid.weights, grid.disc, shift / grid.pixel_um, grid.num_pixels)


def filter_image(images: Tensor, transfer: Tensor, binning: int = 1) -> Tensor:
    """Multiply the images' cosine spectra; (..., N, N) -> (..., N / binning, N / binning).

    A DCT mirrors the window at its borders, so nothing wraps around. The filtered light is read at
    the centres of the coarser pixels: ``transfer`` has their area.
    """
    basis = cosine_basis(images.shape[-1]).to(images.device)
    seen = cosine_basis(images.shape[-1], binning).to(images.device)
    return seen.T @ ((basis @ images @ basis.T) * transfer.to(images.device)) @ seen
