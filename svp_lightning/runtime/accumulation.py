"""The batch of an optimiser step in parts, one after another, where it does not fit at once.

Lightning's own accumulation makes a step of several batches: steps, epochs and what is drawn by
them would count otherwise. Here a step has one batch as always, and only its passes are divided.
"""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class Accumulating(pl.LightningModule):
    """A module whose ``training_step`` may divide its batch into ``parts`` of equal size."""

    parts = 1

    def accumulated(self, losses: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """Go backwards through the mean loss of each of the ``parts`` but the last.

        ``losses`` computes each when it is asked for, so the activations of one part are held at a
        time. Processes exchange gradients once, after the last.

        Returns:
            What ``training_step`` returns, and the mean loss of the whole batch.
        """
        mean = torch.zeros((), device=self.device)
        if self.parts > 1:
            self.zero_grad()
        for number, loss in enumerate(losses, start=1):
            share = loss / self.parts
            mean = mean + share.detach()
            if number < self.parts:
                self.trainer.strategy.backward(share, None)
        return share, mean

    def optimizer_zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning's, which comes after ``training_step``: too late if there are parts."""
        if self.parts == 1:
            super().optimizer_zero_grad(*args, **kwargs)
