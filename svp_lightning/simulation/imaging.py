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
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from svp_lightning.simulation.source import DIAMOND_WIDTH, source_blur, source_weights

GHOST_MARGIN = 0.69
"""Least distance from the ghost of a centred particle to the window's edge, over the window's
width; its defocused light then adds less than 0.3 % of the contrast up to z = 3 widths."""

_DROPLET_NA = 0.13
"""Aperture of an oil droplet as a lens (n = 1.403 in 1.338: focal length 10.8 R)."""
_BEHIND = 0.9
"""How far a depth behind the focus counts, over one in front of it."""
_HALO_UM = 4.0
"""How far from its middle a particle scatters light strong enough to draw fringes."""
_POINTS_ALONG = ((1.66, 5), (2.16, 7), (2.7, 9), (2.9, 11), (math.inf, 13))
"""Resolution lengths across the image of the source -> source points along one side."""


@dataclass(frozen=True)
class Microscope:
    """Apertures of objective and condenser, wavelength in vacuum, index around the particle."""

    objective_na: float
    condenser_na: float
    wavelength_um: float
    medium_index: float


@dataclass(frozen=True, kw_only=True)
class ImagingGrid(Microscope):
    """Frequencies, source points and pixels shared by the images of a session.

    Frequencies are laid out so that source points fall on them and ghosts stay outside. The camera
    window has ``num_pixels`` along one side, the source ``lattice_side`` points (odd); it is a disc
    or a diamond as wide. ``margin_um``: from the window's edge to the ghost; None:
    :data:`GHOST_MARGIN` windows.
    """

    num_pixels: int
    pixel_um: float
    lattice_side: int
    disc: bool = True
    margin_um: float | None = None

    @cached_property
    def source_step(self) -> float:
        """Distance of neighbouring source points, 1/um."""
        width = 2 if self.disc else DIAMOND_WIDTH
        return width * self.condenser_na / self.wavelength_um / self.lattice_side

    @cached_property
    def spacing(self) -> int:
        """d, distance of neighbouring source points in frequency samples."""
        window = self.num_pixels * self.pixel_um
        margin = GHOST_MARGIN * window if self.margin_um is None else self.margin_um
        return max(1, math.ceil(self.source_step * (window / 2 + margin)))

    @cached_property
    def step(self) -> float:
        """Distance of neighbouring frequencies, 1/um."""
        return self.source_step / self.spacing

    @cached_property
    def size(self) -> int:
        """K, frequencies along one side of the pupil box (odd)."""
        return 2 * math.ceil(self.objective_na / self.wavelength_um / self.step) + 1

    @cached_property
    def weights(self) -> Tensor:
        """float32 (S, S) share of the condenser of each source point, sum 1."""
        return source_weights(self.lattice_side, self.disc)

    @property
    def margin(self) -> int:
        """Samples the object's spectrum extends beyond the pupil box on each side."""
        return self.spacing * (self.lattice_side - 1) // 2

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
        return phasor(2 * math.pi * torch.outer(self.positions(), self.frequencies()))


def phasor(phase: Tensor) -> Tensor:
    """exp(i phase), complex64."""
    return torch.polar(torch.ones_like(phase), phase)


def lattice_side_at(grid: ImagingGrid, depth_um: float) -> int:
    """Source points along one side that keep an image within 2 % RMS of its contrast.

    Light from a lattice of points is coherent again one over their distance away, where what a
    particle scatters would draw fringes into the empty field: this lies outside the window.

    In front of the focus (z > 0) an oil droplet is a lens that projects the source: its
    image is 2 z NA_c / n_m wide, and the droplet's own small aperture limits how fine it is.
    The lattice must be about as fine, and a little less behind the focus. Thresholds are measured
    against a dense source (tests/simulation/test_accuracy.py), where it is hardest: at 14 to
    15 radii from the focus a droplet's bright centre is spread out and little contrast is left.
    """
    aperture = min(_DROPLET_NA, grid.objective_na)
    reach = depth_um if depth_um > 0 else -_BEHIND * depth_um
    spots = 2 * reach * grid.condenser_na * aperture / grid.wavelength_um / grid.medium_index
    edge = grid.num_pixels * grid.pixel_um / 2 + _HALO_UM
    least = edge * grid.source_step * grid.lattice_side
    return max(
        next(side for most, side in _POINTS_ALONG if spots <= most),
        2 * math.ceil((least - 1) / 2) + 1,
    )


@dataclass(frozen=True)
class Pupil:
    """The objective of B images, on each one's (possibly tilted) K x K lattice."""

    transmission: Tensor
    """complex64 (B, K, K): amplitude and aberrations."""
    k_z: Tensor
    """float32 (B, K, K): axial wave number relative to the axis, rad/um."""

    def through(self, depths: Tensor) -> Tensor:
        """Objective and defocus (B,); complex64 (B, K, K)."""
        return self.transmission * phasor(self.k_z * depths[:, None, None])


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
    grid: ImagingGrid, lens: Pupil, spectra: Tensor, depths: Tensor, dft: Tensor
) -> Tensor:
    """Images of layers, float32 (B, N, N), background 1, not yet blurred by source patches.

    Args:
        grid: the session's lattice.
        lens: the images' pupils.
        spectra: complex64 (B, L, K + 2 margin, K + 2 margin), rows along y: F of each layer, um^2.
        depths: float32 (B, L) distance z from each layer to the plane in focus, um; positive
            where the light has passed the particle before the plane.
        dft: complex64 (N, K) from :meth:`ImagingGrid.to_pixels`.
    """
    fields, weights = _source_fields(grid, lens, spectra, depths)
    count, size, n, points = len(spectra), grid.size, grid.num_pixels, weights.shape[1]
    rows = (fields.view(-1, size) @ dft.T).view(count, size, points * n)
    seen = torch.view_as_real(dft @ rows).view(count, n, points, 2 * n)
    return (weights[:, None, None] @ seen.square_()).view(count, n, n, 2).sum(-1)


def _source_fields(
    grid: ImagingGrid, lens: Pupil, spectra: Tensor, depths: Tensor
) -> tuple[Tensor, Tensor]:
    """Pupil-plane fields (B, K, S, S, K) of all source points, and weights (B, S * S).

    Source points run backwards along both axes: F(f - f_s) looks further left for larger f_s,
    so that the windows of ``spectra`` come out in this order without a copy.
    """
    keep, spacing, side = grid.size, grid.spacing, grid.lattice_side
    source = torch.arange(side, device=spectra.device)
    place = keep // 2 - spacing * (source - side // 2)
    row, column = place[:, None], place
    windows = spectra.unfold(2, keep, spacing).unfold(3, keep, spacing).permute(1, 0, 4, 2, 3, 5)
    total = torch.empty(windows.shape[1:], dtype=spectra.dtype, device=spectra.device)
    torch.mul(windows[0], lens.through(depths[:, 0])[:, :, None, None], out=total)
    axial = lens.k_z[:, row, column]
    # Fields are referred to the first layer's phase, in which the unscattered wave has k_z z.
    for layer in range(1, len(windows)):
        part = windows[layer] * lens.through(depths[:, layer])[:, :, None, None]
        phase = axial * (depths[:, 0] - depths[:, layer])[:, None, None]
        total += part.mul_(phasor(phase)[:, None, :, :, None])
    phase = axial * depths[:, :1, None]
    wave = torch.polar(torch.full_like(phase, 1 / grid.step**2), phase)
    wave = wave * lens.transmission[:, row, column]
    total[:, row, source[:, None], source, column] += wave
    weights = grid.weights.to(spectra.device).flip(0, 1).reshape(1, -1)
    power = (weights * wave.abs().square().flatten(1)).sum(1, keepdim=True)
    return total, weights / power


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
