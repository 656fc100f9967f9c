"""The classifier stage: a network fitted to the rows of a mix, whatever is in it."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.validation import BEST, checkpoint_callbacks
from svp_lightning.config import Config
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import Mixture
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform
from svp_lightning.errors import DataError, SettingsError
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import write_json
from svp_lightning.tasks.session import Session
from svp_lightning.tasks.training import (
    announce,
    build_trainer,
    newest_checkpoint,
    require_divisible,
    require_finished,
)

RECORD = "training.json"


def prevalence_of(config: Config, store: Store) -> dict[str, float]:
    """Class name -> share in the field: the one stated, or that of the test images.

    Raises:
        SettingsError: the prevalence stated is of other classes than the data's.
    """
    stated = config.data.prevalence
    if stated is not None and set(stated) != set(store.class_names):
        raise SettingsError(
            f"data.prevalence names the classes {', '.join(stated)}, "
            f"the data has {', '.join(store.class_names)}.",
            "Give one relative frequency for each class of the data.",
        )
    frequency = stated if stated is not None else store.counts("test")
    total = sum(frequency.values())
    return {name: frequency[name] / total for name in store.class_names}


def ensure_classifier(config: Config, session: Session, store: Store, rows: Mixture) -> Path:
    """The folder of the trained classifier (``best.ckpt``, ``training.json``)."""
    require_heldout(store)
    identity = {
        "classifier": config.classifier.identity(),
        "augmentation": config.augmentation.identity(),
        "seed": config.seed,
        "prevalence": prevalence_of(config, store),
        "data": store.sha256,
        "synthetic": rows.stores[1].sha256 if len(rows.stores) > 1 else None,
    }
    make = partial(_train, config, session, store, rows)
    return session.artifacts.build("classifier", identity, make, every_rank=True)


def require_heldout(store: Store) -> None:
    """Refuse a store whose validation or test split lacks a class.

    Raises:
        DataError: naming split and class.
    """
    for split in ("val", "test"):
        lacking = [name for name, count in store.counts(split).items() if count == 0]
        if lacking:
            raise DataError(
                f"The {split} split of {store.path} has no images of {', '.join(lacking)}.",
                "Add images (of another run or vial) of that class, or raise data.fractions.",
            )


def _train(config: Config, session: Session, store: Store, rows: Mixture, folder: Path) -> None:
    settings = config.classifier
    prevalence = prevalence_of(config, store)
    module = ClassifierModule(
        settings,
        store.class_names,
        store.image_size,
        seed=config.seed,
        class_weights=None if rows.class_weights is None else rows.class_weights.tolist(),
        logit_shift=None if rows.logit_shift is None else rows.logit_shift.tolist(),
        mixup=config.augmentation.mixup,
        prevalence=[prevalence[name] for name in store.class_names],
    )
    callbacks = checkpoint_callbacks(folder)
    trainer = build_trainer(
        config, session, folder, "Classifier", callbacks, max_steps=settings.steps
    )
    require_divisible("classifier.batch_size", settings.batch_size, trainer.world_size)
    resume_from = newest_checkpoint(folder)
    if is_main_process() and resume_from is None:
        images = settings.steps * settings.batch_size
        announce(trainer, module.network, _loss, rows, images)
    trainer.fit(
        module,
        datamodule=_datamodule(config, store, rows),
        ckpt_path=str(resume_from) if resume_from else None,
        weights_only=True,
    )
    require_finished("classifier", trainer.global_step, settings.steps)
    if is_main_process():
        write_json(folder / RECORD, _record(rows, callbacks[0], trainer.global_step))
        for file in folder.glob("*.ckpt"):
            if file.name != BEST:
                file.unlink()


def _loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(network(images), labels)


def _datamodule(config: Config, store: Store, rows: Mixture) -> ParticleDataModule:
    return ParticleDataModule(
        rows,
        heldout=store,
        batch_size=config.classifier.batch_size,
        steps_per_epoch=config.classifier.validate_every,
        seed=config.seed,
        transform=TrainTransform.of(config.augmentation),
        num_workers=config.trainer.num_workers,
    )


def _record(rows: Mixture, best: Any, steps: int) -> dict[str, Any]:
    return {
        "validation_score": float(best.best_model_score),
        "real": rows.real,
        "added": rows.added,
        "rare": list(rows.rare),
        "optimizer_steps": steps,
    }
