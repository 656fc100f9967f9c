"""The condenser's points and the frequencies of an image, on one lattice."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from svp_lightning.simulation.source import DIAMOND_WIDTH, source_weights

GHOST_MARGIN = 0.69
"""Least distance from the ghost of a centred particle to the window's edge, over the window's
width; its defocused light then adds less than 0.3 % of the contrast up to z = 3 widths."""

_DROPLET_NA = 0.13
"""Aperture of an oil droplet as a lens (n = 1.403 in 1.338: focal length 10.8 R)."""
_BEHIND = 0.9
"""How far a depth behind the focus counts, over one in front of it."""
_POINTS_ALONG = ((1.4, 5), (2.2, 7), (2.7, 9), (2.86, 13), (math.inf, 21))
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

    @cached_property
    def dense_weights(self) -> Tensor:
        """float32 (D, D), D odd: share of the condenser of each frequency, as far as the pupil."""
        whole = source_weights(self.spacing * self.lattice_side, self.disc)
        cut = max(0, whole.shape[0] - self.size) // 2
        return whole[cut : whole.shape[0] - cut, cut : whole.shape[0] - cut]

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
        """complex64 (N, M) matrix of the DFT from frequencies to pixels."""
        return phasor(2 * math.pi * torch.outer(self.positions(), self.frequencies(self.margin)))


def phasor(phase: Tensor) -> Tensor:
    """exp(i phase), complex64."""
    return torch.polar(torch.ones_like(phase), phase)


def lattice_side_at(grid: ImagingGrid, depth_um: float) -> int:
    """Source points along one side that keep an image within 2 % RMS of its contrast.

    In front of the focus (z > 0) an oil droplet is a lens that projects the source: its
    image is 2 z NA_c / n_m wide, and the droplet's own small aperture limits how fine it is.
    The lattice must be about as fine, and a little less behind the focus. Thresholds are measured
    against a dense source (tests/simulation/test_accuracy.py), where it is hardest: at 14 to
    15 radii from the focus a droplet's bright centre is spread out and little contrast is left.
    """
    aperture = min(_DROPLET_NA, grid.objective_na)
    reach = depth_um if depth_um > 0 else -_BEHIND * depth_um
    spots = 2 * reach * grid.condenser_na * aperture / grid.wavelength_um / grid.medium_index
    return next(side for most, side in _POINTS_ALONG if spots <= most)
