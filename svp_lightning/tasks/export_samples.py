"""The sample data set of an export: PNG in one folder per class, and the same as a store."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from svp_lightning.data.store import StoreWriter
from svp_lightning.generator.checkpoint import Generator
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler import sample
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.report.figures.generator import class_sheet
from svp_lightning.report.style import save_figure
from svp_lightning.stages.settings import TrainerSettings
from svp_lightning.tasks.devices import choose_device
from svp_lightning.tasks.progress import counting

SHEET_IMAGES = 12


def write_samples(
    folder: Path,
    generator: Generator,
    settings: SamplerSettings,
    per_class: int,
    trainer: TrainerSettings,
    weights: str,
) -> None:
    """Draw ``per_class`` images of each class into ``folder``.

    Args:
        folder: gets one folder of PNG per class, ``store/`` and ``sheet.png``.
        generator: to draw from.
        settings: the sampler.
        per_class: images 0 to this of each class.
        trainer: decides where to draw.
        weights: SHA-256 of the generator's weights, for the manifest.
    """
    info, device = generator.info, choose_device(trainer)
    writer = StoreWriter(folder / "store", per_class * len(info.class_names), info.image_size)
    shown: dict[str, NDArray[np.uint8]] = {}
    with counting("Sampling", writer.num_images) as progress:
        for label, name in enumerate(info.class_names):
            seeds = image_seeds(settings.seed, name, 0, per_class)
            labels = np.full(per_class, label)
            images = sample(generator.denoiser, labels, seeds, settings, device, progress)
            table = _table(name, seeds, weights)
            writer.write(label * per_class, images, table)
            _write_pictures(folder / name, images, table["id"].tolist())
            shown[name] = images[:SHEET_IMAGES]
    made_by = {"task": "export", "generator": weights, "sampler": settings.identity()}
    writer.finish(info.class_names, info.pixel_size_um, made_by)
    save_figure(class_sheet(shown, info.pixel_size_um), folder / "sheet.png")


def _write_pictures(folder: Path, images: NDArray[np.uint8], ids: list[str]) -> None:
    folder.mkdir(parents=True)
    for image, name in zip(images, ids, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")


def _table(name: str, seeds: NDArray[np.int64], weights: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"{name}-{k:07d}" for k in range(len(seeds))],
            "label": name,
            "split": "",
            "group": "synthetic",
            "origin": "synthetic",
            "source": f"generator {weights[:12]}",
            "seed": seeds,
        }
    )
