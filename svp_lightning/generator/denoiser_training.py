"""Training a denoiser with Lightning: optimiser, average, repeatable randomness, selection."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from svp_lightning.errors import TrainingError
from svp_lightning.generator.denoiser import Denoiser, build_denoiser
from svp_lightning.generator.muon import Muon
from svp_lightning.generator.settings import GeneratorSettings, SelectionSettings
from svp_lightning.generator.warping import augment

CHECK_EVERY = 20
"""Steps between looks at the loss; each look makes a GPU wait for its queue."""


class AveragedDenoiser(nn.Module):
    """An exponential moving average of the denoiser's weights.

        average <- d_n average + (1 - d_n) weights,   d_n = min(d, (1 + n) / (10 + n))

    The rising decay lets a short run forget its random start. The average is a submodule of the
    Lightning module and n is the trainer's step, so checkpoints and resuming need nothing.

    Args:
        denoiser: copied as the start of the average.
        decay: d, between 0 and 1.
    """

    def __init__(self, denoiser: Denoiser, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.denoiser = deepcopy(denoiser).requires_grad_(False)

    @torch.no_grad()
    def update(self, denoiser: Denoiser, step: int) -> None:
        """Move towards ``denoiser`` after optimiser step number ``step``, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.denoiser.parameters()), list(denoiser.parameters()), 1 - decay
        )


class GeneratorModule(pl.LightningModule):
    """Trains a :class:`Denoiser`; logs ``generator/loss`` per step.

    A step's times, noise, hidden labels and dropout depend on (seed, step, rank) alone, so a
    resumed run equals an uninterrupted one and processes differ.

    Args:
        settings: network and training.
        image_size: H = W, px.
        num_classes: K.

    Raises:
        SettingsError: the network does not fit the image size.
    """

    def __init__(self, settings: GeneratorSettings, image_size: int, num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.denoiser = build_denoiser(settings, image_size, num_classes)
        self.average = (
            None
            if settings.ema_decay is None
            else AveragedDenoiser(self.denoiser, settings.ema_decay)
        )
        self._latest_loss: Tensor | None = None

    @property
    def trained_denoiser(self) -> Denoiser:
        """The denoiser to sample from: the average of the weights where there is one."""
        return self.denoiser if self.average is None else self.average.denoiser

    def on_fit_start(self) -> None:
        if self.device.type == "cuda":  # tensor cores read channels last; CPUs gain nothing
            self.to(memory_format=torch.channels_last)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        key = [self.settings.seed, self.global_step, self.global_rank]
        state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
        # torch.manual_seed seeds all devices and, without a GPU, formats a stack trace each time.
        torch.default_generator.manual_seed(state)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(state)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch with ``image`` (B, 1, H, W) in [-1, 1] and ``label`` (B,)."""
        images, augmentation = batch["image"], None
        if self.settings.augmentation:
            images, augmentation = augment(images, self.settings.augmentation)
        loss = self.denoiser.loss(images, batch["label"], augmentation=augmentation)
        self._latest_loss = loss.detach()
        if self.global_step % CHECK_EVERY == 0:
            self._require_finite_loss()
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("generator/loss", self._latest_loss, prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), self.settings.gradient_clip)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # Here and not at the batch's end, where checkpoint callbacks come first. The trainer
        # counts the step only when this method has returned.
        if self.average is not None:
            self.average.update(self.denoiser, self.global_step + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._require_finite_loss()

    def on_train_end(self) -> None:
        self._require_finite_loss()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.denoiser, self.settings)
        scheduler = LambdaLR(optimizer, self._learning_rate_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then constant or half a cosine down to zero."""
        warmup, steps = self.settings.warmup_steps, self.settings.steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.settings.decay == "constant":
            return 1.0
        progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
        return float(0.5 * (1 + np.cos(np.pi * progress)))

    def _require_finite_loss(self) -> None:
        if self._latest_loss is not None and not torch.isfinite(self._latest_loss):
            raise TrainingError(
                f"The generator's loss is not a number at step {self.global_step}.",
                "Lower generator.learning_rate (for example by 3), or train with "
                "trainer.precision=32-true.",
            )


def build_optimizer(network: nn.Module, settings: GeneratorSettings) -> Optimizer:
    """Over all parameters of ``network``.

    Muon's matrices are the weights of linear and convolutional layers; norms, biases and the
    embedding of classes are no maps from one space to another and left to its AdamW.
    """
    lr, weight_decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw":
        return AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    matrices = [layer.weight for layer in layers]
    taken = {id(weight) for weight in matrices}
    others = [p for p in network.parameters() if id(p) not in taken]
    return Muon(matrices, others, lr=lr, weight_decay=weight_decay)


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
    chooses as an uninterrupted one. The main process judges; the others get the verdict.

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
        """Everything needed to resume, tensors and plain numbers only."""
        return {
            "checks": {step: asdict(check) for step, check in self.checks.items()},
            "best_step": self.best_step,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.checks = {step: Check(**values) for step, values in state_dict["checks"].items()}
        self.best_step = state_dict["best_step"]
        self.best_weights = state_dict["best_weights"]
