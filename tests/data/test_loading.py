"""Loaders under a real Trainer: contract, exact evaluation, resume, refusals."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from svp_lightning.data.dataset import ParticleDataset
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import Mixture, mix, train_rows
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform
from svp_lightning.errors import StoreError
from tests.configured import augmentation

STEPS = 5
PER_EPOCH = STEPS


class Recorder(pl.LightningModule):
    """Keeps what it is given; the loss depends on one weight so that training runs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained: list[tuple[list[int], float]] = []
        self.evaluated: list[int] = []
        self.contract: list[tuple] = []
        self.weights: list[list[float]] = []

    def training_step(self, batch, batch_idx):
        self.trained.append((batch["index"].tolist(), float(batch["image"].sum())))
        image = batch["image"]
        self.weights.append(batch["weight"].tolist())
        self.contract.append(
            (image.dtype, tuple(image.shape), batch["label"].dtype, batch["index"].dtype)
        )
        assert -1 <= image.min() <= image.max() <= 1
        return self.weight.sum() * image.mean()

    def validation_step(self, batch, batch_idx):
        self.evaluated += batch["index"].tolist()

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def real(make_store) -> Store:
    return make_store(
        [
            (c, s, n)
            for s, n in (("train", 20), ("val", 7), ("test", 11))
            for c in ("protein", "silicone_oil")
        ]
    )


def module_of(real: Store, heldout: bool = True, **changes) -> ParticleDataModule:
    values = {
        "mixture": train_rows(real),
        "heldout": real if heldout else None,
        "batch_size": 6,
        "steps_per_epoch": PER_EPOCH,
        "seed": 1,
        "transform": TrainTransform(illumination=0.1),
    }
    return ParticleDataModule(**{**values, **changes})


def trainer_of(path: Path, **options) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=path,
        **{"enable_checkpointing": False, "max_epochs": 2, **options},
    )


def test_training_meets_the_contract_and_evaluation_sees_every_image_once(real, tmp_path) -> None:
    model, data = Recorder(), module_of(real)
    trainer = trainer_of(tmp_path, num_sanity_val_steps=0, max_epochs=1)
    trainer.fit(model, datamodule=data)
    assert len(model.trained) == STEPS
    assert set(model.contract) == {(torch.float32, (6, 1, 16, 16), torch.int64, torch.int64)}
    assert sorted(model.evaluated) == real.indices("val").tolist()
    model.evaluated.clear()
    trainer.test(model, datamodule=data, verbose=False)
    assert model.evaluated == real.indices("test").tolist()


@pytest.mark.parametrize(("trains", "largest"), [(True, 22), (False, 6)])
def test_what_is_predicted_at_once_is_asked_for_where_nothing_trains(
    real, tmp_path, trains, largest
) -> None:
    data = module_of(real, **({} if trains else {"mixture": None}))
    data.trainer = trainer_of(tmp_path)
    assert max(len(batch["label"]) for batch in data.test_dataloader()) == largest


def test_a_module_without_held_out_data_trains(real, tmp_path) -> None:
    model = Recorder()
    trainer_of(tmp_path).fit(model, datamodule=module_of(real, heldout=False))
    assert len(model.trained) == 2 * STEPS
    assert not model.evaluated


@pytest.mark.parametrize("stop", [3, 5, 7, 10])
def test_a_run_resumed_in_any_step_sees_the_same_batches(real, tmp_path, stop) -> None:
    whole = Recorder()
    trainer_of(tmp_path, max_epochs=3).fit(whole, datamodule=module_of(real))
    first, rest = Recorder(), Recorder()
    keep = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=1)
    trainer_of(
        tmp_path, max_steps=stop, max_epochs=3, callbacks=[keep], enable_checkpointing=True
    ).fit(first, datamodule=module_of(real))
    trainer_of(tmp_path, max_epochs=3).fit(
        rest, datamodule=module_of(real), ckpt_path=keep.best_model_path, weights_only=True
    )
    assert first.trained == whole.trained[:stop]
    assert rest.trained == whole.trained[stop:]


def test_held_out_rows_are_refused_before_training(real, tmp_path) -> None:
    rows = train_rows(real)
    leaky = Mixture(**{**rows.__dict__, "row": rows.row + 5})
    with pytest.raises(StoreError, match="outside its train split"):
        trainer_of(tmp_path).fit(Recorder(), datamodule=module_of(real, mixture=leaky))


def test_images_weigh_what_their_class_does(make_store, tmp_path) -> None:
    real = make_store([("protein", "train", 20), ("silicone_oil", "train", 5)])
    rows = mix(real, None, augmentation(method="class_weights", loss="class_weights"), seed=0)
    model = Recorder()
    trainer_of(tmp_path).fit(model, datamodule=module_of(real, heldout=False, mixture=rows))
    for (index, _), weights in zip(model.trained, model.weights, strict=True):
        expected = np.array([0.625, 2.5])[real.labels[index]]
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_batches_hold_the_images_of_their_rows(make_store, real) -> None:
    pool = make_store([("silicone_oil", "", 40), ("protein", "", 40)], origin="synthetic")
    arm = augmentation(method="diffusion", extra="diffusion", ratio=2.0)
    mixture = mix(real, pool, arm, seed=0)
    dataset = ParticleDataset.of_mixture(mixture)
    positions = np.random.default_rng(0).permutation(len(dataset))[:50]
    batch = dataset[positions]
    for k, position in enumerate(positions):
        store = (real, pool)[mixture.store_id[position]]
        assert (batch["image"][k, 0].numpy() == store.images[mixture.row[position]]).all()
        assert batch["label"][k] == store.labels[mixture.row[position]]
        assert batch["index"][k] == mixture.row[position]


def test_a_dataset_travels_to_a_worker_without_its_images(real) -> None:
    dataset = ParticleDataset.of_rows(real, real.indices("train"))
    before = dataset[np.arange(4)]["image"]
    assert len(pickle.dumps(dataset)) < 40_000
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[np.arange(4)]["image"], before)
