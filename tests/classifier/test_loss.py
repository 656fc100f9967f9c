"""The losses of the arms against their formulas, and what the predictions make of them."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from svp_lightning.classifier.module import load_classifier
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


def test_class_weights_equal_the_weighted_mean(toy, batch):
    logits, labels = batch
    weights = np.array([0.4, 2.0, 5.0])
    given = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    own = -given[np.arange(len(labels)), labels]
    expected = np.average(own, weights=weights[labels])
    module = toy.module(class_weights=weights.tolist())
    assert loss_of(module, logits.astype(np.float32), labels) == pytest.approx(expected, rel=1e-5)


def test_mixup_blends_labels_as_it_blends_images(toy):
    module = toy.module(mixup=1.0)
    labels = torch.arange(24) % 3
    # Each image says its class, so a blended image says its blended label.
    images = one_hot(labels, 3).float().view(24, 1, 1, 3).expand(24, 1, 3, 3).contiguous()
    torch.manual_seed(0)
    shares = []
    for _ in range(50):
        mixed, target = module.mixup(images, labels)
        torch.testing.assert_close(mixed[:, 0, 0], target)
        torch.testing.assert_close(target.sum(1), torch.ones(24))
        shares.append(target[0, labels[0]].item())
    # Beta(1, 1): the own share is uniform, and never the same twice.
    assert len(set(shares)) == 50
    assert 0.35 < np.mean(shares) < 0.65
    expected = -(target * mixed[:, 0, 0].log_softmax(1)).sum(1).mean()
    assert module.loss(mixed[:, 0, 0], target).item() == pytest.approx(expected.item())


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
    assert load_classifier(tmp_path / "0" / BEST).mixup.alpha == 0.2


def test_without_mixup_nothing_is_mixed(toy):
    assert toy.module().mixup is None
