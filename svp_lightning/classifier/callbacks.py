"""Checkpoints of a classifier: the best by the validation score, and the last to resume from."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

from svp_lightning.classifier.validation import VALIDATION_SCORE

BEST = "best.ckpt"
LAST = "last.ckpt"


class MovableCheckpoint(ModelCheckpoint):
    """Goes on where it was, also where the folder was moved between two attempts.

    Lightning's forgets the best score with another ``dirpath``: the next validation then
    counts as the best, however bad it is.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, with the files in this folder."""
        moved = dict(state_dict) | {"dirpath": self.dirpath}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[name] = self._here(state_dict[name])
        best = state_dict["best_k_models"]
        moved["best_k_models"] = {self._here(path): score for path, score in best.items()}
        super().load_state_dict(moved)

    def _here(self, path: str) -> str:
        assert self.dirpath is not None
        return str(Path(self.dirpath) / Path(path).name) if path else ""


def checkpoint_callbacks(directory: Path, every_n_epochs: int = 1) -> list[MovableCheckpoint]:
    """Write ``best.ckpt`` after each better validation and ``last.ckpt`` to resume from.

    The best comes first, so that the last checkpoint knows of it: a run resumed from there
    replaces it only by a better one. Both are written at the end of the validation, which is
    after the last step of an epoch.

    Args:
        directory: where the two files go.
        every_n_epochs: epochs (of ``validate_every`` steps) between writes of the last.
    """
    best = MovableCheckpoint(
        dirpath=directory,
        filename=Path(BEST).stem,
        monitor=VALIDATION_SCORE,
        mode="max",
        save_top_k=1,
        save_weights_only=True,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    last = MovableCheckpoint(
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
