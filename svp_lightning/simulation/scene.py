"""What is in front of the microscope: spheres or phase screens, as spectra."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svp_lightning.simulation.lattice import ImagingGrid, phasor
from svp_lightning.simulation.mie import (
    MAX_SINE,
    RADII_UM,
    interpolated,
    nearest_radius,
    sphere_spectrum,
)


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
        """Distance from each layer to the plane in focus."""
        return tuple(sphere.z_um for sphere in self.spheres)

    def moved(self, dx: float, dy: float) -> "Spheres":
        moved = (replace(s, x_um=s.x_um + dx, y_um=s.y_um + dy) for s in self.spheres)
        return Spheres(tuple(moved))

    def scaled(self, size: float, depths_um: tuple[float, ...]) -> "Spheres":
        """``size`` times as large, at these depths."""
        scaled = (
            replace(s, radius_um=s.radius_um * size, x_um=s.x_um * size, y_um=s.y_um * size, z_um=z)
            for s, z in zip(self.spheres, depths_um, strict=True)
        )
        return Spheres(tuple(scaled))


@dataclass(frozen=True)
class PhaseScreens:
    """Two thin phase objects behind one another (the halves of an aggregate).

    ``front`` and ``back`` are complex64 (H, W), transmission minus 1; ``back`` is already
    multiplied by the transmission of ``front``. (x_um, y_um) is the grid's first point, ``step_um``
    its spacing; ``depths_um`` are the distances from each half to the plane in focus.
    """

    front: NDArray[np.complex64]
    back: NDArray[np.complex64]
    step_um: float
    x_um: float
    y_um: float
    depths_um: tuple[float, ...]

    def moved(self, dx: float, dy: float) -> "PhaseScreens":
        return replace(self, x_um=self.x_um + dx, y_um=self.y_um + dy)

    def scaled(self, size: float, depths_um: tuple[float, ...]) -> "PhaseScreens":
        """``size`` times as large, at these depths."""
        step, x, y = self.step_um * size, self.x_um * size, self.y_um * size
        return replace(self, step_um=step, x_um=x, y_um=y, depths_um=depths_um)


@dataclass(frozen=True)
class Together:
    """Two independent particles in one window; multiple scattering is left out.

    The window is centred on ``main``; (x_um, y_um) leads from the neighbour's origin to the
    window's.
    """

    main: Spheres | PhaseScreens
    other: Spheres | PhaseScreens
    x_um: float
    y_um: float

    @property
    def depths_um(self) -> tuple[float, ...]:
        """Distance from each layer to the plane in focus."""
        return self.main.depths_um + self.other.depths_um

    def moved(self, dx: float, dy: float) -> "Together":
        """Both: the neighbour's offset is relative to the main particle."""
        return replace(self, main=self.main.moved(dx, dy), other=self.other.moved(dx, dy))


Layers = Spheres | PhaseScreens | Together
"""Something that scatters, in one or more planes of its own depth."""


def kind(scene: Layers) -> str:
    """Scenes of one kind can be imaged in one batch."""
    if isinstance(scene, Together):
        return f"{kind(scene.main)} + {kind(scene.other)}"
    return f"{type(scene).__name__} {len(scene.depths_um)}"


def scene_spectra(scenes: Sequence[Layers], grid: ImagingGrid, device: torch.device) -> Tensor:
    """Scattered spectra of B scenes of one kind, um^2.

    complex64 (B, L, M, M) with M = K + 2 margin, rows along y.
    """
    f = grid.frequencies(grid.margin).to(device)
    spheres = [scene.spheres for scene in scenes if isinstance(scene, Spheres)]
    if spheres:
        return _sphere_spectra(grid, f, spheres)
    screens = [scene for scene in scenes if isinstance(scene, PhaseScreens)]
    if screens:
        return _screen_spectra(f, screens)
    pairs = [scene for scene in scenes if isinstance(scene, Together)]
    main = scene_spectra([pair.main for pair in pairs], grid, device)
    other = scene_spectra([pair.other for pair in pairs], grid, device)
    place = torch.tensor([[(pair.x_um, pair.y_um)] for pair in pairs], device=device)
    return torch.cat([main, other * _ramp(f, place)], dim=1)


def _sphere_spectra(grid: ImagingGrid, f: Tensor, scenes: Sequence[tuple[Sphere, ...]]) -> Tensor:
    """Look the spheres' spectra up at |f| and shift them into place; complex64 (B, L, M, M)."""
    medium, wavelength = grid.medium_index, grid.wavelength_um
    rows = torch.stack(
        [
            sphere_spectrum(nearest_radius(sphere.radius_um), sphere.index, medium, wavelength)
            for spheres in scenes
            for sphere in spheres
        ]
    ).to(f.device)
    last = rows.shape[1] - 1
    shapes = [_metric(sphere) for spheres in scenes for sphere in spheres]
    metric = torch.tensor(shapes, device=f.device)[:, :, None, None]
    g = f * (wavelength / medium / MAX_SINE * last)
    squared = metric[:, 0] * g.square() + metric[:, 1] * g.square()[:, None]
    squared = squared + metric[:, 2] * torch.outer(g, g)
    values = interpolated(rows, squared.clamp(min=0).sqrt())
    place = [[(sphere.x_um, sphere.y_um) for sphere in spheres] for spheres in scenes]
    ramp = _ramp(f, torch.tensor(place, device=f.device))
    return values.view(len(scenes), -1, f.numel(), f.numel()) * ramp


def _metric(sphere: Sphere) -> tuple[float, float, float]:
    """Quadratic form (xx, yy, 2 xy) that takes f to where the round sphere's spectrum is read."""
    c, s = math.cos(sphere.angle), math.sin(sphere.angle)
    long, short = (1 + sphere.stretch / 2) ** 2, (1 - sphere.stretch / 2) ** 2
    return long * c * c + short * s * s, long * s * s + short * c * c, 2 * (long - short) * c * s


def _ramp(f: Tensor, place_um: Tensor) -> Tensor:
    """Phase that moves layers to (B, L, 2) positions (x, y); complex64 (B, L, M, M)."""
    phase = -2 * math.pi * place_um.float()[..., None] * f
    ramp = phasor(phase)
    return ramp[:, :, 0, None, :] * ramp[:, :, 1, :, None]


def _screen_spectra(f: Tensor, scenes: Sequence[PhaseScreens]) -> Tensor:
    """Matrix DFT of the screens, padded to the largest; complex64 (B, 2, M, M)."""
    height = max(scene.front.shape[0] for scene in scenes)
    width = max(scene.front.shape[1] for scene in scenes)
    padded = np.zeros((len(scenes), 2, height, width), np.complex64)
    for row, scene in zip(padded, scenes, strict=True):
        h, w = scene.front.shape
        row[0, :h, :w], row[1, :h, :w] = scene.front, scene.back
    step = torch.tensor([scene.step_um for scene in scenes], device=f.device)
    to_fy = _forward_dft(f, [scene.y_um for scene in scenes], step, height)
    to_fx = _forward_dft(f, [scene.x_um for scene in scenes], step, width)
    screens = torch.from_numpy(padded).to(f.device)
    return to_fy @ (screens @ to_fx.mT)


def _forward_dft(f: Tensor, start_um: list[float], step_um: Tensor, count: int) -> Tensor:
    """complex64 (B, 1, M, count): exp(-2 pi i f x) dx."""
    steps = torch.arange(count, dtype=torch.float32, device=f.device)
    x = torch.tensor(start_um, device=f.device)[:, None] + step_um[:, None] * steps
    phase = -2 * math.pi * f[:, None] * x[:, None, None, :]
    return torch.polar(step_um[:, None, None, None].expand_as(phase), phase)


def magnified(
    particle: Particle,
    scene: Spheres | PhaseScreens,
    size: float,
    depth: float,
    medium_index: float,
) -> tuple[Particle, Spheres | PhaseScreens]:
    """The same particle ``size`` times as large and ``depth`` times as far from focus.

    Parts of one particle keep their distances relative to its size. An aggregate keeps its
    phase, hence its refractive index approaches the medium's as it grows: aggregates become
    less dense with size.
    """
    if size == depth == 1:
        return particle, scene
    centre = particle.defocus_um
    depths = tuple(centre * depth + (z - centre) * size for z in scene.depths_um)
    index = particle.refractive_index
    if isinstance(scene, PhaseScreens):
        index = medium_index + (index - medium_index) / size
    grown = replace(
        particle,
        radius_um=particle.radius_um * size,
        ecd_um=particle.ecd_um * size,
        defocus_um=centre * depth,
        refractive_index=index,
    )
    return grown, scene.scaled(size, depths)


def mean_depth_um(scene: Layers) -> float:
    """Of the particle that the window is centred on."""
    main = scene.main if isinstance(scene, Together) else scene
    return float(np.mean(main.depths_um))


def centred(scene: Layers, tilt: tuple[float, float], medium_index: float) -> Layers:
    """Undo the shift of a defocused image under oblique light.

    Light tilted by a numerical aperture ``t`` (x, y) moves the image of a particle at depth ``z``
    by ``z t / n``; the instrument cuts its crop where the image is, not where the particle is.
    """
    depth = mean_depth_um(scene) / medium_index
    return scene.moved(-depth * tilt[0], -depth * tilt[1])
