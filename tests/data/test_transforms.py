"""Transforms: symmetries form the dihedral group, light stays in range, all are seeded."""

import itertools

import pytest
import torch

from svp_lightning.data.transforms import (
    TrainTransform,
    _shift,
    apply_symmetry,
    classical,
    dihedral,
    illumination,
    to_grey_levels,
    to_model_range,
)
from tests.configured import augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_symmetries(image: torch.Tensor) -> torch.Tensor:
    return apply_symmetry(image.expand(8, 1, *image.shape[-2:]), torch.arange(8))


def test_the_symmetries_form_a_group_of_eight() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    eight = {tuple(x.flatten().tolist()) for x in all_symmetries(image)}
    assert len(eight) == 8
    for first, second in itertools.product(range(8), repeat=2):
        once = apply_symmetry(image, torch.tensor([first]))
        twice = apply_symmetry(once, torch.tensor([second]))
        assert tuple(twice.flatten().tolist()) in eight
    rotated = torch.rot90(image, 1, (-2, -1))
    assert tuple(rotated.flatten().tolist()) in eight


def test_dihedral_draws_all_eight_equally_often_per_image() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    drawn = dihedral(image.expand(4000, 1, 4, 4), generator())
    eight = all_symmetries(image)
    hits = (drawn.view(-1, 1, 16) == eight.view(1, 8, 16)).all(-1)
    assert hits.sum(1).eq(1).all()
    assert hits.float().mean(0).tolist() == pytest.approx([1 / 8] * 8, abs=0.025)


def test_grey_levels_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    scaled = to_model_range(levels)
    assert (scaled.min(), scaled.max()) == (-1, 1)
    assert torch.equal(to_grey_levels(scaled), levels)


def test_illumination_moves_the_background_but_not_the_order_of_greys() -> None:
    image = torch.linspace(-0.5, 0.5, 256).view(1, 1, 16, 16).expand(500, 1, 16, 16)
    lit = illumination(image, 0.2, generator())
    level = lit[:, 0, 0, 0]
    assert level.std() > 0.05
    assert (lit.flatten(1).diff(dim=1) >= 0).all()
    gain = (lit[:, 0, 8, 0] - lit[:, 0, 0, 0]) / (image[0, 0, 8, 0] - image[0, 0, 0, 0])
    assert gain.min() >= 0.8 - 1e-4
    assert gain.max() <= 1.2 + 1e-4
    assert gain.std() > 0.08
    assert torch.allclose(illumination(image, 0.0, generator()), image, atol=1e-6)


def test_classical_grows_with_strength_and_is_seeded() -> None:
    images = torch.rand(64, 1, 32, 32, generator=generator(1)) - 0.5
    change = [
        (classical(images, strength, generator()) - images).abs().mean().item()
        for strength in (0.0, 0.25, 1.0)
    ]
    assert change[0] == pytest.approx(0, abs=1e-6)
    assert change[0] < change[1] < change[2]
    again = classical(images, 1.0, generator())
    assert torch.equal(again, classical(images, 1.0, generator()))
    assert not torch.equal(again, classical(images, 1.0, generator(9)))
    assert again.abs().max() <= 1


def test_shifts_keep_a_particle_in_the_image() -> None:
    images = torch.zeros(200, 1, 32, 32)
    images[:, :, 16, 16] = 1
    moved = _shift(images, 0.125, generator())
    assert moved.flatten(1).sum(1).eq(1).all()
    where = moved.flatten(1).argmax(1)
    assert len(where.unique()) > 40
    assert (where // 32 - 16).abs().max() == 4


def test_only_the_classical_arm_uses_the_classical_set() -> None:
    plain = TrainTransform.of(augmentation(method="duplicate", extra="duplicate"))
    assert plain == TrainTransform(True, 0.1, 0.0)
    assert TrainTransform.of(augmentation(method="classical", strength=0.7)).strength == 0.7
    off = TrainTransform(symmetry=False)
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    assert torch.equal(off(images, generator()), to_model_range(images))
