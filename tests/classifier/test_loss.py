"""The losses of the arms against their formulas, and what the predictions make of them."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.nn.functional import one_hot

from svp_lightning.classifier.validation import BEST

PRIOR = np.array([0.9, 0.07, 0.03])


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.normal(0, 2, (40, 3)), rng.integers(3, size=40)


def loss_of(module, logits, labels):
    return module.loss(torch.from_numpy(logits), torch.from_numpy(labels)).item()


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_logit_adjusted_loss_is_that_of_menon(toy, batch, tau):
    """Menon et al. 2021, eq. 10: log(1 + sum over y' != y of (pi_y'/pi_y)^tau e^(f_y' - f_y))."""
    logits, labels = batch
    module = toy.module(logit_shift=(tau * np.log(PRIOR)).tolist())
    rows = np.arange(len(labels))
    ratio = (PRIOR / PRIOR[labels][:, None]) ** tau
    terms = ratio * np.exp(logits - logits[rows, labels][:, None])
    terms[rows, labels] = 0
    expected = np.log1p(terms.sum(1)).mean()
    assert loss_of(module, logits, labels) == pytest.approx(expected, rel=1e-6)


def test_the_shift_is_for_the_loss_alone(toy):
    plain, shifted = toy.module(), toy.module(logit_shift=np.log(PRIOR).tolist())
    images = torch.rand(4, 1, toy.size, toy.size)
    with torch.no_grad():
        assert torch.equal(plain.eval().probabilities(images), shifted.eval().probabilities(images))


def test_the_best_predictor_under_the_adjusted_loss_is_the_balanced_posterior(toy):
    """Without features, the loss is least where all classes are predicted alike (tau = 1)."""
    labels = torch.from_numpy(np.repeat([0, 1, 2], [900, 70, 30]))
    logits = torch.zeros(3, requires_grad=True)
    module = toy.module(logit_shift=np.log(PRIOR).tolist())
    module.loss(logits.expand(len(labels), 3), labels).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=1e-6, rtol=0)


def test_weights_act_over_the_whole_set_and_not_within_a_batch(toy):
    """30,000 : 50 : 50 images with class weights: each class has a third of the loss.

    Normalised within batches of 64, protein had 82 % of it.
    """
    counts = np.array([30_000, 50, 50])
    weights = torch.from_numpy(counts.sum() / (3 * counts))
    labels = torch.from_numpy(np.random.default_rng(0).permutation(np.repeat([0, 1, 2], counts)))
    logits = torch.zeros(len(labels), 3, dtype=torch.float64, requires_grad=True)
    module = toy.module()
    for batch in torch.arange(len(labels)).split(64):
        part = module.loss(logits[batch], labels[batch], weights[labels[batch]])
        (part * len(batch)).backward()
    per_class = torch.stack([logits.grad[labels == k, k].abs().sum() for k in range(3)])
    torch.testing.assert_close(per_class / per_class.sum(), torch.full((3,), 1 / 3).double())


def test_mixup_blends_labels_and_weights_as_it_blends_images(toy, monkeypatch):
    module = toy.module(mixup=1.0)
    module.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    seen = []
    # Each image says its class and its weight, so that a blended image says what it blends.
    monkeypatch.setattr(type(module), "forward", lambda _, x: seen.append(x[:, 0]) or x[:, 0, 0])
    labels, weight = torch.arange(24) % 3, torch.arange(24) / 12
    image = torch.stack([one_hot(labels, 3), one_hot(labels, 3) * weight[:, None]], dim=1)
    batch = {"image": image[:, None], "label": labels, "weight": weight}
    shares = []
    for step in range(50):
        monkeypatch.setattr(type(module), "global_step", step)
        loss = module.training_step(batch, 0)
        logits, weighted = seen[-1].unbind(1)
        expected = -(weighted * logits.log_softmax(1)).sum(1).mean()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        shares.append(logits[logits.gt(0).sum(1) > 1].max().item())
    assert len(set(shares)) == 50
    assert np.mean(shares) == pytest.approx(0.75, abs=0.1)  # of max(u, 1 - u), u uniform


def test_mixup_is_a_function_of_the_seed_and_the_step(toy, tmp_path):
    settings = toy.settings(steps=15)
    weights = []
    for run, seed in enumerate((1, 2)):  # of the global generator: must not matter
        torch.manual_seed(seed)
        module = toy.module(settings, mixup=0.2)
        trainer = toy.trainer(tmp_path / str(run), settings)
        trainer.fit(module, toy.train_loader(settings), toy.eval_loader())
        assert trainer.global_step == settings.steps
        weights.append(module.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name])
    saved = torch.load(tmp_path / "0" / BEST, weights_only=True)["hyper_parameters"]
    assert saved["mixup"] == 0.2
