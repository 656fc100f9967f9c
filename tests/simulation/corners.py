"""The hardest spheres of today's priors: extremes of what they draw, at the ends of the optics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from svp_lightning.simulation.lattice import ImagingGrid, lattice_side_at
from svp_lightning.simulation.particles import draw_air, draw_oil
from svp_lightning.simulation.scene import Sphere, Spheres
from svp_lightning.simulation.settings import SimulationSettings

MEDIUM = 1.338
DRAWS = 400


@dataclass(frozen=True)
class Corner:
    """One sphere under one microscope."""

    settings: SimulationSettings
    radius: float
    index: float
    z: float
    objective_na: float
    condenser_na: float

    def __str__(self) -> str:
        name = self.settings.instrument.name.replace(" ", "_")
        na = f"{self.objective_na:g}-{self.condenser_na:g}"
        return f"{name}-R{self.radius:.2f}-n{self.index:g}-z{self.z:.1f}-NA{na}"

    @property
    def pixel_um(self) -> float:
        return self.settings.instrument.field_of_view_um / 64

    def grid(self) -> ImagingGrid:
        """The lattice the simulator takes for this depth, where 25 points are asked for."""
        least = ImagingGrid(
            objective_na=self.objective_na,
            condenser_na=self.condenser_na,
            wavelength_um=self.settings.optics.wavelength_um,
            medium_index=MEDIUM,
            num_pixels=64,
            pixel_um=self.pixel_um,
            lattice_side=5,
        )
        return replace(least, lattice_side=max(5, lattice_side_at(least, self.z)))


def corners(settings: SimulationSettings) -> list[Corner]:
    """Both sides of the focus, oil and air, small and large, near and far.

    Also, for each lattice the rule chooses, the droplet for which it is barely fine enough and
    the one with the least contrast (furthest away in radii), at the widest condenser.
    """
    objective, condenser = settings.optics.objective_na, settings.optics.condenser_na
    oil = _drawn(settings, lambda rng, scale: draw_oil(rng, scale)[1])
    air = _drawn(
        settings, lambda rng, scale: draw_air(rng, scale, settings.air_indices, 0.0, 1.0)[1]
    )
    found = []
    for number, spheres in enumerate(
        ([s for s in oil if s.z_um > 0], [s for s in oil if s.z_um < 0], air)
    ):
        for place, sphere in enumerate(_extremes(spheres)):
            pair = objective[(place + number) % 2], condenser[place // 2 % 2]
            found += [_corner(settings, sphere, *pair)]
    hardest = [
        _corner(settings, sphere, end, condenser[1])
        for sphere in oil
        for end in objective
        if sphere.z_um > 0
    ]
    for side in {corner.grid().lattice_side for corner in hardest}:
        same = [corner for corner in hardest if corner.grid().lattice_side == side]
        found.append(max(same, key=lambda corner: corner.z))
        found.append(max(same, key=lambda corner: corner.z / corner.radius))
    return found


def _drawn(
    settings: SimulationSettings, draw: Callable[[np.random.Generator, float], object]
) -> list[Sphere]:
    """The main sphere of many particles as this instrument sees them."""
    rng, spheres = np.random.default_rng(0), []
    size, depth = settings.instrument.size_scale, settings.instrument.depth_scale
    for _ in range(DRAWS):
        scene = draw(rng, float(rng.uniform(*settings.optics.pixel_scale)) ** 1.5)
        assert isinstance(scene, Spheres)
        main = scene.spheres[0]
        spheres.append(Sphere(main.radius_um * size, main.index, 0.0, 0.0, main.z_um * depth))
    return spheres


def _extremes(spheres: Sequence[Sphere]) -> list[Sphere]:
    """Smallest, largest, nearest to and furthest from the focus."""
    by_radius = sorted(spheres, key=lambda sphere: sphere.radius_um)
    by_depth = sorted(spheres, key=lambda sphere: abs(sphere.z_um))
    return [by_radius[0], by_radius[-1], by_depth[0], by_depth[-1]]


def _corner(
    settings: SimulationSettings, sphere: Sphere, objective_na: float, condenser_na: float
) -> Corner:
    return Corner(settings, sphere.radius_um, sphere.index, sphere.z_um, objective_na, condenser_na)
