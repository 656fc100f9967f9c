"""Training a denoiser with Lightning: optimiser, average, repeatable randomness."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from svp_lightning.generator.checkpoint import Generator, copy_weights
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.muon import Muon
from svp_lightning.generator.settings import GeneratorSettings
from svp_lightning.generator.warping import augment
from svp_lightning.runtime.accumulation import Accumulating
from svp_lightning.runtime.divergence import Divergence

CHECK_EVERY = 20
"""Steps between looks at the loss; each look makes a GPU wait for its queue."""


class AveragedDenoiser(nn.Module):
    """An exponential moving average of the denoiser's weights, from a copy of it.

        average <- d_n average + (1 - d_n) weights,   d_n = min(decay, (1 + n) / (10 + n))

    The rising decay lets a short run forget its random start. The average is a submodule of the
    Lightning module and n is the trainer's step, so checkpoints and resuming need nothing.
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


class GeneratorModule(Accumulating):
    """Trains a :class:`Denoiser`; logs ``generator/loss`` per step.

    A step's times, noise, hidden labels and dropout depend on (seed, step, rank) alone, so a
    resumed run equals an uninterrupted one and processes differ.

    Raises:
        SettingsError: the network does not fit the image size.
    """

    def __init__(
        self, settings: GeneratorSettings, image_size: int, num_classes: int, parts: int = 1
    ) -> None:
        """``parts``: of a batch, in which it goes through the network."""
        super().__init__()
        self.settings, self.parts = settings, parts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.denoiser = Denoiser(settings, image_size, num_classes)
        self.average = (
            None
            if settings.ema_decay is None
            else AveragedDenoiser(self.denoiser, settings.ema_decay)
        )
        self._divergence = Divergence()

    @property
    def trained_denoiser(self) -> Denoiser:
        """The denoiser to sample from: the average of the weights where there is one."""
        return self.denoiser if self.average is None else self.average.denoiser

    @property
    def processes(self) -> int:
        """How many share each batch."""
        return self.trainer.world_size

    def start_from(self, generator: Generator, class_names: Sequence[str]) -> None:
        """Take the weights of a trained generator; classes, in label order, are matched by name.

        A class that it has not learnt starts as its "any class".

        Raises:
            CheckpointError: it has another network, or another noising process.
        """
        copy_weights(generator, self.denoiser, class_names)
        if self.average is not None:
            self.average.denoiser.load_state_dict(self.denoiser.state_dict())

    def learn_traits(self, images: Mapping[int, Tensor]) -> None:
        """Label -> training images (n, 1, H, W) in [-1, 1] whose traits new images shall have."""
        for denoiser in {self.denoiser, self.trained_denoiser}:
            for label, of_class in images.items():
                denoiser.learn_traits(label, of_class)

    def on_fit_start(self) -> None:
        if self.device.type == "cuda":  # tensor cores read channels last; CPUs gain nothing
            self.to(memory_format=torch.channels_last)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        key = [self.settings.seed, self.global_step, self.global_rank]
        state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
        # torch.manual_seed seeds all devices and, without a GPU, formats a stack trace each time.
        torch.default_generator.manual_seed(state)
        if self.device.type != "cpu":
            getattr(torch, self.device.type).manual_seed(state)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch with ``image`` (B, 1, H, W) in [-1, 1] and ``label`` (B,)."""
        images, augmentation = batch["image"], None
        if self.settings.augmentation:
            images, augmentation = augment(images, self.settings.augmentation)
        process = self.global_rank, self.processes
        losses = self.denoiser.losses(
            images, batch["label"], None, augmentation, process, self.parts
        )
        last, loss = self.accumulated(losses)
        self._divergence.look("the generator's loss", loss, self.global_step + 1)
        if self.global_step % CHECK_EVERY == 0:
            self._refuse_divergence()
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            # Not for the trainer's own bar: it would wait for the GPU after each later step.
            self.log("generator/loss", loss)
        return last

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        parameters, limit = self.denoiser.parameters(), self.settings.gradient_clip
        length = torch.nn.utils.clip_grad_norm_(parameters, limit)
        # In float16 gradients are scaled until they overflow now and then; such steps are left out.
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self._divergence.look("the generator's gradient", length, self.global_step + 1)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # Here and not at the batch's end, where checkpoint callbacks come first. The trainer
        # counts the step only when this method has returned.
        if self.average is not None:
            self.average.update(self.denoiser, self.global_step + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._refuse_divergence()

    def on_train_end(self) -> None:
        self._refuse_divergence()

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

    def _refuse_divergence(self) -> None:
        self._divergence.refuse(
            f"Lower generator.learning_rate (now {self.settings.learning_rate:g}), or train in "
            "full precision (trainer.precision=32-true).",
            partial(self.trainer.strategy.reduce, reduce_op="min"),
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
