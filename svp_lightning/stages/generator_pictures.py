"""Pictures of a trained generator: its images, the way to them, and what guidance does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from svp_lightning.data.store import Store
from svp_lightning.generator.checkpoint import Generator
from svp_lightning.generator.drawing import interpolate, sample, trajectory
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler_settings import SamplerSettings
from svp_lightning.report.figures.sheets import class_rows, contact_sheet
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
    classes, the only ones that guidance makes sense for. None has a scale bar: the pictures are the
    generator's, which is the same whatever the pixel size.
    """
    for name, figure in _Artist(generator, store, sampler, device).pictures():
        save_figure(figure, folder / f"{name}.png")


@dataclass(frozen=True)
class _Artist:
    generator: Generator
    store: Store
    sampler: SamplerSettings
    device: torch.device

    @property
    def names(self) -> tuple[str, ...]:
        return self.generator.info.class_names

    def pictures(self) -> Iterator[tuple[str, Figure]]:
        """File name without suffix, and figure."""
        real = [self._real(name) for name in self.names]
        for label, name in enumerate(self.names):
            drawn = self._draw([label], SHEET_IMAGES, SHEET_SEED)[0]
            panels = {"Real (training)": real[label][:SHEET_IMAGES], "Generated": drawn}
            yield f"contact_sheet_{name}", contact_sheet(panels, title=name)
        yield "noise_to_image", self._noise_to_image()
        # Two rows of each class; one image fills no sheet.
        if count := min(PAIRED_IMAGES, *map(len, real)) // 2 * 2:
            drawn = self._draw(range(len(self.names)), count)
            pairs = [(a[:count], b) for a, b in zip(real, drawn, strict=True)]
            headings = ("Real (training)", "Generated")
            sheet = class_rows(pairs, self.names, count // 2, headings=headings)
            yield "real_and_generated", sheet
        yield "interpolation", self._interpolation()
        if self.generator.info.settings.diffusion.class_dropout:
            yield "guidance_sweep", self._guidance_sweep()

    def _noise_to_image(self) -> Figure:
        """One row per class from noise to image, as in Ho et al. 2020, figure 6."""
        # Nothing can be seen in the first steps: show pure noise once, then the way out of it.
        steps, labels = self.sampler.steps, np.arange(len(self.names))
        shares = np.r_[0, np.linspace(0.45, 1, STRIP_FRAMES - 1)]
        at = np.unique((shares * steps).round().astype(int)).tolist()
        seeds = self._seeds(labels.tolist(), 1, SHEET_SEED)
        frames, _ = trajectory(
            self.generator.denoiser, labels, seeds, self.sampler, at, self.device
        )
        return self._rows(
            frames.swapaxes(0, 1),
            [f"{k}/{steps}" for k in at],
            "noise   →   each step removes a little of it   →   image",
        )

    def _interpolation(self) -> Figure:
        """From the image of one seed to that of another, along the noise between them."""
        shares, frames = np.linspace(0, 1, INTERPOLATED), []
        for label in range(len(self.names)):
            first, last = self._seeds([label], 2).tolist()
            frames.append(
                interpolate(
                    self.generator.denoiser, label, (first, last), shares, self.sampler, self.device
                )
            )
        return self._rows(
            np.stack(frames),
            ["seed A", *[""] * (INTERPOLATED - 2), "seed B"],
            "noise of seed A   →   along the arc between the two   →   noise of seed B",
        )

    def _guidance_sweep(self) -> Figure:
        """The same seeds with the class weighted more and more."""
        labels = range(len(self.names))
        columns = [self._draw(labels, GUIDED_SEEDS, guidance=weight) for weight in GUIDANCE]
        images = np.stack(columns, axis=2)  # (classes, seeds, weights, H, W)
        return self._rows(
            images.reshape(len(labels), -1, *images.shape[3:]),
            [f"w = {weight:g}" for weight in GUIDANCE],
            "each row one seed; to the right the class counts more: 1 is as learnt, 0 not at all",
        )

    def _rows(self, images: NDArray[np.uint8], labels: Sequence[str], footer: str) -> Figure:
        blocks = [[own] for own in images]
        return class_rows(blocks, self.names, len(labels), column_labels=labels, footer=footer)

    def _real(self, name: str) -> NDArray[np.uint8]:
        rows = self.store.indices("train", self.store.class_names.index(name))
        return np.asarray(self.store.images[rows[: max(SHEET_IMAGES, PAIRED_IMAGES)]])

    def _seeds(
        self, labels: Sequence[int], count: int, first: int = OTHER_SEED
    ) -> NDArray[np.int64]:
        names = [self.names[label] for label in labels]
        return np.concatenate(
            [image_seeds(self.sampler.seed, n, first, first + count) for n in names]
        )

    def _draw(
        self, labels: Sequence[int], count: int, first: int = OTHER_SEED, **changes: Any
    ) -> NDArray[np.uint8]:
        """(labels, ``count``, H, W), by the sampler with ``changes``."""
        drawn = sample(
            self.generator.denoiser,
            np.repeat(labels, count),
            self._seeds(labels, count, first),
            self.sampler.model_copy(update=changes),
            self.device,
        )
        return drawn.reshape(len(labels), count, *drawn.shape[1:])
