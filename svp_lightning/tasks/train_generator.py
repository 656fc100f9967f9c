"""``task=train_generator``: a class-conditional diffusion model on the train split alone."""

import platform
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from svp_lightning.config import Config
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import Mixture, only_classes, train_rows
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform
from svp_lightning.generator.checkpoint import (
    WEIGHTS,
    Generator,
    GeneratorInfo,
    load_generator,
    save_generator,
)
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.module import GeneratorModule
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler import sample, trajectory
from svp_lightning.generator.selection import CheckpointSelection
from svp_lightning.generator.settings import GeneratorSettings, SamplerSettings
from svp_lightning.report.figures.sheets import contact_sheet, noise_to_image_strip
from svp_lightning.report.style import save_figure
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import sha256_of_file
from svp_lightning.tasks.devices import choose_device
from svp_lightning.tasks.generator_figures import write_generator_figures
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.selection import VERSION as JUDGE_VERSION
from svp_lightning.tasks.selection import Judge, require_comparable
from svp_lightning.tasks.session import Session, say
from svp_lightning.tasks.training import (
    announce,
    build_trainer,
    newest_checkpoint,
    require_divisible,
    require_finished,
)

SHEET_IMAGES = 32
STRIP_FRAMES = 9
PREVIEW_SEED = 2**31
"""Preview images are drawn from seeds far from those of any pool."""


def run(config: Config, session: Session) -> None:
    """Train the generator and say where it and its pictures are."""
    path = ensure_generator(config, session, ensure_store(config, session))
    say(f"Generator: {path}\nPictures:  {path / 'figures'}")


def ensure_generator(config: Config, session: Session, store: Store) -> Path:
    """The folder of the generator of this configuration and store, trained if missing."""
    identity: dict[str, Any] = {"generator": config.generator.identity(), "data": store.sha256}
    features = None
    if config.generator.selection.method == "fidelity":
        # Not above: features are trained like a classifier, whose mix may need a generator.
        from svp_lightning.tasks.features import ensure_features

        require_comparable(store, training_rows(config.generator, store))
        features = ensure_features(config, session, store)
        identity |= {"features": features.name, "judge": JUDGE_VERSION}
    make = partial(_train, config, session, store, features)
    return session.artifacts.build("generator", identity, make, every_rank=True)


def weights_hash(path: Path) -> str:
    """What identifies a trained generator: the SHA-256 of its weights."""
    return sha256_of_file(path / WEIGHTS)


def _train(
    config: Config, session: Session, store: Store, features: Path | None, folder: Path
) -> None:
    settings = config.generator
    rows = training_rows(settings, store)
    module = GeneratorModule(settings, store.image_size, len(rows.class_names))
    selection = None
    if features is not None:
        device = choose_device(config.trainer)
        judge = Judge(store, rows, features, settings.selection.images, device)
        selection = CheckpointSelection(settings.selection, judge)
    trainer = build_trainer(
        config,
        session,
        folder,
        "Generator",
        max_steps=settings.steps,
        limit_val_batches=0,  # no batch holds held-out images; a selection returns a score only
        # The checkpoint comes last and so holds what was judged at its step.
        callbacks=[*filter(None, [selection]), _checkpoint(folder, settings.checkpoint_every)],
    )
    require_divisible("generator.batch_size", settings.batch_size, trainer.world_size)
    resume_from = newest_checkpoint(folder)
    if is_main_process() and resume_from is None:
        images = settings.steps * settings.batch_size
        announce(trainer, module.denoiser, Denoiser.loss, rows, images)
    trainer.fit(
        module,
        datamodule=_datamodule(config, rows),
        ckpt_path=str(resume_from) if resume_from else None,
    )
    if selection is None or not selection.exhausted:
        require_finished("generator", trainer.global_step, settings.steps)
    if is_main_process():
        facts = _provenance(store, rows, trainer.world_size)
        if selection is not None:
            selection.restore_best(module)
            facts["selection"] = selection.record()
            say(f"  Kept the weights of step {selection.best_step:,} of {trainer.global_step:,}")
        resolved = {"diffusion": settings.diffusion.for_images(store.image_size)}
        info = GeneratorInfo(
            settings=settings.model_copy(update=resolved),
            class_names=rows.class_names,
            image_size=store.image_size,
            pixel_size_um=store.pixel_size_um,
            training=facts,
        )
        save_generator(folder, module.trained_denoiser, info)
        preview(load_generator(folder), store, folder / "figures", trainer.strategy.root_device)
        for file in folder.glob("*.ckpt"):
            file.unlink()


def training_rows(settings: GeneratorSettings, store: Store) -> Mixture:
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


def preview(generator: Generator, store: Store, folder: Path, device: torch.device) -> None:
    """Write a sheet of real and generated images per class, and the way from noise to image.

    The default sampler is used, so that a generator does not depend on the sampler chosen.
    """
    settings = SamplerSettings()
    names = generator.info.class_names
    for label, name in enumerate(names):
        seeds = image_seeds(settings.seed, name, PREVIEW_SEED, PREVIEW_SEED + SHEET_IMAGES)
        labels = np.full(SHEET_IMAGES, label)
        drawn = sample(generator.denoiser, labels, seeds, settings, device)
        rows = store.indices("train", store.class_names.index(name))
        real = store.images[rows[:SHEET_IMAGES]]
        panels = {"Real (training)": np.asarray(real), "Generated": drawn}
        sheet = contact_sheet(panels, title=name, pixel_size_um=store.pixel_size_um)
        save_figure(sheet, folder / f"contact_sheet_{name}.png")
    # Nothing can be seen in the first steps: show pure noise once, then the way out of it.
    shares = np.r_[0, np.linspace(0.45, 1, STRIP_FRAMES - 1)]
    at = np.unique((shares * settings.steps).round().astype(int)).tolist()
    seeds = np.concatenate(
        [image_seeds(settings.seed, name, PREVIEW_SEED, PREVIEW_SEED + 1) for name in names]
    )
    frames, _ = trajectory(generator.denoiser, np.arange(len(names)), seeds, settings, at, device)
    strip = noise_to_image_strip(
        frames.swapaxes(0, 1), [f"{k}/{settings.steps}" for k in at], names
    )
    save_figure(strip, folder / "noise_to_image.png")
    write_generator_figures(generator, store, folder, device)


def _datamodule(config: Config, rows: Mixture) -> ParticleDataModule:
    """Batches of the train split with random symmetries; held-out images stay out of reach."""
    settings = config.generator
    return ParticleDataModule(
        rows,
        heldout=None,
        batch_size=settings.batch_size,
        steps_per_epoch=settings.checkpoint_every,
        seed=settings.seed,
        transform=TrainTransform(symmetry=settings.symmetry),
        num_workers=config.trainer.num_workers,
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


def _provenance(store: Store, rows: Mixture, world_size: int) -> dict[str, Any]:
    return {
        "data": store.sha256,
        "images": {name: rows.real[name] for name in rows.class_names},
        "processes": world_size,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
