"""Run by test_two_processes: trains small networks, and tests one, in two forked processes."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.validation import VALIDATION_SCORE
from svp_lightning.generator.denoiser_training import GeneratorModule
from svp_lightning.stages.classifier_training import validation_score
from tests import configured
from tests.generator.small import small_settings

NAMES = ("protein", "silicone_oil", "air_bubble")


class Images(torch.utils.data.Dataset):
    def __init__(self, num_images):
        generator = torch.Generator().manual_seed(0)
        self.image = torch.rand(num_images, 1, 16, 16, generator=generator) * 2 - 1
        self.label = torch.arange(num_images) % 3

    def __len__(self):
        return len(self.label)

    def __getitem__(self, rows):
        rows = torch.as_tensor(rows)
        return {"image": self.image[rows], "label": self.label[rows], "index": rows}


class Rank(pl.LightningDataModule):
    """Each process gets every other row; with one row, the second process gets none."""

    def __init__(self, num_images, batch_size):
        super().__init__()
        self.data, self.batch_size = Images(num_images), batch_size

    def loader(self, padded=False):
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        rows = np.arange(rank, len(self.data), processes)
        if padded and len(rows) * processes < len(self.data) + rank:
            rows = np.append(rows, 0)
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        return DataLoader(self.data, batch_size=None, sampler=batches)

    def train_dataloader(self):
        return self.loader()

    def val_dataloader(self):
        return self.loader(padded=True)

    def test_dataloader(self):
        return self.loader()


def trainer(processes, out, name="validated", **arguments):
    return pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=[Save(out, name)],
        **arguments,
    )


class Save(pl.Callback):
    """Writes what each process found, since forked processes take it with them."""

    def __init__(self, out, name):
        self.out, self.name = out, name

    def on_validation_end(self, trainer, module):
        score = trainer.callback_metrics[VALIDATION_SCORE].item()
        np.savez(self.file(trainer), score=score, weights=weights(module))

    def on_train_end(self, trainer, module):
        if isinstance(module, GeneratorModule):
            start = GeneratorModule(module.settings, 16, len(NAMES))
            np.savez(self.file(trainer), weights=weights(module), start=weights(start))

    def file(self, trainer):
        return self.out / f"{self.name}-{trainer.world_size}-{trainer.global_rank}.npz"


def weights(module):
    return torch.cat([p.flatten().float() for p in module.state_dict().values()])


class Module(ClassifierModule):
    def teardown(self, stage):
        super().teardown(stage)
        if stage == "test":
            found = self.test_predictions
            name = f"test-{len(found.index)}-{self.trainer.global_rank}.npz"
            np.savez(self.trainer.callbacks[0].out / name, **vars(found))


class InTurn(GeneratorModule):
    """Two ranks in one process: each half of a batch with the randomness of its rank."""

    global_rank, processes = 0, 2

    def training_step(self, batch, batch_idx):
        losses = []
        for self.global_rank in (0, 1):
            self.on_train_batch_start(batch, batch_idx)
            half = {name: values[self.global_rank :: 2] for name, values in batch.items()}
            losses.append(super().training_step(half, batch_idx))
        return sum(losses) / 2


def train_generators(out, name, dropout, parts):
    settings = small_settings(batch_size=8, warmup_steps=0, network={"dropout": dropout})
    for processes, kind in ((2, GeneratorModule), (1, InTurn)):
        module = kind(settings, 16, len(NAMES), parts if processes > 1 else 1)
        options = {"max_steps": 3, "limit_val_batches": 0}
        trainer(processes, out, name, **options).fit(
            module, datamodule=Rank(24, settings.batch_size // processes)
        )


def main(out):
    torch.set_num_threads(1)
    # SGD: the first step of AdamW has the sign of a gradient alone, also where it is rounding.
    changes = {"optimizer": "sgd", "learning_rate": 0.05, "warmup_steps": 0}
    settings = configured.classifier(
        steps=2, validate_every=1, batch_size=8, stem_stride=4, **changes
    )
    for num_images in (1, 5):
        module = Module(settings, NAMES, 16)
        trainer(2, out).test(module, datamodule=Rank(num_images, 2), verbose=False)
    trained, in_use = dict.fromkeys(NAMES, 1 / 3), dict(zip(NAMES, [10, 1, 1], strict=True))
    score = partial(validation_score, NAMES, trained, in_use)
    module = Module(settings, NAMES, 16, score=score)
    trainer(2, out, max_epochs=1, limit_train_batches=1).fit(module, datamodule=Rank(9, 4))
    for name, parts, processes in (("alone", 1, 1), ("alone_parts", 2, 1), ("both_parts", 2, 2)):
        other = Module(settings, NAMES, 16, score=score, parts=parts)
        trained_by = trainer(processes, out, name, max_epochs=1, limit_train_batches=1)
        trained_by.fit(other, datamodule=Rank(9, 8 // processes))
    # Lightning has brought the trained weights back from the forked process.
    trainer(1, out).validate(module, datamodule=Rank(9, 4), verbose=False)
    train_generators(out, "generator", dropout=0.2, parts=1)
    train_generators(out, "in_parts", dropout=0.0, parts=2)  # each draws dropout of its own


if __name__ == "__main__":
    main(Path(sys.argv[1]))
