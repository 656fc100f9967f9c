"""Checkpoints of a classifier: the best by the validation score, and the last to resume from."""

from pathlib import Path

from pytorch_lightning.callbacks import ModelCheckpoint

from svp_lightning.classifier.validation import VALIDATION_SCORE

BEST = "best.ckpt"
LAST = "last.ckpt"


def checkpoint_callbacks(directory: Path, every_n_epochs: int = 1) -> list[ModelCheckpoint]:
    """Write ``best.ckpt`` after each better validation and ``last.ckpt`` to resume from.

    The best comes first, so that the last checkpoint knows of it: a run resumed from there
    replaces it only by a better one. Both are written at the end of the validation, which is
    after the last step of an epoch.

    Args:
        directory: where the two files go.
        every_n_epochs: epochs (of ``validate_every`` steps) between writes of the last.
    """
    best = ModelCheckpoint(
        dirpath=directory,
        filename=Path(BEST).stem,
        monitor=VALIDATION_SCORE,
        mode="max",
        save_top_k=1,
        save_weights_only=True,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(
        dirpath=directory,
        filename=Path(LAST).stem,
        monitor=None,
        save_top_k=1,
        every_n_epochs=every_n_epochs,
        # Resumed from a checkpoint of the train epoch's end, Trainer(max_steps=...) of
        # Lightning 2.6 counts the epoch twice and leaves out an epoch of data.
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    return [best, last]
