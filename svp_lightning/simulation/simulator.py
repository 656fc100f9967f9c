"""Image i of a class as a pure function of (settings, image size, seed, class, i, session)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache, lru_cache

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.errors import SettingsError
from svp_lightning.simulation.camera import cut_box, detected, expose, record
from svp_lightning.simulation.draw import Draw, draw_image
from svp_lightning.simulation.imaging import (
    ImagingGrid,
    abbe_intensity,
    lattice_side_at,
    pupil,
)
from svp_lightning.simulation.large_bubble import LargeBubble, nominal_optics
from svp_lightning.simulation.scene import kind, mean_depth_um, scene_spectra
from svp_lightning.simulation.session import Session, draw_session
from svp_lightning.simulation.settings import SimulationSettings

MAX_ATTEMPTS = 12
"""Particles a counter would miss are drawn again; the last attempt is kept whatever it is."""

ACCELERATOR_BATCH = 256
"""Images imaged together on a GPU (about 1 GB). A CPU core is fastest with one at a time."""

_PREVIEW_SIDE = 3


class Simulator:
    """Renders flow-imaging images of single particles, a function of ``seed`` each.

    ``image_size`` is a multiple of 16 in 16..128; the field of view is the instrument's at any
    size.

    Raises:
        SettingsError: for an image size or seed that cannot be used.
    """

    def __init__(self, settings: SimulationSettings, image_size: int, seed: int) -> None:
        if not (16 <= image_size <= 128 and image_size % 16 == 0):
            raise SettingsError(
                f"image_size: simulated images are 16 to 128 px, in steps of 16, got {image_size}.",
                "Choose for example 64.",
            )
        if seed < 0:
            raise SettingsError(f"seed: must not be negative, got {seed}.", "Choose 0 or more.")
        self.settings = settings
        self.image_size = image_size
        self.seed = seed
        self._bubble_optics = nominal_optics(settings.optics)
        self._window = lru_cache(maxsize=64)(
            lambda number: draw_session(settings, image_size, seed, number)
        )
        # Large bubbles are not cut out of a field: they are larger than it.
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
            class_names: n class names.
            indices: (n,), >= 0.
            sessions: (n,), >= 0.
            device: where the optics are computed.
            batch_size: images of one session imaged together; None: 1 on a CPU, 256 elsewhere.
            drawn: what :meth:`draw` returned for these images, in whatever process.

        Returns:
            uint8 (n, image_size, image_size), and a table of n rows with the columns
            ``morphology, radius_um, ecd_um, defocus_um, refractive_index, pixel_um``.

        Raises:
            SettingsError: for a class without a physical model.
        """
        for name in class_names:
            if name not in PAPER_CLASSES:
                raise SettingsError(
                    f"class {name!r} has no physical model.", f"Use {', '.join(PAPER_CLASSES)}."
                )
        device = torch.device(device)
        if batch_size is None:
            batch_size = 1 if device.type == "cpu" else ACCELERATOR_BATCH
        images = np.empty((len(class_names), self.image_size, self.image_size), np.uint8)
        rows: dict[int, dict[str, object]] = {}
        pending = list(range(len(class_names)))
        with torch.inference_mode(), _one_thread():
            for attempt in range(MAX_ATTEMPTS):
                if attempt or drawn is None:
                    names = [class_names[row] for row in pending]
                    drawn = self.draw(names, indices[pending], sessions[pending], attempt)
                missed: list[int] = []
                for number, side, chosen in self._batches(drawn, sessions[pending], batch_size):
                    draws = [drawn[i] for i in chosen]
                    session = self._recording(number, draws)
                    light = self._light(session, number, side, draws, device)
                    seen = self._seen(session, light) | (attempt == MAX_ATTEMPTS - 1)
                    missed += [pending[i] for i, ok in zip(chosen, seen, strict=True) if not ok]
                    kept = [i for i, ok in zip(chosen, seen, strict=True) if ok]
                    if not kept:
                        continue
                    draws = [drawn[i] for i in kept]
                    grey, pixels = self._record(
                        session, light[torch.from_numpy(seen).to(device)], draws
                    )
                    places = [pending[i] for i in kept]
                    images[places] = grey
                    for place, draw, pixel in zip(places, draws, pixels, strict=True):
                        rows[place] = {**asdict(draw.particle), "pixel_um": pixel}
                if not missed:
                    break
                pending = sorted(missed)
        return images, pd.DataFrame([rows[row] for row in range(len(class_names))])

    def _batches(
        self, drawn: Sequence[Draw], sessions: NDArray[np.int64], batch_size: int
    ) -> Iterator[tuple[int, int, list[int]]]:
        """Session, side of the source lattice and positions of images to compute together."""
        groups: dict[tuple[int, int, str], list[int]] = defaultdict(list)
        for i, (draw, session) in enumerate(zip(drawn, sessions, strict=True)):
            number = int(session)
            if isinstance(draw.scene, LargeBubble):
                groups[number, self.settings.lattice_side, ""].append(i)
                continue
            side = self._side(self._session(number).grid, draw.scene.depths_um)
            groups[number, side, kind(draw.scene)].append(i)
        for (number, side, _), members in groups.items():
            for start in range(0, len(members), batch_size):
                yield number, side, members[start : start + batch_size]

    def _side(self, grid: ImagingGrid, depths_um: tuple[float, ...]) -> int:
        least = self.settings.lattice_side
        if least == _PREVIEW_SIDE:
            return least
        return max(least, *(lattice_side_at(grid, depth) for depth in depths_um))

    def _make_lattice(self, number: int, side: int) -> tuple[ImagingGrid, Tensor]:
        grid = replace(self._session(number).grid, lattice_side=side)
        return grid, grid.to_pixels()

    def _recording(self, number: int, draws: Sequence[Draw]) -> Session:
        """The run as it records these images, which are all large bubbles or none is."""
        large = isinstance(draws[0].scene, LargeBubble)
        return self._window(number) if large else self._session(number)

    def _light(
        self, session: Session, number: int, side: int, draws: Sequence[Draw], device: torch.device
    ) -> Tensor:
        """What reaches the camera's pixels, before noise; float32 (B, N, N)."""
        grid, dft = self._lattice(number, side)
        exposures = [draw.exposure for draw in draws]
        bubbles = [draw.scene for draw in draws if isinstance(draw.scene, LargeBubble)]
        if bubbles:
            light = torch.from_numpy(
                np.stack([bubble.light(session, self._bubble_optics) for bubble in bubbles])
            )
            return expose(session, grid, light.to(device), None, exposures)
        scenes = [draw.scene for draw in draws if not isinstance(draw.scene, LargeBubble)]
        tilts = torch.tensor([draw.tilt for draw in draws], dtype=torch.float32, device=device)
        waves = torch.from_numpy(np.stack([draw.waves for draw in draws])).to(device)
        depths = torch.tensor(
            [scene.depths_um for scene in scenes], dtype=torch.float32, device=device
        )
        smears = torch.tensor(
            [mean_depth_um(s) for s in scenes], dtype=torch.float32, device=device
        )
        spectra = scene_spectra(scenes, grid, device)
        light = abbe_intensity(grid, pupil(grid, tilts, waves), spectra, depths, dft.to(device))
        # Source points smear by depth; a neighbour takes its share of the main particle's.
        return expose(session, grid, light, smears, exposures)

    def _seen(self, session: Session, light: Tensor) -> NDArray[np.bool_]:
        instrument = self.settings.instrument
        least = instrument.min_area_um2, instrument.min_contrast
        return np.asarray(detected(light, session.pixel_um, *least).cpu())

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
def _one_thread() -> Iterator[None]:
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
