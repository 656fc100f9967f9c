"""Image i of a class as a pure function of (settings, image size, seed, class, i, session)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from svp_lightning.data.classes import AIR_BUBBLE, PAPER_CLASSES, PROTEIN, SILICONE_OIL
from svp_lightning.errors import SettingsError
from svp_lightning.simulation.air import draw_air
from svp_lightning.simulation.camera import detected, expose, record
from svp_lightning.simulation.crop import fit_crop
from svp_lightning.simulation.imaging import abbe_intensity, pupil
from svp_lightning.simulation.large_bubble import LargeBubble
from svp_lightning.simulation.oil import draw_oil
from svp_lightning.simulation.protein import draw_protein
from svp_lightning.simulation.scene import Layers, Particle
from svp_lightning.simulation.session import Session, draw_session
from svp_lightning.simulation.settings import FIELD_OF_VIEW_UM, SimulationSettings
from svp_lightning.simulation.streams import stream

MAX_ATTEMPTS = 12
"""Particles a counter would miss are drawn again; the last attempt is kept whatever it is."""

_RELATIVE_RMS = np.array([1.0, 0.8, 0.8, 0.4])
"""Spherical, coma, astigmatism, trefoil: higher orders are weaker."""


class Simulator:
    """Renders flow-imaging images of single particles.

    Args:
        settings: the instrument and the particles.
        image_size: pixels along one side, a multiple of 16 in 16..128. The field of view is
            16.64 um at any size.
        seed: of the data set; every image and session is a function of it.

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
        self._session = lru_cache(maxsize=64)(
            lambda number: draw_session(settings, image_size, seed, number)
        )

    @property
    def pixel_size_um(self) -> float:
        """Nominal size of a pixel; a session's own differs by a few percent."""
        return FIELD_OF_VIEW_UM / self.image_size

    def render(
        self,
        class_names: Sequence[str],
        indices: NDArray[np.int64],
        sessions: NDArray[np.int64],
        device: str | torch.device = "cpu",
    ) -> tuple[NDArray[np.uint8], pd.DataFrame]:
        """Render n images.

        On a CPU each image has the same bits whatever the batch it is part of, one thread at
        a time. On another device single grey levels may differ.

        Args:
            class_names: n class names.
            indices: (n,) number of each image within its class, >= 0.
            sessions: (n,) number of each image's session, >= 0.
            device: where the optics are computed.

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
        images = np.empty((len(class_names), self.image_size, self.image_size), np.uint8)
        rows = []
        with torch.inference_mode(), _one_thread():
            for row, (name, index, session) in enumerate(
                zip(class_names, indices, sessions, strict=True)
            ):
                images[row], particle, pixel = self._image(
                    name, int(index), self._session(int(session)), torch.device(device)
                )
                rows.append({**asdict(particle), "pixel_um": pixel})
        return images, pd.DataFrame(rows)

    def _image(
        self, class_name: str, index: int, session: Session, device: torch.device
    ) -> tuple[NDArray[np.uint8], Particle, float]:
        """Grey levels, the particle, and the size of a pixel in um."""
        for attempt in range(MAX_ATTEMPTS):
            rng = stream(self.seed, class_name, index, attempt)
            particle, light = self._expose(class_name, rng, session, device)
            if detected(light, session.grid.pixel_um * session.binning):
                break
        grey, zoom = record(session, light, rng), 1.0
        if self.settings.fit_crops:
            grey, zoom = fit_crop(grey, light, rng)
        return grey, particle, session.grid.pixel_um * session.binning / zoom

    def _expose(
        self, class_name: str, rng: np.random.Generator, session: Session, device: torch.device
    ) -> tuple[Particle, NDArray[np.float32]]:
        particle, scene = self._draw(class_name, rng, session)
        tilt = (session.tilt[0] + rng.normal(0, 0.018), session.tilt[1] + rng.normal(0, 0.018))
        waves = _aberrations(rng, self.settings.optics.aberration_waves)
        motion, sharpening = rng.uniform(0, 0.35), rng.uniform(0, 0.4)
        if isinstance(scene, LargeBubble):
            light, smear = torch.from_numpy(scene.light(session)), None
        else:
            light = self._optics(scene, session, tilt, waves, device)
            smear = float(np.mean(scene.depths_um))
        seen = expose(session, light, smear, motion, sharpening)
        return particle, seen.cpu().numpy()

    def _draw(
        self, class_name: str, rng: np.random.Generator, session: Session
    ) -> tuple[Particle, Layers | LargeBubble]:
        # A coarser session sees deeper: the flow cell is matched to the magnification.
        scale = (session.grid.pixel_um * session.binning / self.pixel_size_um) ** 1.5
        if class_name == PROTEIN:
            return draw_protein(rng, session.grid, session.focus_offset_um)
        if class_name == SILICONE_OIL:
            return draw_oil(rng, scale)
        assert class_name == AIR_BUBBLE
        settings = self.settings
        return draw_air(rng, scale, settings.air_indices, settings.large_bubble_share)

    def _optics(
        self,
        scene: Layers,
        session: Session,
        tilt: tuple[float, float],
        waves: NDArray[np.float32],
        device: torch.device,
    ) -> torch.Tensor:
        grid = session.grid
        lens = pupil(grid, tilt, torch.from_numpy(waves).to(device))
        spectra = scene.spectra(grid, device)
        depths = torch.tensor(scene.depths_um, dtype=torch.float32, device=device)
        return abbe_intensity(grid, lens, spectra, depths, session.dft.to(device))


def _aberrations(rng: np.random.Generator, median_waves: float) -> NDArray[np.float32]:
    """Zernike coefficients of one image; see :func:`imaging.pupil`."""
    rms = median_waves * _RELATIVE_RMS * np.exp(rng.normal(0, 0.45, 4))
    angle = rng.uniform(0, 2 * np.pi, 3)
    sign = rng.choice((-1.0, 1.0))
    pairs = rms[1:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([[sign * rms[0]], pairs.ravel()]).astype(np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads, and bits must not depend on them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
