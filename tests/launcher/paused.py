"""A callback for the cell of test_requeue."""

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class PauseOnce(pl.Callback):
    """Halts the first attempt after a step, with its process id in a file, until SIGTERM."""

    def __init__(self, step: int, file: str) -> None:
        self.step, self.file = step, Path(file)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if trainer.global_step == self.step and not self.file.exists():
            written = self.file.with_suffix(".part")
            written.write_text(str(os.getpid()))
            written.rename(self.file)
            while not trainer.received_sigterm:
                time.sleep(0.05)
