"""What stands in front of the microscope: spheres or phase screens, as spectra."""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svp_lightning.simulation.imaging import ImagingGrid
from svp_lightning.simulation.mie import MAX_SINE, RADII_UM, mie_table, nearest_radius


@dataclass(frozen=True)
class Particle:
    """The physical columns of one image."""

    morphology: str
    radius_um: float
    """Of the sphere, or half the equivalent circular diameter."""
    ecd_um: float
    """Diameter of the disc with the area of the particle's silhouette."""
    defocus_um: float
    """From the particle's centre to the plane in focus."""
    refractive_index: float


class Layers(Protocol):
    """Something that scatters, in one or more planes of its own depth."""

    def spectra(self, grid: ImagingGrid, device: torch.device) -> Tensor:
        """complex64 (L, K + 2 margin, K + 2 margin), um^2."""
        ...

    @property
    def depths_um(self) -> tuple[float, ...]:
        """Distance from each layer to the plane in focus."""
        ...


@dataclass(frozen=True)
class Sphere:
    """A sphere, or an ellipsoid close to one (same optical path, stretched outline)."""

    radius_um: float
    index: float
    x_um: float
    y_um: float
    z_um: float
    stretch: float = 0.0
    """Relative elongation of one transverse axis over the other."""
    angle: float = 0.0

    @property
    def tabulated_radius_um(self) -> float:
        return float(RADII_UM[nearest_radius(self.radius_um)])


@dataclass(frozen=True)
class Spheres:
    """One layer per sphere, each at its own depth; multiple scattering is left out."""

    spheres: tuple[Sphere, ...]

    @property
    def depths_um(self) -> tuple[float, ...]:
        return tuple(sphere.z_um for sphere in self.spheres)

    def spectra(self, grid: ImagingGrid, device: torch.device) -> Tensor:
        f = grid.frequencies(grid.margin).to(device)
        return torch.stack([_sphere_spectrum(grid, f, sphere) for sphere in self.spheres])


def _sphere_spectrum(grid: ImagingGrid, f: Tensor, sphere: Sphere) -> Tensor:
    """Look the sphere's spectrum up at |f| and shift it into place; complex64 (M, M)."""
    table = mie_table(sphere.index, grid.medium_index, grid.wavelength_um).spectra
    row = table[nearest_radius(sphere.radius_um)].to(f.device)
    c, s = math.cos(sphere.angle), math.sin(sphere.angle)
    long, short = (1 + sphere.stretch / 2) ** 2, (1 - sphere.stretch / 2) ** 2
    xx, yy = long * c * c + short * s * s, long * s * s + short * c * c
    xy = 2 * (long - short) * c * s
    scale = grid.wavelength_um / grid.medium_index / MAX_SINE * (row.numel() - 1)
    g = f * scale
    squared = xx * g.square() + yy * g.square()[:, None] + xy * torch.outer(g, g)
    position = squared.clamp(min=0).sqrt().clamp(max=row.numel() - 1.001)
    below = position.to(torch.int32)
    values = torch.lerp(row[below], row[below + 1], (position - below).to(row.dtype))
    ramp_x = torch.polar(torch.ones_like(f), -2 * math.pi * sphere.x_um * f)
    ramp_y = torch.polar(torch.ones_like(f), -2 * math.pi * sphere.y_um * f)
    return values * ramp_x * ramp_y[:, None]


@dataclass(frozen=True)
class PhaseScreens:
    """Two thin phase objects behind one another (the halves of an aggregate).

    Attributes:
        front, back: complex64 (H, W) transmission minus 1 of the halves; ``back`` is already
            multiplied by the transmission of ``front``.
        step_um: grid distance.
        x_um, y_um: position of the grid's first point.
        depths_um: distance from each half to the plane in focus.
    """

    front: NDArray[np.complex64]
    back: NDArray[np.complex64]
    step_um: float
    x_um: float
    y_um: float
    depths_um: tuple[float, ...] = field(default=(0.0, 0.0))

    def spectra(self, grid: ImagingGrid, device: torch.device) -> Tensor:
        f = grid.frequencies(grid.margin).to(device)
        height, width = self.front.shape
        to_fy = _forward_dft(f, self.y_um, self.step_um, height)
        to_fx = _forward_dft(f, self.x_um, self.step_um, width)
        screens = torch.from_numpy(np.stack([self.front, self.back])).to(device)
        return to_fy @ (screens @ to_fx.T)


def _forward_dft(f: Tensor, start_um: float, step_um: float, count: int) -> Tensor:
    """complex64 (M, count): exp(-2 pi i f x) dx."""
    x = start_um + step_um * torch.arange(count, dtype=torch.float32, device=f.device)
    phase = -2 * math.pi * torch.outer(f, x)
    return torch.polar(torch.full_like(phase, step_um), phase)
