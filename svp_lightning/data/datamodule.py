"""Loaders for training, validation and test, correct under any number of processes."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from svp_lightning.data.dataset import Batch, ParticleDataset
from svp_lightning.data.mix import Mixture, check_training_rows
from svp_lightning.data.sampler import ShardedSampler, StepBatchSampler
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform, to_model_range


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
        batch_size: global batch in training; batch of one process in evaluation.
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
        steps_per_epoch: int,
        seed: int,
        transform: TrainTransform,
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
        self._generator: torch.Generator | None = None

    def setup(self, stage: str) -> None:
        """Check the training rows.

        Raises:
            StoreError: a training row is held out, or a store holds images of a wrong origin.
        """
        if self.mixture is not None:
            check_training_rows(self.mixture)

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.mixture is not None, "this data module was made for evaluation"
        trainer = self._running_trainer()
        sampler = StepBatchSampler(
            len(self.mixture),
            self.batch_size,
            self.steps_per_epoch,
            self.seed,
            self.mixture.sampling_weights,
            trainer.global_rank,
            trainer.world_size,
            # The step decides, not Lightning's count of epochs, which a resumed run may begin
            # anywhere in.
            first_step=lambda: trainer.global_step,
        )
        return self._loader(ParticleDataset.of_mixture(self.mixture), sampler, _ResumableLoader)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        return self._heldout_loader("val")

    def test_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        return self._heldout_loader(self.tested_split)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Convert, and in training transform, the images on their device."""
        images = batch["image"]
        if self._running_trainer().training:
            images = self.transform(images, self._generator_for_step(images.device))
        else:
            images = to_model_range(images)
        return {**batch, "image": images}

    def _generator_for_step(self, device: torch.device) -> torch.Generator:
        """A generator that depends on seed, step and rank alone, so a resumed run agrees."""
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device)
        trainer = self._running_trainer()
        key = np.random.SeedSequence([self.seed, trainer.global_step, trainer.global_rank])
        self._generator.manual_seed(int(key.generate_state(1, np.uint64)[0] >> 1))
        return self._generator

    def _heldout_loader(self, split: str) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        if self.heldout is None:
            return []
        rows = self.heldout.indices(split=split)
        if len(rows) == 0:
            return []
        trainer = self._running_trainer()
        sampler = ShardedSampler(
            len(rows), self.batch_size, trainer.global_rank, trainer.world_size
        )
        return self._loader(ParticleDataset.of_rows(self.heldout, rows), sampler)

    def _loader(
        self,
        dataset: ParticleDataset,
        sampler: Sampler[NDArray[np.int64]],
        kind: type[DataLoader[Batch]] = DataLoader,
    ) -> DataLoader[Batch]:
        return kind(
            dataset,
            batch_size=None,  # the sampler yields whole batches
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self._running_trainer().strategy.root_device.type == "cuda",
        )

    def _running_trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "loaders need the trainer they belong to"
        return self.trainer


class _ResumableLoader(DataLoader[Batch]):
    """Tells Lightning that resuming in the middle of an epoch is safe.

    There is no state to keep: the position follows from the trainer's own counters.
    """

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def loader_of_rows(
    store: Store, rows: NDArray[np.int64], batch_size: int, num_workers: int = 0
) -> DataLoader[Batch]:
    """Rows of a store in order, once each, as uint8 batches, for use without a trainer."""
    return DataLoader(
        ParticleDataset.of_rows(store, rows),
        batch_size=None,
        sampler=ShardedSampler(len(rows), batch_size),
        num_workers=num_workers,
    )
