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
SAME_IMAGES = ("precision", "compile", "seed")
"""Settings of a sampler that make no images of another kind."""


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


def fidelity_of(
    weights: str, sampler: SamplerSettings, given: Path | None, folders: Iterable[Path]
) -> Fidelity | None:
    """What ``task=assess`` has measured of all images of these very weights and this sampler.

    ``weights`` is their SHA-256. It is in the file ``given``, or is looked for in ``folders`` with
    all below them; of several the one with most classes. None where another sampler's images were
    measured, or those that a filter keeps.

    Raises:
        ArtifactError: a file cannot be read.
        DataError: the file given is about other weights, another sampler or filtered images.
    """
    if given is not None:
        fidelity = read_fidelity(given)
        if not _is_of(fidelity, weights, sampler):
            raise DataError(
                f"{given} is not about all images of this generator ({weights[:12]}…) and "
                "this sampler.",
                "Give the fidelity.json that task=assess wrote for them, or set sampler as it was.",
            )
        return fidelity
    files = (file for folder in folders for file in sorted(folder.glob(f"**/{FIDELITY}")))
    known = [read_fidelity(f) for f in files if weights in f.read_text("utf-8", "replace")]
    of_these = (one for one in known if _is_of(one, weights, sampler))
    return max(of_these, key=lambda one: len(one.classes), default=None)


def _is_of(fidelity: Fidelity, weights: str, sampler: SamplerSettings) -> bool:
    measured, asked = (
        {k: v for k, v in one.items() if k not in SAME_IMAGES}
        for one in (fidelity.provenance.get("sampler", {}), sampler.identity())
    )
    of_all = fidelity.provenance.get("filtered") is False
    return of_all and fidelity.provenance.get("generator") == weights and measured == asked
