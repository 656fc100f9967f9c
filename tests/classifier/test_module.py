import math
import shutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.connectors.logger_connector import result
from sklearn.metrics import average_precision_score

from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.optimisation import optimizer_of, seed_step, warmup_cosine
from svp_lightning.classifier.validation import (
    BEST,
    LAST,
    TRAINING_LOSS,
    VALIDATION_SCORE,
    checkpoint_callbacks,
)
from svp_lightning.errors import CheckpointError, TrainingError
from svp_lightning.stages.classifier_training import validation_score


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(),
                                                 b.state_dict().values(), strict=True))  # fmt: skip


def test_it_learns(trained):
    _, _, trainer = trained
    assert trainer.callback_metrics[VALIDATION_SCORE] > 0.8  # chance: 0.33
    assert trainer.global_step == 60


class Killed(pl.Callback):
    """Stops the process at a step, as a full queue or a power cut would."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


@pytest.mark.parametrize("limit", [{"max_epochs": 4}, {"max_steps": 60, "max_epochs": -1}])
@pytest.mark.parametrize("killed_at", [15, 37])
def test_a_resumed_run_equals_the_uninterrupted_one(toy, trained, tmp_path, killed_at, limit):
    directory, whole, trainer_whole = trained
    settings = toy.settings()
    loaders = (toy.train_loader(settings), toy.eval_loader())
    first = toy.trainer(tmp_path, settings, [Killed(killed_at)], **limit)
    with pytest.raises(RuntimeError, match="killed"):
        first.fit(toy.module(settings), *loaders)
    torch.manual_seed(99)  # the state of the global generator must not matter
    resumed = toy.module(settings)
    trainer = toy.trainer(tmp_path, settings, **limit)
    trainer.fit(resumed, *loaders, ckpt_path=tmp_path / LAST)
    assert trainer.global_step == settings.steps
    assert same_weights(resumed, whole)
    assert same_weights(Classifier.load(tmp_path / BEST), Classifier.load(directory / BEST))
    best, best_whole = trainer.checkpoint_callbacks[0], trainer_whole.checkpoint_callbacks[0]
    assert best.best_model_score == best_whole.best_model_score


def test_checkpoints_that_were_moved_still_know_the_best(trained, tmp_path):
    directory, _, trainer = trained
    shutil.copytree(directory, tmp_path / "moved")
    states = torch.load(tmp_path / "moved" / LAST, weights_only=True)["callbacks"]
    best, last = checkpoint_callbacks(tmp_path / "moved")
    for callback in (best, last):
        callback.load_state_dict(states[callback.state_key])
    assert best.best_model_score == trainer.checkpoint_callbacks[0].best_model_score
    assert best.best_model_path == str(tmp_path / "moved" / BEST)
    assert list(best.best_k_models) == [str(tmp_path / "moved" / BEST)]


def test_the_last_weights_are_kept_where_asked_for(toy, tmp_path):
    settings = toy.settings(keep="last", learning_rate=1.0)  # its score does not rise
    module, trainer = toy.module(settings), toy.trainer(tmp_path, settings)
    loaders = toy.train_loader(settings), toy.eval_loader()
    trainer.fit(module, *loaders)
    assert same_weights(Classifier.load(tmp_path / BEST), module)
    again = toy.module(settings)  # an attempt that finds all steps taken
    toy.trainer(tmp_path, settings).fit(again, *loaders, ckpt_path=tmp_path / LAST)
    assert again.newest_score == trainer.callback_metrics[VALIDATION_SCORE]


class Fixed(pl.Callback):
    """Batch normalisation by the running statistics, and no dropout."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        for layer in module.network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.Dropout):
                layer.eval()


class Weighted(pl.Callback):
    """A weight for each image, as class weights give."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        batch["weight"] = 1.0 + batch["label"]


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_a_batch_in_parts_trains_as_the_whole_does(toy, tmp_path, mixup):
    # SGD: the first step of AdamW has the sign of a gradient alone, also where it is rounding.
    settings = toy.settings(optimizer="sgd", warmup_steps=0, learning_rate=0.1)
    found = []
    for parts in (1, 4):
        module = toy.module(settings, mixup=mixup, parts=parts)
        trainer = toy.trainer(tmp_path / str(parts), settings, [Fixed(), Weighted()], max_steps=3)
        trainer.fit(module, toy.train_loader(settings))
        assert trainer.global_step == 3
        found.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    start = torch.cat([p.detach().flatten() for p in toy.module(settings).parameters()])
    assert (found[0] - start).abs().max() > 0.01
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_batch_normalisation_takes_the_statistics_of_a_part(toy, tmp_path):
    settings = toy.settings()
    module = toy.module(settings, parts=4)
    toy.trainer(tmp_path, settings, max_steps=3).fit(module, toy.train_loader(settings))
    assert module.network[1].num_batches_tracked == 4 * 3


def test_dropout_is_a_function_of_the_seed_and_the_step(toy):
    batch = next(iter(toy.train_loader(toy.settings())))

    def loss(seed, step, monkeypatch):
        module = toy.module(toy.settings())
        module.seed = seed
        monkeypatch.setattr(type(module), "global_step", step)
        monkeypatch.setattr(type(module), "trainer", SimpleNamespace(log_every_n_steps=100))
        return module.training_step(batch, 0).item()

    with pytest.MonkeyPatch.context() as patch:
        first = loss(1, 5, patch)
        assert loss(1, 5, patch) == first
        assert loss(2, 5, patch) != first
        assert loss(1, 6, patch) != first


def test_checkpoints_are_plain_data_and_rebuild_the_module(toy, trained):
    directory, module, _ = trained
    assert {path.name for path in directory.glob("*.ckpt")} == {BEST, LAST}
    state = torch.get_rng_state()
    loaded = Classifier.load(directory / LAST)
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.class_names == toy.names
    assert loaded.settings == module.settings
    assert not loaded.training
    images = torch.randn(4, 1, toy.size, toy.size)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), module.eval()(images), rtol=0, atol=0)
        assert torch.allclose(loaded.probabilities(images).sum(1), torch.ones(4))


def test_a_broken_checkpoint_is_refused(trained, tmp_path):
    path = tmp_path / "broken.ckpt"
    path.write_bytes((trained[0] / BEST).read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"broken\.ckpt"):
        Classifier.load(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="hyper_parameters"):
        Classifier.load(path)
    whole = torch.load(trained[0] / BEST, weights_only=True)
    whole["hyper_parameters"]["class_names"][0] = "../protein"
    torch.save(whole, path)
    with pytest.raises(CheckpointError, match=r"'\.\./protein' cannot name a class"):
        Classifier.load(path)
    with pytest.raises(CheckpointError, match="absent"):
        Classifier.load(tmp_path / "absent.ckpt")


def test_test_predictions_are_each_image_once_whatever_the_batches(toy, trained):
    module = ClassifierModule.load(trained[0] / BEST)
    found = []
    for batch_size in (45, 7):
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False,
                             enable_model_summary=False, enable_checkpointing=False)  # fmt: skip
        trainer.test(module, toy.eval_loader(45, batch_size), verbose=False)
        found.append(module.test_predictions)
    for predictions in found:
        np.testing.assert_array_equal(predictions.index, np.arange(45))
        np.testing.assert_array_equal(predictions.label, toy.eval_loader(45).dataset.label)
        assert predictions.probability.dtype == np.float32
    np.testing.assert_allclose(found[0].probability, found[1].probability, atol=1e-6)


def test_validation_score_is_that_of_the_prevalence_in_use(toy, tmp_path):
    settings = toy.settings(steps=15)
    trained, in_use = ({n: s / sum(of) for n, s in zip(toy.names, of, strict=True)}
                       for of in ([5, 3, 2], [1000, 1, 2]))  # fmt: skip
    score = partial(validation_score, toy.names, trained, in_use)
    module = toy.module(settings, trained_shares=trained, score=score)
    trainer = toy.trainer(tmp_path, settings)
    loader = toy.eval_loader(46)
    trainer.fit(module, toy.train_loader(settings), loader)
    labels = loader.dataset.label
    with torch.no_grad():
        images = torch.from_numpy(loader.dataset.image[:, None])
        probabilities = module.eval().probabilities(images).double().numpy()
    probabilities *= np.array([*in_use.values()]) / [*trained.values()]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    weights = (np.array([*in_use.values()]) / np.bincount(labels))[labels]
    expected = np.mean(
        [
            average_precision_score(labels == k, probabilities[:, k], sample_weight=weights)
            for k in range(3)
        ]
    )
    assert trainer.callback_metrics[VALIDATION_SCORE].item() == pytest.approx(expected, abs=1e-5)
    assert Classifier.load(tmp_path / BEST).trained_shares == trained


def test_no_step_reads_the_loss(toy, tmp_path, monkeypatch):
    """Lightning reads what its own bar shows after every step, and waits for the GPU to do so."""
    read = []
    monkeypatch.setattr(result, "convert_tensors_to_scalars", read.append)
    settings = toy.settings(steps=15)
    trainer = toy.trainer(tmp_path, settings, log_every_n_steps=10)
    trainer.fit(toy.module(settings), toy.train_loader(settings))
    assert TRAINING_LOSS in trainer.callback_metrics
    assert read == []


def test_a_diverged_run_stops_with_a_remedy(toy, tmp_path):
    settings = toy.settings(learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"classifier\.learning_rate"):
        toy.trainer(tmp_path, settings).fit(
            toy.module(settings), toy.train_loader(settings), toy.eval_loader()
        )
    assert not list(tmp_path.glob("*.ckpt"))


def test_divergence_is_seen_between_validations(toy, tmp_path):
    settings = toy.settings(steps=200, validate_every=200, learning_rate=1e30)
    trainer = toy.trainer(tmp_path, settings)
    with pytest.raises(TrainingError, match=r"classifier's loss .* from step \d on"):
        trainer.fit(toy.module(settings), toy.train_loader(settings), toy.eval_loader())
    assert trainer.global_step == 50


def test_mixed_precision_trains_as_float32_does(toy, tmp_path):
    settings, found = toy.settings(steps=30), {}
    for precision in ("32-true", "bf16-mixed"):
        trainer, module = toy.trainer(tmp_path, settings, precision=precision), toy.module(settings)
        trainer.fit(module, toy.train_loader(settings), toy.eval_loader())
        images = torch.cat([batch["image"] for batch in toy.eval_loader(60)])
        found[precision] = module.eval().probabilities(images).detach()
    exact, mixed = found.values()
    assert (exact - mixed).abs().mean() < 0.02
    assert (exact.argmax(1) == mixed.argmax(1)).float().mean() > 0.95


def test_schedule_warms_up_and_ends_at_zero(toy):
    settings = toy.settings(steps=1000, validate_every=100, warmup_steps=50)
    factors = [warmup_cosine(settings)(step) for step in range(1001)]
    assert factors[0] == pytest.approx(1 / 51)
    assert factors[50] == max(factors) == 1
    assert np.all(np.diff(factors[50:]) < 0)
    assert factors[1000] == pytest.approx(0)
    assert math.isclose(warmup_cosine(toy.settings())(6), 1)  # a tenth of 60 steps


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weight_decay_spares_biases_and_normalisation(toy, optimizer):
    module = toy.module(toy.settings(optimizer=optimizer))
    decayed, spared = optimizer_of(module.network, module.settings).param_groups
    assert {p.ndim for p in decayed["params"]} == {2, 4}  # the head and the kernels
    assert {p.ndim for p in spared["params"]} == {1}
    assert spared["weight_decay"] == 0 < decayed["weight_decay"]
    assert len(decayed["params"]) + len(spared["params"]) == len(list(module.parameters()))


def test_weight_decay_spares_the_scales_of_layers(toy):
    """Those of a ConvNeXt are (C, 1, 1)."""
    network = torch.nn.ParameterDict({"scale": torch.ones(8, 1, 1), "kernel": torch.ones(8, 1, 3)})
    decayed, spared = optimizer_of(network, toy.settings()).param_groups
    assert [p.shape for p in (*decayed["params"], *spared["params"])] == [(8, 1, 3), (8, 1, 1)]


def test_apples_gpus_are_seeded_by_seed_step_and_process(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.mps, "manual_seed", seeds.append)
    for of in ((1, 2, 0), (1, 2, 0), (1, 3, 0), (1, 2, 1)):
        seed_step(*of, torch.device("mps"))
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3


def test_building_a_module_is_a_function_of_its_seed(toy):
    torch.manual_seed(1)
    first = toy.module()
    torch.manual_seed(2)
    assert same_weights(first, toy.module())
