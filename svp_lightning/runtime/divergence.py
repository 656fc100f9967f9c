"""Noticing in a training what is no finite number any more, and at which step it began."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from svp_lightning.errors import TrainingError

BEYOND = 1e6
"""Losses and gradients begin near 1; a training that exceeds this does not come back."""


class Divergence:
    """The first step at which each watched quantity was not finite, or beyond :data:`BEYOND`.

    Looking at a value leaves it on its device; :meth:`refuse` waits for it.
    """

    def __init__(self) -> None:
        self._first: dict[str, Tensor] = {}

    def look(self, what: str, value: Tensor, step: int) -> None:
        """Watch ``value``, one number, of the quantity ``what`` at ``step`` (from 1)."""
        fine = value.detach().abs() <= BEYOND  # False of what is not a number
        first = torch.where(fine, math.inf, float(step))
        self._first[what] = first.minimum(self._first.get(what, first))

    def refuse(self, remedy: str, earliest: Callable[[Tensor], Tensor] = lambda own: own) -> None:
        """Stop a diverged training; ``remedy`` says what to do about it.

        ``earliest`` gives the smallest of all processes' numbers; every process calls it alike.

        Raises:
            TrainingError: naming the quantity that failed first, and the step.
        """
        steps = {what: earliest(own).item() for what, own in self._first.items()}
        what = min(steps, key=lambda name: steps[name], default="")
        if what and steps[what] < math.inf:
            raise TrainingError(
                f"The training has diverged: {what} is not a finite number, or above {BEYOND:g}, "
                f"from step {steps[what]:,.0f} on.",
                remedy,
            )
