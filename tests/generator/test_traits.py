"""Traits are what they are called, new images draw them as the training images have them."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import ks_2samp

from svp_lightning.generator.checkpoint import Generator, GeneratorInfo, copy_weights
from svp_lightning.generator.checkpoint_selection import denoising_error
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampling import oriented
from svp_lightning.generator.traits import TRAITS, Traits
from tests import configured
from tests.generator.small import SIZE, small_denoiser, small_settings

SIDE = 32
WITH = {"network": {"block_channels": (8, 16), "attention": (False, True), "traits": True}}
NULL = 2


def blobs(
    width: torch.Tensor, height: torch.Tensor | None = None, contrast: float = 0.5, side: int = SIDE
) -> torch.Tensor:
    """Images of smooth bumps of so many px of 32, (n, 1, side, side)."""
    height = width if height is None else height
    at = (torch.arange(side) + 0.5) / side * SIDE - SIDE / 2
    x, y = (
        at.view(1, 1, 1, -1) / width.view(-1, 1, 1, 1),
        at.view(1, 1, -1, 1) / height.view(-1, 1, 1, 1),
    )
    return 0.3 + contrast * torch.exp(-(x**2) - y**2)


def unlike_at_the_start(denoiser: Denoiser) -> Denoiser:
    """Traits change nothing before training; here they do."""
    for name, weight in denoiser.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight)
        assert weight.isfinite().all(), name
    return denoiser


def test_traits_are_size_contrast_tone_and_elongation() -> None:
    width = torch.tensor([2.0, 4.0, 4.0])
    height = torch.tensor([2.0, 4.0, 2.0])
    small, large, oval = Traits.measured(blobs(width, height))
    assert large[0] - small[0] == pytest.approx(1, abs=0.1)  # twice as wide
    assert large[1] > small[1]  # more of the window deviates
    assert small[2] == pytest.approx(1, abs=0.01)
    assert abs(small[3]) < 0.01
    assert oval[3] == pytest.approx((16 - 4) / (16 + 4), abs=0.05)
    dark = Traits.measured(blobs(width[:1], contrast=-0.5))[0]
    assert dark[2] == pytest.approx(-1, abs=0.01)
    assert dark[:2].tolist() == pytest.approx(small[:2].tolist(), abs=1e-4)
    faint = Traits.measured(blobs(width[:1], contrast=0.5 / math.e))[0]
    assert small[1] - faint[1] == pytest.approx(1 / 3, abs=0.01)


def test_traits_depend_on_neither_orientation_nor_size_of_the_image_nor_noise() -> None:
    images = blobs(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 3.0]))
    images = images.roll((3, 1), dims=(2, 3))
    before = Traits.measured(images)
    for orientation in range(8):
        torch.testing.assert_close(
            Traits.measured(oriented(images, orientation)), before, atol=1e-4, rtol=0
        )
    finer = blobs(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 3.0]), side=64)
    coarse = Traits.measured(blobs(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 3.0])))
    torch.testing.assert_close(Traits.measured(finer), coarse, atol=0.03, rtol=0)
    noisy = images + 0.01 * torch.randn(images.shape)
    torch.testing.assert_close(Traits.measured(noisy), before, atol=0.1, rtol=0)


@pytest.mark.parametrize("image", [torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 16, 16)])
def test_an_empty_image_has_finite_traits(image: torch.Tensor) -> None:
    assert Traits.measured(image).isfinite().all()


def test_drawn_traits_are_distributed_and_correlated_as_those_of_the_training_images() -> None:
    generator = torch.Generator().manual_seed(0)
    width = 2 + 3 * torch.rand(200, generator=generator)
    images = blobs(width, width * (0.5 + 0.5 * torch.rand(200, generator=generator)))
    images = images * torch.where(torch.arange(200) % 3 == 0, -1, 1).view(-1, 1, 1, 1)
    traits = Traits(NULL + 1)
    traits.learn(1, images)
    labels = torch.ones(4000, dtype=torch.long)
    drawn = traits.drawn(labels, torch.randn(4000, TRAITS, generator=generator)).numpy()
    learnt = Traits.measured(images).numpy()
    for k in range(TRAITS):
        assert ks_2samp(drawn[:, k], learnt[:, k]).statistic < 0.06
    assert (drawn >= learnt.min(axis=0) - 1e-5).all()
    assert (drawn <= learnt.max(axis=0) + 1e-5).all()
    between = [np.corrcoef(values[:, 0], values[:, 1])[0, 1] for values in (drawn, learnt)]
    assert between[0] == pytest.approx(between[1], abs=0.1)
    assert abs(between[1]) > 0.3


def test_traits_of_two_kinds_of_particles_are_not_mixed() -> None:
    small, large = torch.linspace(1.5, 2, 30), torch.linspace(5, 6, 30)
    images = torch.cat((blobs(small, contrast=0.6), blobs(large, contrast=-0.6)))
    traits = Traits(NULL + 1)
    traits.learn(0, images)
    drawn = traits.drawn(torch.zeros(500, dtype=torch.long), torch.randn(500, TRAITS))
    dark = drawn[:, 2] < 0
    assert 150 < dark.sum() < 350
    assert drawn[dark, 0].min() > drawn[~dark, 0].max()
    learnt = Traits.measured(images)
    nearest = torch.cdist(drawn, learnt).min(dim=1).values
    assert (nearest > 1e-4).float().mean() > 0.8  # between images, not those of one


@pytest.mark.parametrize("count", [2, 3, 40])
def test_no_image_is_its_own_neighbour(count: int) -> None:
    traits = Traits(NULL + 1)
    traits.learn(0, blobs(torch.linspace(2, 6, count)))
    first, second = traits.pairs[0]
    assert not (first == second).all(dim=0).any()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_or_equal_ones_can_be_learnt(count: int) -> None:
    traits = Traits(NULL + 1)
    traits.learn(0, blobs(torch.full((count,), 3.0)))
    drawn = traits.drawn(torch.zeros(5, dtype=torch.long), torch.randn(5, TRAITS))
    expected = Traits.measured(blobs(torch.tensor([3.0])))
    torch.testing.assert_close(drawn, expected.expand(5, -1), atol=1e-5, rtol=0)


def test_any_class_has_no_traits_and_hidden_ones_change_nothing() -> None:
    denoiser = unlike_at_the_start(small_denoiser(**WITH))
    traits = denoiser.network.particle_traits.drawn(torch.tensor([0, NULL]), torch.randn(2, TRAITS))
    assert traits[0].isfinite().all()
    assert traits[1].isnan().all()
    x_t, t, labels = torch.randn(2, 1, SIZE, SIZE), torch.tensor([5, 50]), torch.tensor([0, NULL])
    plain = denoiser(x_t, t, labels)
    shown = denoiser(x_t, t, labels, traits=traits)
    assert not torch.equal(shown[0], plain[0])
    assert torch.equal(shown[1], plain[1])


def test_training_shows_the_traits_of_the_clean_images(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = small_denoiser(**WITH, diffusion={"timesteps": 100, "class_dropout": 0.5})
    seen = []
    monkeypatch.setattr(
        type(denoiser.network.unet.class_embedding),
        "forward",
        lambda self, condition: seen.append(condition) or self.weight[condition[0]],
    )
    images = blobs(torch.linspace(2, 6, 40), side=SIZE)
    denoiser.loss(images, torch.ones(40, dtype=torch.long), torch.Generator().manual_seed(0))
    ((labels, amounts, traits),) = seen
    hidden = labels == NULL
    assert amounts is None
    assert 5 < hidden.sum() < 35
    assert traits[hidden].isnan().all()
    assert torch.equal(traits[~hidden], Traits.measured(images)[~hidden])


def test_an_image_depends_on_its_seed_and_traits_alone() -> None:
    denoiser = unlike_at_the_start(small_denoiser(**WITH)).eval()
    labels, seeds = np.array([0, 1, 0]), image_seeds(0, "oil", 0, 3)
    settings = configured.sampler(steps=4, precision="float32")
    denoiser.learn_traits(0, blobs(torch.linspace(2, 4, 20), side=SIZE))
    denoiser.learn_traits(1, blobs(torch.linspace(4, 6, 20), side=SIZE))
    together = sample(denoiser, labels, seeds, settings)
    alone = np.concatenate(
        [sample(denoiser, labels[k : k + 1], seeds[k : k + 1], settings) for k in range(3)]
    )
    assert np.abs(together.astype(int) - alone).max() <= 1
    denoiser.learn_traits(0, -blobs(torch.linspace(5, 6, 20), side=SIZE))
    others = sample(denoiser, labels, seeds, settings)
    assert (others[[0, 2]] != together[[0, 2]]).any(axis=(1, 2)).all()
    assert np.array_equal(others[1], together[1])


def test_images_that_start_from_others_have_the_traits_of_these(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    denoiser = small_denoiser(**WITH).eval()
    starts = np.full((2, SIZE, SIZE), 100, np.uint8)
    starts[1, 4:12, 4:12] = 200
    seen: list[torch.Tensor] = []
    original = type(denoiser.network).forward
    monkeypatch.setattr(
        type(denoiser.network),
        "forward",
        lambda self, *given, **named: (
            seen.append(named["traits"]) or original(self, *given, **named)
        ),
    )
    settings = configured.sampler(steps=3, start_ratio=1.0, precision="float32")
    sample(denoiser, np.array([0, 0]), np.array([1, 2]), settings, starts=starts)
    expected = Traits.measured(torch.from_numpy(starts)[:, None] / 127.5 - 1)
    for traits in seen:
        torch.testing.assert_close(traits, expected)


def test_the_denoising_error_is_that_of_images_with_their_traits() -> None:
    denoiser = unlike_at_the_start(small_denoiser(**WITH)).eval()
    images = blobs(torch.linspace(2, 6, 4), side=SIZE)
    before = denoising_error(denoiser, {0: (images, images)}).heldout
    with torch.no_grad():
        denoiser.network.unet.class_embedding.traits[0].weight.zero_()
    assert denoising_error(denoiser, {0: (images, images)}).heldout != before


def test_a_start_keeps_the_traits_of_classes_that_are_not_learnt_again() -> None:
    source, settings = small_denoiser(**WITH), small_settings(**WITH)
    source.learn_traits(0, blobs(torch.linspace(2, 4, 20), side=SIZE))
    info = GeneratorInfo(settings=settings, class_names=("oil", "air"), image_size=SIZE)
    denoiser = small_denoiser(**WITH)
    copy_weights(Generator(source, info), denoiser, ("air", "oil"))
    ours, theirs = denoiser.network.particle_traits, source.network.particle_traits
    assert torch.equal(ours.pairs[[1, 0, 2]], theirs.pairs)
    assert theirs.pairs[0].any()


def test_the_papers_network_takes_no_traits() -> None:
    network = {"kind": "paper", "block_channels": (8,), "layers_per_block": 2, "patch": 1}
    with pytest.raises(ValidationError, match="no traits"):
        small_settings(network={**network, "traits": True})
