"""Pictures of a trained generator, beside those of its preview."""

from pathlib import Path

import numpy as np
import torch

from svp_lightning.data.store import Store
from svp_lightning.generator.checkpoint import Generator
from svp_lightning.generator.interpolation import interpolate
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler import sample
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.report.figures.generator import (
    guidance_sweep,
    interpolation,
    real_and_generated,
)
from svp_lightning.report.style import save_figure

SHEET_IMAGES = 12
INTERPOLATED = 7
GUIDANCE = (0.0, 1.0, 1.5, 2.5, 4.0)
GUIDED_SEEDS = 2
FIRST_IMAGE = 2**31 + 2**20
"""Seeds far from those of any pool and of the preview's sheets."""


def write_generator_figures(
    generator: Generator, store: Store, folder: Path, device: torch.device
) -> None:
    """Write ``real_and_generated.png``, ``interpolation.png`` and ``guidance_sweep.png``.

    The last only of a generator that guidance makes sense for: one trained with hidden classes.
    """
    settings = SamplerSettings()
    _real_and_generated(generator, store, settings, folder, device)
    _interpolation(generator, settings, folder, device)
    if generator.info.settings.diffusion.class_dropout:
        _guidance_sweep(generator, settings, folder, device)


def _seeds(name: str, count: int) -> list[int]:
    return image_seeds(SamplerSettings().seed, name, FIRST_IMAGE, FIRST_IMAGE + count).tolist()


def _real_and_generated(
    generator: Generator,
    store: Store,
    settings: SamplerSettings,
    folder: Path,
    device: torch.device,
) -> None:
    names = generator.info.class_names
    rows = [store.indices("train", store.class_names.index(name)) for name in names]
    count = min(SHEET_IMAGES, *map(len, rows)) // 2 * 2
    if not count:  # one image of a class fills no sheet
        return
    real = np.stack([np.asarray(store.images[chosen[:count]]) for chosen in rows])
    labels = np.repeat(np.arange(len(names)), count)
    seeds = np.concatenate([_seeds(name, count) for name in names])
    drawn = sample(generator.denoiser, labels, seeds, settings, device).reshape(real.shape)
    figure = real_and_generated(real, drawn, names, store.pixel_size_um)
    save_figure(figure, folder / "real_and_generated.png")


def _interpolation(
    generator: Generator, settings: SamplerSettings, folder: Path, device: torch.device
) -> None:
    names, shares = generator.info.class_names, np.linspace(0, 1, INTERPOLATED)
    frames = []
    for label, name in enumerate(names):
        first, last = _seeds(name, 2)
        frames.append(
            interpolate(generator.denoiser, label, (first, last), shares, settings, device)
        )
    save_figure(interpolation(np.stack(frames), names), folder / "interpolation.png")


def _guidance_sweep(
    generator: Generator, settings: SamplerSettings, folder: Path, device: torch.device
) -> None:
    names = generator.info.class_names
    labels = np.repeat(np.arange(len(names)), GUIDED_SEEDS)
    seeds = np.concatenate([_seeds(name, GUIDED_SEEDS) for name in names])
    columns = []
    for weight in GUIDANCE:
        weighted = settings.model_copy(update={"guidance": weight})
        columns.append(sample(generator.denoiser, labels, seeds, weighted, device))
    images = np.stack(columns, axis=1).reshape(
        len(names), GUIDED_SEEDS, len(GUIDANCE), *columns[0].shape[1:]
    )
    save_figure(guidance_sweep(images, GUIDANCE, names), folder / "guidance_sweep.png")
