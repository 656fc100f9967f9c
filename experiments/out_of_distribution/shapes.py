"""Particles that no class is trained on, imaged by the simulator's own optics and camera.

A cellulose fibre, a red blood cell and a glass splinter: thin phase objects near the focus, of
sizes and refractive indices from the literature. Optics, sensor, noise and runs are those of the
classes' own images, so that nothing but the shape is new.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from svp_lightning.simulation.draw import Draw
from svp_lightning.simulation.scene import Particle, PhaseScreens, centred
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.simulator import Simulator

STEP_UM = 0.12
HALF_UM = 11.0
"""Half the side of a map; the window of the 10X microscope is 16.6 um wide."""
FIRST_SESSION = 2 * 10**6
"""Of the test runs of a simulated store."""
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Body:
    """Thickness in um, refractive index over the medium's, absorption per um."""

    thickness_um: Map
    contrast: float
    absorption: float


def _grid() -> tuple[Map, Map]:
    line = np.arange(-HALF_UM, HALF_UM, STEP_UM, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    return x, y


def fibre(rng: np.random.Generator) -> Body:
    """A long curved cylinder that leaves the window on both sides; cellulose, n = 1.47 to 1.58."""
    x, y = _grid()
    turn, radius = rng.uniform(0, 2 * math.pi), rng.uniform(0.8, 2.0)
    t = np.linspace(-1, 1, 400)
    along = 14 * t
    across = rng.normal(0, 2.5) * t**2 + rng.normal(0, 2.0) * t**3 + rng.normal(0, 1.0)
    px = along * math.cos(turn) - across * math.sin(turn)
    py = along * math.sin(turn) + across * math.cos(turn)
    away, _ = cKDTree(np.stack([px, py], axis=1)).query(np.stack([x, y], axis=-1))
    chord = 2 * np.sqrt(np.maximum(radius**2 - away**2, 0))
    return Body(chord.astype(np.float32), rng.uniform(0.13, 0.24), rng.uniform(0.0, 0.02))


def cell(rng: np.random.Generator) -> Body:
    """A red blood cell, seen from above: a ring around a dimple (Evans and Fung 1972)."""
    x, y = _grid()
    radius = 3.91 * rng.uniform(0.8, 1.15)
    stretch, turn = rng.uniform(0.8, 1.0), rng.uniform(0, math.pi)
    u = (math.cos(turn) * x + math.sin(turn) * y) / radius
    v = (-math.sin(turn) * x + math.cos(turn) * y) / radius / stretch
    rho = u * u + v * v
    depth = np.sqrt(np.maximum(1 - rho, 0)) * (0.81 + 7.83 * rho - 4.39 * rho * rho)
    return Body(depth.astype(np.float32), rng.uniform(0.05, 0.07), rng.uniform(0.05, 0.15))


def shard(rng: np.random.Generator) -> Body:
    """A convex splinter with straight edges and flat faces; glass, n = 1.47 to 1.54."""
    x, y = _grid()
    corners = rng.integers(3, 7)
    angles = np.sort((np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) / corners)
    size, squeeze = rng.uniform(2.0, 6.0), rng.uniform(0.35, 1.0)
    px = size * np.cos(2 * math.pi * angles)
    py = size * squeeze * np.sin(2 * math.pi * angles)
    turn = rng.uniform(0, 2 * math.pi)
    px, py = px * math.cos(turn) - py * math.sin(turn), px * math.sin(turn) + py * math.cos(turn)
    inside = np.full(x.shape, np.inf, np.float32)
    for k in range(corners):
        ex, ey = px[k] - px[k - 1], py[k] - py[k - 1]
        inside = np.minimum(inside, (ex * (y - py[k]) - ey * (x - px[k])) / math.hypot(ex, ey))
    wedge = 1 + (rng.normal(0, 0.08) * x + rng.normal(0, 0.08) * y)
    depth = np.minimum(np.maximum(inside, 0) * 2.0, rng.uniform(0.6, 3.0)) * np.clip(wedge, 0.3, 2)
    return Body(depth.astype(np.float32), rng.uniform(0.13, 0.2), 0.0)


SHAPES: dict[str, Callable[[np.random.Generator], Body]] = {
    "fibre": fibre,
    "cell": cell,
    "shard": shard,
}


def images_of(
    name: str, settings: SimulationSettings, image_size: int, count: int, seed: int
) -> NDArray[np.uint8]:
    """(count, image_size, image_size) images of one shape, spread over the test runs."""
    simulator = Simulator(settings, image_size, seed)
    sessions = FIRST_SESSION + np.arange(count) % settings.sessions_per_split.test
    numbers = 5 * 10**9 + np.arange(count)
    stand_ins = ["protein"] * count
    drawn = [
        _replaced(draw, name, simulator, int(session), np.random.default_rng([seed, k]))
        for k, (draw, session) in enumerate(
            zip(simulator.draw(stand_ins, numbers, sessions), sessions, strict=True)
        )
    ]
    images, table = simulator.render(stand_ins, numbers, sessions, drawn=drawn)
    found = (table["morphology"] == name).to_numpy()  # a shape too faint is drawn as protein
    return np.asarray(images[found])


def _replaced(
    draw: Draw, name: str, simulator: Simulator, number: int, rng: np.random.Generator
) -> Draw:
    """The same recording with another particle in front of the microscope."""
    grid = simulator._session(number).grid
    body = SHAPES[name](rng)
    phase = 2 * math.pi / grid.wavelength_um * body.contrast * body.thickness_um
    passed = np.exp(1j * phase - body.absorption * body.thickness_um).astype(np.complex64)
    z = float(rng.uniform(-9, 9))
    start = -(body.thickness_um.shape[0] - 1) / 2 * STEP_UM
    screens = PhaseScreens(passed - 1, np.zeros_like(passed), STEP_UM, start, start, (z, z))
    ecd = 2 * math.sqrt(np.count_nonzero(body.thickness_um) * STEP_UM**2 / math.pi)
    particle = Particle(name, ecd / 2, ecd, z, grid.medium_index + body.contrast)
    scene = centred(screens, draw.tilt, grid.medium_index)
    return replace(draw, particle=particle, scene=scene)
