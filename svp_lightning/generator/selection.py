"""Keeping the best weights of a training, and stopping it when they no longer get better."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.module import GeneratorModule
from svp_lightning.generator.settings import SelectionSettings


@dataclass(frozen=True)
class Check:
    """How good the weights of one step were, judged on held-out real images.

    Attributes:
        distance: kernel distance, the mean over classes; smaller is better.
        copies: largest share of a class's images that look copied, 0 to 1.
        novel: whether no class shows significant signs of copying.
    """

    distance: float
    copies: float
    novel: bool

    def better_than(self, other: "Check") -> bool:
        """Novelty first; then the distance, or among copiers the share of copies."""
        return self._rank() < other._rank()

    def _rank(self) -> tuple[bool, float]:
        return not self.novel, self.distance if self.novel else self.copies


class CheckpointSelection(pl.Callback):
    """Judges the weights to sample from as training goes, and keeps the best.

    Checks and the best weights live in the trainer's own checkpoints, so a resumed training
    chooses as an uninterrupted one. The main process judges; the others learn the verdict.

    Args:
        settings: when to judge and when to stop.
        judge: from a denoiser (a copy in evaluation mode, on the trainer's device) to its check;
            called on the main process only, must not depend on global randomness.
    """

    def __init__(self, settings: SelectionSettings, judge: Callable[[Denoiser], Check]) -> None:
        self.settings = settings
        self.judge = judge
        self.checks: dict[int, Check] = {}
        self.best_step = 0
        self.best_weights: dict[str, Tensor] = {}

    @property
    def exhausted(self) -> bool:
        """Whether the patience has run out."""
        since = sum(step > self.best_step for step in self.checks)
        return self.settings.patience is not None and since >= self.settings.patience

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A training that had stopped when it was saved stays stopped."""
        trainer.should_stop = trainer.should_stop or self.exhausted

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        step = trainer.global_step
        due = step % self.settings.every == 0 or step == trainer.max_steps
        if not due or step in self.checks:
            return
        assert isinstance(pl_module, GeneratorModule)
        denoiser = pl_module.trained_denoiser
        found: Check | None = None
        if trainer.is_global_zero:
            found = self.judge(deepcopy(denoiser).eval())
        check = trainer.strategy.broadcast(found)
        assert check is not None
        self.checks[step] = check
        if len(self.checks) == 1 or check.better_than(self.checks[self.best_step]):
            self.best_step = step
            self.best_weights = {
                name: value.detach().cpu().clone() for name, value in denoiser.state_dict().items()
            }
        trainer.should_stop = trainer.should_stop or self.exhausted

    def restore_best(self, module: GeneratorModule) -> None:
        """Put the best weights into the module's denoiser to sample from."""
        module.trained_denoiser.load_state_dict(self.best_weights)

    def record(self) -> dict[str, Any]:
        """What was judged and chosen, as plain JSON values."""
        checks = [{"step": step, **asdict(check)} for step, check in self.checks.items()]
        return {"step": self.best_step, "checks": checks}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, tensors and plain numbers only."""
        return {
            "checks": {step: asdict(check) for step, check in self.checks.items()},
            "best_step": self.best_step,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.checks = {step: Check(**values) for step, values in state_dict["checks"].items()}
        self.best_step = state_dict["best_step"]
        self.best_weights = state_dict["best_weights"]
