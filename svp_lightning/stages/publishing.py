"""What an export consists of besides the pipeline: sample images, and what was measured of it."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from svp_lightning.data.store import StoreWriter
from svp_lightning.errors import ArtifactError, DataError
from svp_lightning.evaluation.fidelity.stored import FIDELITY, Fidelity, read_fidelity
from svp_lightning.generator.checkpoint import Generator
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.report.figures.sheets import class_rows
from svp_lightning.report.style import save_figure
from svp_lightning.runtime.files import explaining_write_errors
from svp_lightning.runtime.terminal import counting
from svp_lightning.stages.pools import pool_table
from svp_lightning.stages.settings import DataSettings, SimulatedData

SHEET_IMAGES = 12
SIMULATED = "Images of svp_lightning's physics-based simulator of flow-imaging microscopy."
OWN = "Images imported by the person who exported this model ({source})."


def origin_of(data: DataSettings) -> tuple[str, str]:
    """Where training images come from, as a sentence, and the licence that follows."""
    if isinstance(data, SimulatedData):
        return SIMULATED, "apache-2.0"
    return OWN.format(source=data.source), "other"


def write_samples(
    folder: Path,
    generator: Generator,
    settings: SamplerSettings,
    per_class: int,
    device: torch.device,
    weights: str,
) -> None:
    """Draw the first ``per_class`` images of each class.

    ``folder`` gets one folder of PNG per class, ``store/`` and ``sheet.png``; ``weights`` is the
    SHA-256 of the generator's, for the manifest.
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
            (folder / name).mkdir(parents=True)
            for image, own in zip(images, table["id"], strict=True):
                Image.fromarray(image).save(folder / name / f"{own}.png")
            shown[name] = images[:SHEET_IMAGES]
    made_by = {"task": "export", "generator": weights, "sampler": settings.identity()}
    writer.finish(info.class_names, info.pixel_size_um, made_by)
    blocks, columns = [[images] for images in shown.values()], max(1, len(shown[name]) // 2)
    sheet = class_rows(blocks, list(shown), columns, pixel_size_um=info.pixel_size_um)
    save_figure(sheet, folder / "sheet.png")


@contextmanager
def writing_whole(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``target`` when the block succeeds, and vanishes otherwise.

    Raises:
        ArtifactError: ``target`` exists, or cannot be written.
    """
    refuse_existing(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with explaining_write_errors(target):
            partial.mkdir(parents=True)
            yield partial
            refuse_existing(target)  # another process may have been faster
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(target: Path) -> None:
    """Refuse to export over something.

    Raises:
        ArtifactError: ``target`` exists.
    """
    if target.exists():
        raise ArtifactError(
            f"{target} exists already; an export overwrites nothing.",
            "Delete it, or choose another place with export.to=….",
        )


def find_fidelity(folders: Iterable[Path], weights: str) -> Fidelity | None:
    """What ``task=assess`` has measured of these very weights (SHA-256), if it has."""
    for folder in folders:
        for path in sorted(folder.glob(f"**/{FIDELITY}")):
            if weights in path.read_text(encoding="utf-8", errors="replace"):
                return fidelity_of(path, weights)
    return None


def fidelity_of(path: Path, weights: str) -> Fidelity:
    """An assessment of these weights.

    Raises:
        ArtifactError: the file cannot be read.
        DataError: it is about other weights.
    """
    found = read_fidelity(path)
    if found.provenance.get("generator") != weights:
        raise DataError(
            f"{path} is not about this generator ({weights[:12]}…).",
            "Give the fidelity.json that task=assess wrote for this generator.",
        )
    return found
