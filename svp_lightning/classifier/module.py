"""The classifier's Lightning shell: loss, schedule, validation score, collected predictions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from svp_lightning.classifier.backbones import load_pretrained
from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.optimisation import (
    optimizer_of,
    seed_step,
    share_statistics,
    warmup_cosine,
)
from svp_lightning.classifier.settings import ClassifierSettings
from svp_lightning.classifier.validation import (
    TRAINING_LOSS,
    VALIDATION_SCORE,
    Collected,
    Collector,
)
from svp_lightning.errors import TrainingError
from svp_lightning.runtime.accumulation import Accumulating
from svp_lightning.runtime.divergence import Divergence

FINITE_CHECK_STEPS = 50
"""Steps between looks at the loss: each look makes the CPU wait for the GPU."""


class ClassifierModule(Classifier, Accumulating):
    """Trains, validates and tests a particle classifier.

    Batches are dicts: ``image`` (B, 1, H, W) float in [-1, 1], ``label`` (B,) int64, ``index``
    (B,) int64 row in the store, in training ``weight`` (B,) float as well, the weight of each image
    in the loss. Everything random in step t is a function of (seed, t, rank),
    so a resumed run equals an uninterrupted one.

    Args:
        settings: network, optimiser and schedule.
        class_names: see :class:`.Classifier`, as ``image_size`` and ``trained_shares``, which are
            kept in the checkpoint.
        seed: of the initial weights and stochastic depth.
        logit_shift: K numbers added to the logits in the loss alone (logit adjustment, Menon et
            al. 2021, https://arxiv.org/abs/2007.07314). Predictions leave them out.
        mixup: Beta parameter of mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412),
            one share per batch of a process; 0 for none.
        score: what validation logs (:data:`~.validation.VALIDATION_SCORE`), from the predictions
            of the whole split; None: nothing.
        parts: of a batch, in which it goes through the network (see :class:`.Accumulating`).

    Attributes:
        newest_score: of the last validation; None: there was none.
        test_predictions: after ``Trainer.test``, every tested image once, on every process.

    Raises:
        SettingsError: the backbone cannot be built for this image size.
    """

    logit_shift: Tensor | None

    def __init__(
        self,
        settings: ClassifierSettings,
        class_names: Sequence[str],
        image_size: int,
        *,
        seed: int = 0,
        logit_shift: Sequence[float] | None = None,
        mixup: float = 0.0,
        trained_shares: Mapping[str, float] | None = None,
        score: Callable[[Collected], Mapping[str, float]] | None = None,
        wide_stem: bool | None = None,
        parts: int = 1,
    ) -> None:
        super().__init__(settings, class_names, image_size, seed, trained_shares, wide_stem)
        # A process without test images still joins the others (see ``teardown``).
        self.allow_zero_length_dataloader_with_multiple_devices = True
        # Plain data only: checkpoints must load with weights_only=True.
        self.save_hyperparameters(
            {
                "settings": settings.model_dump(mode="json"),
                "class_names": list(class_names),
                "image_size": image_size,
                "seed": seed,
                "logit_shift": _plain(logit_shift),
                "mixup": mixup,
                "trained_shares": self.trained_shares,
            },
            logger=False,
        )
        self.score, self.parts = score, parts
        shift = None if logit_shift is None else torch.tensor(_plain(logit_shift))
        self.register_buffer("logit_shift", shift, persistent=False)
        self.mixup = mixup
        self.newest_score: float | None = None
        self.test_predictions: Collected | None = None
        self._collector = Collector(len(class_names))
        self._divergence = Divergence()

    # Training

    def setup(self, stage: str) -> None:
        """Read pretrained weights, if a fit starts, and let processes share batch statistics.

        Raises:
            CheckpointError: the pretrained weights do not fit.
        """
        if stage != "fit":
            return
        if self.settings.pretrained_weights is not None and self.trainer.ckpt_path is None:
            load_pretrained(self.network, self.settings.pretrained_weights)
        if self.trainer.world_size > 1:
            share_statistics(self.network)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch."""
        seed_step(self.seed, self.global_step, self.global_rank, self.device)
        last, loss = self.accumulated(self._losses(batch))
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            # Not for the trainer's own bar: it would wait for the GPU after each later step.
            self.log(TRAINING_LOSS, loss)
        self._divergence.look("the classifier's loss", loss, self.global_step + 1)
        return last

    def _losses(self, batch: dict[str, Tensor]) -> Iterator[Tensor]:
        """Of each part of a batch; what is drawn is drawn for the whole of it."""
        images, share = batch["image"], 1.0
        mixed = dict(batch)
        if self.mixup > 0:
            share = torch.distributions.Beta(self.mixup, self.mixup).sample().item()
            partner = torch.randperm(len(images), device=images.device)
            mixed["image"] = torch.lerp(images[partner], images, share)
            mixed |= {f"other_{k}": v[partner] for k, v in batch.items() if k != "image"}
        for part in _in_parts(mixed, self.parts):
            logits = self(part["image"]).float()
            loss = self.loss(logits, part["label"], part.get("weight"))
            if self.mixup > 0:
                other = self.loss(logits, part["other_label"], part.get("other_weight"))
                loss = share * loss + (1 - share) * other
            yield loss

    def loss(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Mean over the images of weight times loss.

        It is not divided by the batch's own weights: a batch without rare images would then count
        as much as one with many, which undoes the weights.

        Args:
            logits: (B, K).
            target: (B,) labels, or (B, K) shares of the classes.
            weight: (B,) weights, 1 on average over the training; None: 1.
        """
        shifted = logits if self.logit_shift is None else logits + self.logit_shift
        losses = cross_entropy(shifted, target, reduction="none")
        return losses.mean() if weight is None else (weight * losses).mean()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop a diverged run, on all processes together.

        Raises:
            TrainingError: a loss was not a finite number.
        """
        if self.global_step % FINITE_CHECK_STEPS == 0:
            self._refuse_divergence()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser, and its schedule over the optimiser steps."""
        optimizer = optimizer_of(self.network, self.settings)
        scheduler = LambdaLR(optimizer, warmup_cosine(self.settings))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    # Validation

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Keep the predictions of one batch."""
        self._collect(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the score over all processes' images, the same value on each process.

        Raises:
            TrainingError: the network no longer predicts numbers.
        """
        found = self._collector.join()
        self._refuse_divergence()  # which names the step at which it began
        if not np.isfinite(found.probability).all():
            raise TrainingError(
                f"A predicted probability is not a finite number at step {self.global_step:,}.",
                self._remedy,
            )
        scores = self.score(found) if self.score else {}
        self.newest_score = scores.get(VALIDATION_SCORE)
        for name, value in scores.items():
            self.log(name, value, prog_bar=name == VALIDATION_SCORE)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the newest score, for an attempt that finds all steps taken."""
        checkpoint[VALIDATION_SCORE] = self.newest_score

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        self.newest_score = checkpoint.get(VALIDATION_SCORE)

    def _refuse_divergence(self) -> None:
        smallest = partial(self.trainer.strategy.reduce, reduce_op="min")
        self._divergence.refuse(self._remedy, smallest)

    @property
    def _remedy(self) -> str:
        return (
            f"Lower classifier.learning_rate (now {self.settings.learning_rate:g}), or "
            "features.classifier.learning_rate where that network is trained, "
            "or train in full precision (trainer.precision=32-true)."
        )

    # Test

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Keep the predictions of one batch."""
        self._collect(batch)

    def teardown(self, stage: str) -> None:
        """Join the test predictions.

        Lightning skips the epoch's end on a process without test batches, but not this hook.
        """
        if stage == "test":
            self.test_predictions = self._collector.join()

    def _collect(self, batch: dict[str, Tensor]) -> None:
        probability = self.probabilities(batch["image"])
        self._collector.add(batch["index"], batch["label"], probability)


def _plain(numbers: Sequence[float] | None) -> list[float] | None:
    return None if numbers is None else [float(number) for number in numbers]


def _in_parts(values: Mapping[str, Tensor], parts: int) -> Iterator[dict[str, Tensor]]:
    """Tensors of one length, divided into ``parts`` of equal size."""
    chunks = zip(*(tensor.chunk(parts) for tensor in values.values()), strict=True)
    return (dict(zip(values, chunk, strict=True)) for chunk in chunks)
