"""One progress bar per stage, over all its steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from svp_lightning.runtime.distributed import is_main_process

SHOWN_METRICS = {
    "generator/loss": "loss",
    "train/loss": "loss",
    "val/macro_auprc": "val AUPRC",
}
"""Logged names (documented in the two modules) and what the bar calls them."""


def bar(description: str, total: int, unit: str, initial: int = 0) -> "tqdm[Any]":
    """A bar in the project's style, silent on every process but the main one."""
    return tqdm(
        desc=f"{description:<18}",
        total=total,
        initial=initial,
        unit=unit,
        dynamic_ncols=True,
        smoothing=0.05,
        disable=not is_main_process(),
    )


@contextmanager
def counting(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for images; yields the function to call with the number just done."""
    with bar(description, total, " images") as shown:

        def advance(count: int) -> None:
            shown.update(count)

        yield advance


class StepsProgress(ProgressBar):
    """Training steps of the whole budget, with the loss and the validation score.

    Args:
        description: what is being trained; each stage fills it in.
    """

    def __init__(self, description: str = "Training") -> None:
        super().__init__()
        self.description = description
        self._enabled = True
        self._bar: tqdm[Any] | None = None

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._enabled:
            self._bar = bar(
                self.description, trainer.max_steps, " steps", initial=trainer.global_step
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)
            if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
                self._show(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._show(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _show(self, trainer: pl.Trainer) -> None:
        assert self._bar is not None
        metrics = trainer.callback_metrics
        shown = {label: f"{metrics[k]:.3f}" for k, label in SHOWN_METRICS.items() if k in metrics}
        self._bar.set_postfix(shown, refresh=False)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
