"""A toy data set that needs no store: each class is a blob of its own size."""

from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from svp_lightning.classifier import network as network_under_test
from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.validation import checkpoint_callbacks
from svp_lightning.stages.classifier_training import validation_score
from tests import configured

NAMES = ("protein", "silicone_oil", "air_bubble")
SIZE = 16


class Blobs(Dataset):
    """Indexed by arrays of rows, like the real data set."""

    def __init__(self, num_images, seed=0):
        rng = np.random.default_rng(seed)
        self.label = rng.permutation(np.arange(num_images) % 3)
        y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
        inside = np.hypot(x, y) < 2 + 2 * self.label[:, None, None]
        noise = rng.normal(0, 0.2, (num_images, SIZE, SIZE))
        self.image = (inside - 0.5 + noise).clip(-1, 1).astype(np.float32)

    def __len__(self):
        return len(self.label)

    def __getitem__(self, rows):
        return {
            "image": torch.from_numpy(self.image[rows, None]),
            "label": torch.from_numpy(self.label[rows]),
            "index": torch.as_tensor(rows),
        }


class Steps(Sampler):
    """Batches that are a function of the global step."""

    def __init__(self, num_rows, batch_size, steps):
        self.num_rows, self.batch_size, self.steps = num_rows, batch_size, steps
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.steps

    def __iter__(self):
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            yield np.random.default_rng(step).integers(self.num_rows, size=self.batch_size)


class Toy:
    """Makes settings, modules, loaders and trainers that fit one another."""

    names = NAMES
    size = SIZE

    @staticmethod
    def settings(**changes):
        values = {
            "backbone": "resnet18",
            "steps": 60,
            "validate_every": 15,
            "batch_size": 16,
            "learning_rate": 0.02,
        }
        return configured.classifier(**(values | changes))

    @classmethod
    def module(cls, settings=None, **arguments):
        equal = dict.fromkeys(NAMES, 1 / 3)
        arguments = {"score": partial(validation_score, NAMES, equal, equal)} | arguments
        return ClassifierModule(settings or cls.settings(), NAMES, SIZE, seed=3, **arguments)

    @staticmethod
    def train_loader(settings, seed=0):
        data = Blobs(96, seed)
        steps = Steps(len(data), settings.batch_size, settings.validate_every)
        return DataLoader(data, batch_size=None, sampler=steps)

    @staticmethod
    def eval_loader(num_images=45, batch_size=20, seed=1):
        data = Blobs(num_images, seed)
        rows = [np.arange(num_images)[i : i + batch_size] for i in range(0, num_images, batch_size)]
        return DataLoader(data, batch_size=None, sampler=rows)

    @staticmethod
    def trainer(directory, settings, callbacks=(), **arguments):
        if "max_steps" not in arguments:
            arguments["max_epochs"] = settings.steps // settings.validate_every
        return pl.Trainer(
            accelerator="cpu",
            callbacks=[*checkpoint_callbacks(directory, keep=settings.keep), *callbacks],
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=directory,
            **arguments,
        )


def small_network(name, num_classes, image_size, stem_stride, wide_stem):
    """Quick stand-in for a backbone, with state (BatchNorm) and randomness (Dropout)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(16, num_classes),
    )


@pytest.fixture(scope="module")
def toy():
    """Toy data and a toy backbone."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_under_test, "build_backbone", small_network)
        yield Toy


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """Folder with the checkpoints of an uninterrupted run, its module and its trainer."""
    directory = tmp_path_factory.mktemp("trained")
    settings = toy.settings()
    module = toy.module(settings)
    trainer = toy.trainer(directory, settings)
    trainer.fit(module, toy.train_loader(settings), toy.eval_loader())
    return directory, module, trainer
