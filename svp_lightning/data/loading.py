"""Batches for a trainer, correct under any number of processes."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from svp_lightning.data.batches import ShardedSampler, StepBatchSampler
from svp_lightning.data.dataset import Batch, Loader, ParticleDataset
from svp_lightning.data.mix import Mixture, check_training_rows
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform, to_model_range

HELD_OUT_BATCH = 512
"""Images validated at once, at least: without gradients more of them fit than train at once."""


class ParticleDataModule(pl.LightningDataModule):
    """Batches of the contract: ``image`` float in [-1, 1], ``label`` and ``index`` int64.

    Use it with ``Trainer(use_distributed_sampler=False)``: its own samplers share the work
    (training: the global batch divided; validation and test: every image exactly once).
    Images travel to the device as uint8 and are converted and transformed there.

    Args:
        mixture: rows to train on; None for evaluation alone. Rows outside the real store's
            train split are refused.
        heldout: store whose validation and test splits are loaded; None where a model must
            not see them (the generator).
        batch_size: global batch in training, whose validation takes :data:`HELD_OUT_BATCH` at
            least; without a ``mixture`` the batch of one process.
        steps_per_epoch: training batches per epoch.
        seed: of batches and transforms.
        transform: applied to training batches on the device.
        num_workers: loader processes; 0 is enough for memory-mapped stores.
        tested_split: the held-out split that is tested.
    """

    def __init__(
        self,
        mixture: Mixture | None,
        heldout: Store | None,
        batch_size: int,
        steps_per_epoch: int = 1,
        seed: int = 0,
        transform: TrainTransform = TrainTransform(),  # noqa: B008
        num_workers: int = 0,
        tested_split: str = "test",
    ) -> None:
        super().__init__()
        self.mixture = mixture
        self.heldout = heldout
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.transform = transform
        self.num_workers = num_workers
        self.tested_split = tested_split
        self._weights: dict[torch.device, Tensor] = {}

    def setup(self, stage: str) -> None:
        """Check the training rows.

        Raises:
            StoreError: a training row is held out, or a store holds images of a wrong origin.
        """
        if self.mixture is not None:
            check_training_rows(self.mixture)

    def train_dataloader(self) -> Loader:
        assert self.mixture is not None, "this data module was made for evaluation"
        trainer = self._running_trainer
        sampler = StepBatchSampler(
            self.mixture.group,
            self.mixture.composition.shares.ravel(),
            self.batch_size,
            self.steps_per_epoch,
            self.seed,
            trainer.global_rank,
            trainer.world_size,
            # The step decides, not Lightning's count of epochs, which a resumed run may begin
            # anywhere in.
            first_step=lambda: trainer.global_step,
        )
        return self._loader(ParticleDataset.of_mixture(self.mixture), sampler, _ResumableLoader)

    def val_dataloader(self) -> Loader | list[Loader]:
        return self._heldout_loader("val")

    def test_dataloader(self) -> Loader | list[Loader]:
        return self._heldout_loader(self.tested_split)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Convert, and in training transform, the images on their device."""
        images, trainer = batch["image"], self._running_trainer
        if not trainer.training or self.mixture is None:
            return {**batch, "image": to_model_range(images)}
        # Of seed, step and rank alone, so a resumed run agrees.
        key = np.random.SeedSequence([self.seed, trainer.global_step, trainer.global_rank])
        random = torch.Generator(images.device)
        random.manual_seed(int(key.generate_state(1, np.uint64)[0] >> 1))
        weight = self._weights_on(images.device)[batch["label"]]
        return {**batch, "image": self.transform(images, random), "weight": weight}

    def _weights_on(self, device: torch.device) -> Tensor:
        """(K,) weights of the classes.

        Copied once: a copy waits for all that the GPU has been given to do.
        """
        assert self.mixture is not None
        if device not in self._weights:
            weights = torch.as_tensor(self.mixture.composition.weights, dtype=torch.float32)
            self._weights[device] = weights.to(device)
        return self._weights[device]

    def _heldout_loader(self, split: str) -> Loader | list[Loader]:
        if self.heldout is None or not len(rows := self.heldout.indices(split=split)):
            return []
        trainer = self._running_trainer
        sampler = ShardedSampler(
            len(rows),
            self.batch_size if self.mixture is None else max(self.batch_size, HELD_OUT_BATCH),
            trainer.global_rank,
            trainer.world_size,
        )
        return self._loader(ParticleDataset.of_rows(self.heldout, rows), sampler)

    def _loader(
        self,
        dataset: ParticleDataset,
        sampler: Sampler[NDArray[np.int64]],
        kind: type[Loader] = DataLoader,
    ) -> Loader:
        return kind(
            dataset.images,
            batch_size=None,  # the sampler yields whole batches
            sampler=dataset.located(sampler),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self._running_trainer.strategy.root_device.type == "cuda",
        )

    @property
    def _running_trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "loaders need the trainer they belong to"
        return self.trainer


class _ResumableLoader(DataLoader[Batch]):
    """Lets Lightning resume in the middle of an epoch: its position follows from the step."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
