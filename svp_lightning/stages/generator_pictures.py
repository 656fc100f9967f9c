"""Pictures of a trained generator: its images, the way to them, and what guidance does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from svp_lightning.data.store import Store
from svp_lightning.generator.checkpoint import Generator
from svp_lightning.generator.drawing import interpolate, sample, trajectory
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.report.figures.sheets import (
    contact_sheet,
    guidance_sweep,
    interpolation,
    noise_to_image_strip,
    real_and_generated,
)
from svp_lightning.report.style import save_figure

SHEET_IMAGES = 32
PAIRED_IMAGES = 12
STRIP_FRAMES = 9
INTERPOLATED = 7
GUIDANCE = (0.0, 1.0, 1.5, 2.5, 4.0)
GUIDED_SEEDS = 2
SHEET_SEED, OTHER_SEED = 2**31, 2**31 + 2**20
"""First seeds of the sheets and of the other pictures, far from those of any pool."""


def write_pictures(
    generator: Generator,
    store: Store,
    sampler: SamplerSettings,
    folder: Path,
    device: torch.device,
) -> None:
    """Write sheets of real and generated images, and pictures of how images come about.

    ``folder`` gets ``contact_sheet_<class>.png``, ``noise_to_image.png``, ``interpolation.png``,
    ``real_and_generated.png``, and ``guidance_sweep.png`` of a generator trained with hidden
    classes, the only ones that guidance makes sense for.
    """
    artist = _Artist(generator, store, sampler, folder, device)
    artist.sheets()
    artist.noise_to_image()
    artist.real_and_generated()
    artist.interpolation()
    if generator.info.settings.diffusion.class_dropout:
        artist.guidance_sweep()


@dataclass(frozen=True)
class _Artist:
    generator: Generator
    store: Store
    sampler: SamplerSettings
    folder: Path
    device: torch.device

    @property
    def names(self) -> tuple[str, ...]:
        return self.generator.info.class_names

    def sheets(self) -> None:
        for label, name in enumerate(self.names):
            seeds = self._seeds(name, SHEET_IMAGES, SHEET_SEED)
            drawn = self._draw(np.full(SHEET_IMAGES, label), seeds, self.sampler)
            real = np.asarray(self.store.images[self._real(name)[:SHEET_IMAGES]])
            panels = {"Real (training)": real, "Generated": drawn}
            sheet = contact_sheet(panels, title=name, pixel_size_um=self.store.image_pixel_um)
            save_figure(sheet, self.folder / f"contact_sheet_{name}.png")

    def noise_to_image(self) -> None:
        # Nothing can be seen in the first steps: show pure noise once, then the way out of it.
        steps = self.sampler.steps
        shares = np.r_[0, np.linspace(0.45, 1, STRIP_FRAMES - 1)]
        at = np.unique((shares * steps).round().astype(int)).tolist()
        seeds = np.concatenate([self._seeds(name, 1, SHEET_SEED) for name in self.names])
        labels = np.arange(len(self.names))
        frames, _ = trajectory(
            self.generator.denoiser, labels, seeds, self.sampler, at, self.device
        )
        titles = [f"{k}/{steps}" for k in at]
        strip = noise_to_image_strip(frames.swapaxes(0, 1), titles, self.names)
        save_figure(strip, self.folder / "noise_to_image.png")

    def real_and_generated(self) -> None:
        rows = [self._real(name) for name in self.names]
        count = min(PAIRED_IMAGES, *map(len, rows)) // 2 * 2
        if not count:  # one image of a class fills no sheet
            return
        real = np.stack([np.asarray(self.store.images[chosen[:count]]) for chosen in rows])
        labels, seeds = self._each_class(count)
        drawn = self._draw(labels, seeds, self.sampler).reshape(real.shape)
        figure = real_and_generated(real, drawn, self.names, self.store.image_pixel_um)
        save_figure(figure, self.folder / "real_and_generated.png")

    def interpolation(self) -> None:
        shares = np.linspace(0, 1, INTERPOLATED)
        frames = []
        for label, name in enumerate(self.names):
            first, last = self._seeds(name, 2, OTHER_SEED).tolist()
            frames.append(
                interpolate(
                    self.generator.denoiser, label, (first, last), shares, self.sampler, self.device
                )
            )
        save_figure(interpolation(np.stack(frames), self.names), self.folder / "interpolation.png")

    def guidance_sweep(self) -> None:
        labels, seeds = self._each_class(GUIDED_SEEDS)
        weighted = [self.sampler.model_copy(update={"guidance": weight}) for weight in GUIDANCE]
        columns = [self._draw(labels, seeds, sampler) for sampler in weighted]
        images = np.stack(columns, axis=1).reshape(
            len(self.names), GUIDED_SEEDS, len(GUIDANCE), *columns[0].shape[1:]
        )
        figure = guidance_sweep(images, GUIDANCE, self.names)
        save_figure(figure, self.folder / "guidance_sweep.png")

    def _real(self, name: str) -> NDArray[np.int64]:
        return self.store.indices("train", self.store.class_names.index(name))

    def _seeds(self, name: str, count: int, first: int) -> NDArray[np.int64]:
        return image_seeds(self.sampler.seed, name, first, first + count)

    def _each_class(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels and seeds of ``count`` images of every class."""
        seeds = [self._seeds(name, count, OTHER_SEED) for name in self.names]
        return np.repeat(np.arange(len(self.names)), count), np.concatenate(seeds)

    def _draw(
        self, labels: NDArray[np.int64], seeds: NDArray[np.int64], sampler: SamplerSettings
    ) -> NDArray[np.uint8]:
        return sample(self.generator.denoiser, labels, seeds, sampler, self.device)
