"""The generator: a class-conditional diffusion model, trained on the train split alone."""

import platform
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import Mixture, only_classes, train_rows
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform
from svp_lightning.generator.checkpoint import (
    WEIGHTS,
    GeneratorInfo,
    load_generator,
    save_generator,
)
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import CheckpointSelection, GeneratorModule
from svp_lightning.generator.settings import GeneratorSettings, SamplerSettings
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import sha256_of_file
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.checkpoint_judge import VERSION as JUDGE_VERSION
from svp_lightning.stages.checkpoint_judge import Judge
from svp_lightning.stages.generator_pictures import write_pictures
from svp_lightning.stages.trainers import (
    Trainers,
    announce_training,
    fit,
    require_divisible,
    require_finished,
)

SAMPLER = SamplerSettings(
    name="dpm_solver",
    steps=20,
    guidance=1.0,
    guidance_interval=None,
    spacing="karras",
    precision="auto",
    compile=False,
    seed=0,
    batch_size=64,
)
"""Draws the images that a checkpoint is judged by and those of the pictures. Not the sampler of the
pool: a generator must not depend on that choice."""


def build_generator(
    settings: GeneratorSettings,
    rows: Mixture,
    features: Path | None,
    cache: ArtifactCache,
    trainers: Trainers,
) -> Path:
    """The folder of the generator trained on ``rows``, with ``figures/`` of its images.

    ``features`` is the folder of the network that judges checkpoints; None where the last is kept.
    """
    identity: dict[str, Any] = {
        "generator": settings.identity(),
        "data": rows.stores[0].sha256,
        "pictures": SAMPLER.identity(),
    }
    if features is not None:
        judge = {"version": JUDGE_VERSION, "sampler": SAMPLER.identity()}
        identity |= {"features": features.name, "judge": judge}
    make = partial(_train, settings, rows, features, trainers)
    return cache.build("generator", identity, make, every_rank=True)


def weights_hash(path: Path) -> str:
    """What identifies a trained generator: the SHA-256 of its weights."""
    return sha256_of_file(path / WEIGHTS)


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


def _train(
    settings: GeneratorSettings,
    rows: Mixture,
    features: Path | None,
    trainers: Trainers,
    folder: Path,
) -> None:
    store = rows.stores[0]
    module = GeneratorModule(settings, store.image_size, len(rows.class_names))
    # The checkpoint comes last and so holds what was judged at its step.
    callbacks: list[Any] = [_checkpoint(folder, settings.checkpoint_every)]
    selection = None
    if features is not None:
        judge = Judge(rows, features, settings.selection.images, SAMPLER, trainers.device)
        selection = CheckpointSelection(settings.selection, judge)
        callbacks.insert(0, selection)
    trainer = trainers.make(
        "Generator",
        folder,
        callbacks,
        max_steps=settings.steps,
        limit_val_batches=0,  # no batch holds held-out images; a selection returns a score only
    )
    require_divisible("generator.batch_size", settings.batch_size, trainer.world_size)
    images = settings.steps * settings.batch_size
    announce = partial(announce_training, trainer, module.denoiser, Denoiser.loss, rows, images)
    if trainers.settings.compile:
        module.denoiser.fuse()
    fit(trainer, module, _datamodule(settings, rows, trainers), folder, announce)
    if selection is None or not selection.exhausted:
        require_finished("generator", trainer.global_step, settings.steps)
    if is_main_process():
        facts = _provenance(rows, trainer.world_size)
        if selection is not None:
            selection.restore_best(module)
            facts["selection"] = selection.record()
            say(f"  Kept the weights of step {selection.best_step:,} of {trainer.global_step:,}")
        save_generator(folder, module.trained_denoiser, _info(settings, rows, facts))
        device = trainer.strategy.root_device
        write_pictures(load_generator(folder), store, SAMPLER, folder / "figures", device)
        for file in folder.glob("*.ckpt"):
            file.unlink()


def _datamodule(
    settings: GeneratorSettings, rows: Mixture, trainers: Trainers
) -> ParticleDataModule:
    """Batches of the train split with random symmetries; held-out images stay out of reach."""
    return ParticleDataModule(
        rows,
        heldout=None,
        batch_size=settings.batch_size,
        steps_per_epoch=settings.checkpoint_every,
        seed=settings.seed,
        transform=TrainTransform(symmetry=settings.symmetry),
        num_workers=trainers.settings.num_workers,
    )


def _checkpoint(folder: Path, every: int) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=folder,
        filename="last",
        every_n_train_steps=every,
        monitor=None,
        save_top_k=1,
        enable_version_counter=False,
    )


def _info(settings: GeneratorSettings, rows: Mixture, facts: dict[str, Any]) -> GeneratorInfo:
    store = rows.stores[0]
    resolved = {"diffusion": settings.diffusion.for_images(store.image_size)}
    return GeneratorInfo(
        settings=settings.model_copy(update=resolved),
        class_names=rows.class_names,
        image_size=store.image_size,
        pixel_size_um=store.image_pixel_um,
        training=facts,
    )


def _provenance(rows: Mixture, world_size: int) -> dict[str, Any]:
    return {
        "data": rows.stores[0].sha256,
        "images": {name: rows.real[name] for name in rows.class_names},
        "processes": world_size,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
