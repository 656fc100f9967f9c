"""Image i of a class as a pure function of (settings, image size, seed, class, i, session)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache, lru_cache, partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from svp_lightning.simulation.camera import cut_box, detected, expose, record
from svp_lightning.simulation.draw import NEIGHBOUR_AT, Draw, draw_image
from svp_lightning.simulation.imaging import abbe_intensity, pupil
from svp_lightning.simulation.large_bubble import LargeBubble, nominal_optics
from svp_lightning.simulation.lattice import GHOST_MARGIN, ImagingGrid, lattice_side_at
from svp_lightning.simulation.scene import Together, kind, mean_depth_um, scene_spectra
from svp_lightning.simulation.session import Session, draw_session
from svp_lightning.simulation.settings import SimulationSettings

MAX_ATTEMPTS = 12
"""Particles a counter would miss are drawn again; the last attempt is kept whatever it is."""

ACCELERATOR_BATCH = 256
"""Images of 25 source points imaged together on a GPU (about 1 GB), fewer of more. A CPU core is
fastest with one at a time."""

_PREVIEW_SIDE = 3
Lattice = tuple[ImagingGrid, Tensor]
"""Frequencies and source points, and the DFT from frequencies to pixels."""


class Simulator:
    """Renders flow-imaging images of single particles, a function of ``seed`` each.

    ``image_size`` is a multiple of 16 in 16..128; the field of view is the instrument's at any
    size. ``seed`` is not negative.
    """

    def __init__(self, settings: SimulationSettings, image_size: int, seed: int) -> None:
        self.settings = settings
        self.image_size = image_size
        self.seed = seed
        self._bubble_optics = nominal_optics(settings.optics)
        self._window = lru_cache(maxsize=64)(
            lambda number: draw_session(settings, image_size, seed, number)
        )
        # Large bubbles are not cut out of a field: most are larger than it.
        self._session = self._window
        if settings.crop == "box":
            self._session = lru_cache(maxsize=64)(
                lambda number: draw_session(settings, image_size, seed, number, field=True)
            )
        self._lattice = lru_cache(maxsize=256)(self._make_lattice)

    @property
    def pixel_size_um(self) -> float | None:
        """Nominal size of a pixel, from which sessions differ by a few percent; None for boxes."""
        if self.settings.crop == "box":
            return None
        return self.settings.instrument.field_of_view_um / self.image_size

    def draw(
        self,
        class_names: Sequence[str],
        indices: NDArray[np.int64],
        sessions: NDArray[np.int64],
        attempt: int = 0,
    ) -> list[Draw]:
        """What chance decides about n images (see :meth:`render`), without any optics."""
        return [
            draw_image(
                self.settings,
                self._session(int(session)),
                self._window(int(session)),
                (self.seed, name, int(index), attempt),
            )
            for name, index, session in zip(class_names, indices, sessions, strict=True)
        ]

    def render(
        self,
        class_names: Sequence[str],
        indices: NDArray[np.int64],
        sessions: NDArray[np.int64],
        device: str | torch.device = "cpu",
        batch_size: int | None = None,
        drawn: Sequence[Draw] | None = None,
    ) -> tuple[NDArray[np.uint8], pd.DataFrame]:
        """Render n images, each by its class, its number within the class and its session.

        On a CPU each image has the same bits whatever the call it is part of. On another device, or
        with another ``batch_size``, single grey levels may differ.

        Args:
            class_names: n of the paper's class names.
            indices: (n,), >= 0.
            sessions: (n,), >= 0.
            device: where the optics are computed.
            batch_size: images of one session imaged together, fewer where a droplet takes more
                source points; None: 1 on a CPU, 256 elsewhere.
            drawn: what :meth:`draw` returned for these images, in whatever process.

        Returns:
            uint8 (n, image_size, image_size), and a table of n rows with the columns
            ``morphology, radius_um, ecd_um, defocus_um, refractive_index, pixel_um``.
        """
        device = torch.device(device)
        if batch_size is None:
            batch_size = 1 if device.type == "cpu" else ACCELERATOR_BATCH
        instrument = self.settings.instrument
        images = np.empty((len(class_names), self.image_size, self.image_size), np.uint8)
        rows: dict[int, dict[str, object]] = {}
        pending = list(range(len(class_names)))
        with torch.inference_mode(), one_thread():
            for attempt in range(MAX_ATTEMPTS):
                if attempt or drawn is None:
                    names = [class_names[row] for row in pending]
                    drawn = self.draw(names, indices[pending], sessions[pending], attempt)
                missed: list[int] = []
                batches = self._batches(drawn, sessions[pending], batch_size)
                for session, lattice, chosen in batches:
                    light = self._light(session, lattice, [drawn[i] for i in chosen], device)
                    least = instrument.min_area_um2, instrument.min_contrast
                    seen = detected(light, session.pixel_um, *least)
                    seen |= attempt == MAX_ATTEMPTS - 1
                    judged = list(zip(chosen, seen.tolist(), strict=True))
                    missed += [pending[i] for i, ok in judged if not ok]
                    kept = [i for i, ok in judged if ok]
                    if not kept:
                        continue
                    draws, places = [drawn[i] for i in kept], [pending[i] for i in kept]
                    images[places], pixels = self._record(session, light[seen], draws)
                    for place, draw, pixel in zip(places, draws, pixels, strict=True):
                        rows[place] = {**asdict(draw.particle), "pixel_um": pixel}
                if not missed:
                    break
                pending = sorted(missed)
        return images, pd.DataFrame([rows[row] for row in range(len(class_names))])

    def _batches(
        self, drawn: Sequence[Draw], sessions: NDArray[np.int64], batch_size: int
    ) -> Iterator[tuple[Session, Lattice, list[int]]]:
        """Run as it records them, lattice and positions of images to compute together."""
        least = self.settings.lattice_side
        groups: dict[tuple[int, int, str], list[int]] = defaultdict(list)
        for i, (draw, number) in enumerate(zip(drawn, sessions.tolist(), strict=True)):
            if isinstance(draw.scene, LargeBubble):
                groups[number, least, ""].append(i)
                continue
            side, grid = least, self._session(number).grid
            if least != _PREVIEW_SIDE:
                side = max(least, *(lattice_side_at(grid, z) for z in draw.scene.depths_um))
            groups[number, side, kind(draw.scene)].append(i)
        for (number, side, of_layers), members in groups.items():
            session = self._session(number) if of_layers else self._window(number)
            lattice = self._lattice(number, side, isinstance(drawn[members[0]].scene, Together))
            together = min(batch_size, max(1, batch_size * 25 // side**2))
            for start in range(0, len(members), together):
                yield session, lattice, members[start : start + together]

    def _make_lattice(self, number: int, side: int, neighbour: bool) -> Lattice:
        grid = replace(self._session(number).grid, lattice_side=side)
        if neighbour:  # its ghost stays as far from the window as that of a centred particle
            window = grid.num_pixels * grid.pixel_um
            grid = replace(grid, margin_um=(GHOST_MARGIN + NEIGHBOUR_AT[1]) * window)
        return grid, grid.to_pixels()

    def _light(
        self, session: Session, lattice: Lattice, draws: Sequence[Draw], device: torch.device
    ) -> Tensor:
        """What reaches the camera's pixels, before noise; float32 (B, N, N)."""
        grid, dft = lattice
        exposures = [draw.exposure for draw in draws]
        bubbles = [draw.scene for draw in draws if isinstance(draw.scene, LargeBubble)]
        if bubbles:
            light = torch.from_numpy(
                np.stack([bubble.light(session, self._bubble_optics) for bubble in bubbles])
            )
            return expose(session, light.to(device), exposures)
        scenes = [draw.scene for draw in draws if not isinstance(draw.scene, LargeBubble)]
        numbers = partial(torch.tensor, dtype=torch.float32, device=device)
        tilts = numbers([draw.tilt for draw in draws])
        depths = numbers([scene.depths_um for scene in scenes])
        waves = torch.from_numpy(np.stack([draw.waves for draw in draws])).to(device)
        spectra = scene_spectra(scenes, grid, device)
        # Source points smear by depth; a neighbour takes its share of the main particle's.
        smears = numbers([mean_depth_um(scene) for scene in scenes])
        lens = pupil(grid, tilts, waves)
        light = abbe_intensity(grid, lens, spectra, depths, smears, dft.to(device))
        return expose(session, light, exposures)

    def _record(
        self, session: Session, light: Tensor, draws: Sequence[Draw]
    ) -> tuple[NDArray[np.uint8], list[float]]:
        """Grey levels (B, size, size) and the size of each image's pixels in um."""
        grey = record(session, light, [draw.exposure for draw in draws]).cpu().numpy()
        if self.settings.crop == "window" or isinstance(draws[0].scene, LargeBubble):
            return grey, [session.pixel_um] * len(draws)
        contrast = ((light - 1) / (1 + session.stray_light)).cpu().numpy()
        cut = [
            cut_box(image, where, self.image_size, np.random.default_rng(draw.crop_seed))
            for image, where, draw in zip(grey, contrast, draws, strict=True)
        ]
        return np.stack([image for image, _ in cut]), [session.pixel_um / zoom for _, zoom in cut]


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads, and bits must not depend on them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _numpy_threads().limit(limits=1):  # worker processes would fight over the cores
            yield
    finally:
        torch.set_num_threads(threads)


@cache
def _numpy_threads() -> ThreadpoolController:
    return ThreadpoolController()
