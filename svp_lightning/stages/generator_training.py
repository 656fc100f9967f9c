"""The generator: a class-conditional diffusion model, trained on the train split alone."""

import platform
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import Mixture, train_rows
from svp_lightning.data.rarity import only_classes
from svp_lightning.data.store import Store, spread
from svp_lightning.data.transforms import TrainTransform, to_model_range
from svp_lightning.errors import DataError
from svp_lightning.generator.checkpoint import (
    Generator,
    GeneratorInfo,
    load_generator,
    save_generator,
)
from svp_lightning.generator.checkpoint_selection import IMAGES, CheckpointSelection, Compared
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import GeneratorModule
from svp_lightning.generator.fitting_start import require_fitting_start
from svp_lightning.generator.sampler_settings import SamplerSettings
from svp_lightning.generator.settings import WEIGHTS, GeneratorSettings
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import checked_hash
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.generator_pictures import write_pictures
from svp_lightning.stages.joint_training import require_divisible
from svp_lightning.stages.resuming import require_finished
from svp_lightning.stages.trainers import Trainers, announce_training, fit

SAMPLER = SamplerSettings(
    name="dpm_solver",
    steps=20,
    guidance=1.0,
    guidance_interval=None,
    spacing="karras",
    precision="auto",
    start_ratio=None,
    reorient=False,
    compile=False,
    seed=0,
    batch_size=64,
)
"""Draws the pictures. Not the sampler of the pool: a generator must not depend on that choice."""
HELDOUT = "val"
MEASURED = 2048
"""Training images of a class, at most, that the traits of its particles are measured on."""
MIN_HELDOUT = 2
"""Held-out images of a class that its denoising error is measured on, at least."""


def build_generator(
    settings: GeneratorSettings, rows: Mixture, cache: ArtifactCache, trainers: Trainers
) -> Path:
    """The folder of the generator trained on ``rows``, with ``figures/`` of its images.

    Raises:
        CheckpointError: ``generator.initial`` is no generator.
        DataError: checkpoints are chosen by held-out images, and there are too few.
        SettingsError: the network does not fit the images, or the weights it starts from.
    """
    size = rows.stores[0].image_size
    require_fitting_start(settings, size)
    fitting = {"network": settings.network.for_images(size)}  # which alone makes a difference
    settings = settings.model_copy(update=fitting)
    images = compared_images(rows)
    if settings.selection.method == "denoising" and not images:
        raise DataError(
            f"generator.selection.method=denoising needs {MIN_HELDOUT} training and validation "
            f"images of a class that the generator learns; {rows.stores[0].path} has fewer.",
            "Add images, raise data.fractions, or set generator.selection.method=last.",
        )
    weights, start = settings.initial_weights, {}
    initial = None if weights is None else load_generator(weights.parent)
    if weights is not None:
        start = {"initial": checked_hash(weights)}
    identity: dict[str, Any] = {
        "generator": settings.identity() | start,
        "data": rows.stores[0].sha256,
        "pictures": _sampler(settings).identity(),
        **trainers.settings.identity(),
    }
    make = partial(_train, settings, rows, initial, images, trainers)
    return cache.build("generator", identity, make, every_rank=True)


def weights_hash(path: Path) -> str:
    """What identifies a trained generator: the SHA-256 of its weights."""
    return checked_hash(path / WEIGHTS)


def generator_rows(settings: GeneratorSettings, store: Store) -> Mixture:
    """The real training images of the classes a generator learns.

    Raises:
        SettingsError: ``generator.classes`` names a class that the data does not have.
    """
    rows = train_rows(store, balanced=settings.class_sampling == "balanced")
    match settings.classes:
        case "all":
            return rows
        case "rare":
            return only_classes(rows, rows.rare)
        case names:
            return only_classes(rows, names)


def compared_images(rows: Mixture) -> Compared:
    """Label -> training and validation images of each class with enough of them, evenly chosen."""
    store, found = rows.stores[0], {}
    for label, name in enumerate(rows.class_names):
        train = rows.row[rows.label == label]
        heldout = store.indices(HELDOUT, store.class_names.index(name))
        if min(len(train), len(heldout)) >= MIN_HELDOUT:
            pair = (store.images[spread(np.sort(part), IMAGES)] for part in (train, heldout))
            train_images, heldout_images = (
                to_model_range(torch.from_numpy(images)[:, None]) for images in pair
            )
            found[label] = train_images, heldout_images
    return found


def seen_images(rows: Mixture) -> dict[int, torch.Tensor]:
    """Label -> training images of the class, evenly chosen, (n, 1, H, W) in [-1, 1]."""
    found = {}
    for label in range(len(rows.class_names)):
        few = spread(np.sort(rows.row[rows.label == label]), MEASURED)
        images = torch.from_numpy(rows.stores[0].images[few])
        found[label] = to_model_range(images[:, None])
    return found


def _train(
    settings: GeneratorSettings,
    rows: Mixture,
    initial: Generator | None,
    compared: Compared,
    trainers: Trainers,
    folder: Path,
) -> None:
    store = rows.stores[0]
    parts = trainers.settings.accumulate
    module = GeneratorModule(settings, store.image_size, len(rows.class_names), parts)
    if initial is not None:
        module.start_from(initial, rows.class_names)
    if settings.network.traits:
        module.learn_traits(seen_images(rows))
    selection = CheckpointSelection(settings.selection, compared) if compared else None
    # The checkpoint comes last and so holds what was measured at its step.
    checkpoint = ModelCheckpoint(
        dirpath=folder,
        filename="last",
        every_n_train_steps=settings.checkpoint_every,
        monitor=None,
        save_top_k=1,
        enable_version_counter=False,
    )
    trainer = trainers.make(
        "Generator",
        folder,
        [*filter(None, [selection]), checkpoint],
        max_steps=settings.steps,
        limit_val_batches=0,  # no batch holds held-out images; the selection returns an error only
    )
    require_divisible("generator.batch_size", settings.batch_size, trainer.world_size, parts)
    images = settings.steps * settings.batch_size
    announce = partial(announce_training, trainer, module.denoiser, Denoiser.loss, rows, images)
    if trainers.settings.compile:
        module.denoiser.fuse()
    datamodule = ParticleDataModule(
        rows,
        heldout=None,  # out of reach
        batch_size=settings.batch_size,
        steps_per_epoch=settings.checkpoint_every,
        seed=settings.seed,
        transform=TrainTransform(symmetry=settings.symmetry),
        num_workers=trainers.settings.num_workers,
    )
    fit(trainer, module, datamodule, folder, announce)
    if selection is None or not selection.exhausted:
        require_finished("generator", trainer.global_step, settings.steps)
    if is_main_process():
        _save(folder, settings, rows, module, selection, trainer)
        for file in folder.glob("*.ckpt"):
            file.unlink()


def _save(
    folder: Path,
    settings: GeneratorSettings,
    rows: Mixture,
    module: GeneratorModule,
    selection: CheckpointSelection | None,
    trainer: Trainer,
) -> None:
    """Write the trained generator and its pictures."""
    store, sampler = rows.stores[0], _sampler(settings)
    training: dict[str, Any] = {
        "data": store.sha256,
        "images": {name: rows.real[name] for name in rows.class_names},
        "processes": trainer.world_size,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    if selection is not None:
        training["selection"] = _selected(selection, module, trainer.global_step)
    resolved = {"diffusion": settings.diffusion.for_images(store.image_size)}
    info = GeneratorInfo(
        settings=settings.model_copy(update=resolved),
        class_names=rows.class_names,
        image_size=store.image_size,
        pixel_size_um=store.image_pixel_um,
        training=training,
    )
    save_generator(folder, module.trained_denoiser, info)
    device = trainer.strategy.root_device
    write_pictures(load_generator(folder), store, sampler, folder / "figures", device)


def _sampler(settings: GeneratorSettings) -> SamplerSettings:
    """What draws the pictures of a generator."""
    return SAMPLER.model_copy(update={"reorient": settings.symmetry})


def _selected(
    selection: CheckpointSelection, module: GeneratorModule, steps: int
) -> dict[str, Any]:
    """Put the chosen weights into the module; what is known about them."""
    best, start = selection.restore_best(module), selection.start
    if selection.best_step < steps:
        say(f"  Kept the weights of step {selection.best_step:,} of {steps:,}")
    if best.memorises_since(start):
        chosen = selection.settings.method == "denoising"
        say(
            f"  Warning: held-out images are denoised {np.expm1(best.gap):.0%} worse than training "
            f"images ({np.expm1(start.gap):.0%} before the first step): the generator begins to "
            "memorise. Train fewer generator.steps"
            + ("." if chosen else ", or set generator.selection.method=denoising.")
        )
    return selection.record()
