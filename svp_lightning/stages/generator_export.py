"""What an exported generator consists of besides the pipeline: sample images and what is known."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.errors import DataError
from svp_lightning.evaluation.fidelity.stored import FIDELITY, Fidelity, read_fidelity
from svp_lightning.generator.checkpoint import Generator
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler_settings import SamplerSettings
from svp_lightning.report.figures.sheets import class_rows
from svp_lightning.report.style import save_figure
from svp_lightning.runtime.terminal import counting
from svp_lightning.stages.pools import pool_table

SHEET_IMAGES = 12


def write_samples(
    folder: Path,
    generator: Generator,
    settings: SamplerSettings,
    per_class: int,
    device: torch.device,
    weights: str,
) -> None:
    """Draw the first ``per_class`` images of each class.

    ``folder`` gets ``images/`` with one folder of PNG per class, ``store/`` and ``sheet.png``;
    ``weights`` is the SHA-256 of the generator's, for the manifest.
    """
    info = generator.info
    writer = StoreWriter(folder / "store", per_class * len(info.class_names), info.image_size)
    shown: dict[str, NDArray[np.uint8]] = {}
    with counting("Sampling", writer.num_images) as progress:
        for label, name in enumerate(info.class_names):
            seeds = image_seeds(settings.seed, name, 0, per_class)
            labels = np.full(per_class, label)
            images = sample(generator.denoiser, labels, seeds, settings, device, progress)
            table = pool_table([name] * per_class, range(per_class), seeds, weights)
            writer.write(label * per_class, images, table)
            pictures = folder / "images" / name  # apart: a class may be called "store"
            pictures.mkdir(parents=True)
            for image, own in zip(images, table["id"], strict=True):
                Image.fromarray(image).save(pictures / f"{own}.png")
            shown[name] = images[:SHEET_IMAGES]
    made_by = {"task": "export", "generator": weights, "sampler": settings.identity()}
    writer.finish(info.class_names, info.pixel_size_um, made_by)
    blocks, columns = [[images] for images in shown.values()], max(1, len(shown[name]) // 2)
    sheet = class_rows(blocks, list(shown), columns, pixel_size_um=info.pixel_size_um)
    save_figure(sheet, folder / "sheet.png")


def fidelity_of(weights: str, given: Path | None, folders: Iterable[Path]) -> Fidelity | None:
    """What ``task=assess`` has measured of these very weights, by their SHA-256.

    It is in the file ``given``, or is looked for in ``folders`` with all below them.

    Raises:
        ArtifactError: the file cannot be read.
        DataError: the file given is about other weights.
    """
    if given is None:
        found = (file for folder in folders for file in sorted(folder.glob(f"**/{FIDELITY}")))
        given = next((f for f in found if weights in f.read_text("utf-8", "replace")), None)
    if given is None:
        return None
    fidelity = read_fidelity(given)
    if fidelity.provenance.get("generator") != weights:
        raise DataError(
            f"{given} is not about this generator ({weights[:12]}…).",
            "Give the fidelity.json that task=assess wrote for this generator.",
        )
    return fidelity
