"""Transforms: symmetries form the dihedral group, light stays in range, all are seeded."""

import itertools

import pytest
import torch

from svp_lightning.data.transforms import (
    TrainTransform,
    apply_symmetry,
    background,
    classical,
    defocus,
    dihedral,
    illumination,
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


def test_grey_levels_become_evenly_spaced_from_minus_1_to_1() -> None:
    scaled = to_model_range(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16))
    torch.testing.assert_close(scaled.flatten(), torch.linspace(-1, 1, 256))


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


SIDE = 64


def disc(count: int, radius: float = 8, level: float = 0.4) -> torch.Tensor:
    """Dark discs in the middle on a bright background."""
    y, x = torch.meshgrid(*[torch.arange(SIDE) - (SIDE - 1) / 2] * 2, indexing="ij")
    inside = torch.sigmoid(2 * (radius - torch.hypot(x, y)))
    return (level - 0.8 * inside).expand(count, 1, SIDE, SIDE).contiguous()


def test_the_background_of_a_moved_image_reaches_its_edges() -> None:
    seen = classical(disc(200), 1.0, generator())
    for corner in (seen[:, 0, :8, :8], seen[:, 0, -8:, -8:]):
        # Smooth but for the sensor's noise, at most 3 grey levels.
        assert corner.flatten(1).std(dim=1).max() < 4 / 127.5


def test_particles_that_the_window_cuts_stay_where_they_are() -> None:
    half = torch.full((50, 1, SIDE, SIDE), 0.4)
    half[..., :20] = -0.4
    steps = classical(half, 1.0, generator()).diff(dim=-1).mean(dim=(1, 2))
    assert steps.abs().argmax(dim=1).eq(19).all()


def test_classical_moves_and_scales_a_particle_within_its_bounds() -> None:
    seen = classical(disc(400), 1.0, generator())
    depth = (background(seen) - seen).clamp(min=0.1).sub(0.1)
    mass = depth.sum((1, 2, 3))
    place = torch.arange(SIDE) - (SIDE - 1) / 2
    for axis in (2, 3):
        centre = (depth.sum((1, 5 - axis)) * place).sum(1) / mass
        assert centre.abs().max() == pytest.approx(0.125 * SIDE, abs=0.8)
        assert abs(centre.mean()) < 0.6
    area = (depth > 0.2).float().sum((1, 2, 3)) / (torch.pi * 8**2)
    assert area.min() > 1 / 1.2**2 - 0.2
    assert area.max() < 1.2**2 + 0.2
    assert area.std() > 0.1


def test_classical_turns_by_any_angle() -> None:
    bar = torch.zeros(400, 1, SIDE, SIDE)
    bar[:, :, 31:33, 16:48] = -1
    depth = classical(bar, 1.0, generator()).neg().clamp(min=0.2).sub(0.2)[:, 0]
    place = torch.arange(SIDE, dtype=torch.float32)
    mass = depth.sum((1, 2))
    y, x = (depth.sum((2,)) @ place / mass, depth.sum((1,)) @ place / mass)
    dy, dx = place[:, None] - y[:, None, None], place - x[:, None, None]
    cross, along = ((depth * dy * dx).sum((1, 2)), (depth * (dx**2 - dy**2)).sum((1, 2)))
    angle = torch.rad2deg(torch.atan2(2 * cross, along) / 2)
    hits = torch.histc(angle, bins=6, min=-90, max=90)
    assert hits.min() > 40  # of 67


def test_defocus_is_a_disc_that_keeps_the_light() -> None:
    point = torch.zeros(300, 1, SIDE, SIDE)
    point[:, :, 32, 32] = 1
    blurred = defocus(point, 0.06, generator())
    torch.testing.assert_close(blurred.sum((1, 2, 3)), torch.ones(300), atol=1e-3, rtol=0)
    place = torch.arange(SIDE) - 32.0
    # The mean square distance from the middle of a disc of radius r is r² / 2.
    spread = (blurred * (place[:, None] ** 2 + place**2)).sum((1, 2, 3))
    radius = (2 * spread.clamp(min=0)).sqrt()
    assert radius.max() == pytest.approx(0.06 * SIDE, rel=0.05)
    assert radius.median() == pytest.approx(0.03 * SIDE, rel=0.2)


def test_noise_is_that_of_the_sensor() -> None:
    flat = torch.zeros(500, 1, 32, 32)
    levels = classical(flat, 0.5, generator()).flatten(1).std(dim=1) * 127.5
    assert levels.max() == pytest.approx(1.5, abs=0.15)
    assert levels.mean() == pytest.approx(0.75, abs=0.1)


def test_only_the_classical_arm_uses_the_classical_set() -> None:
    plain = TrainTransform.of(augmentation(method="duplicate", extra="duplicate"))
    assert plain == TrainTransform(True, 0.1, 0.0)
    assert TrainTransform.of(augmentation(method="classical", strength=0.7)).strength == 0.7
    off = TrainTransform(symmetry=False)
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    assert torch.equal(off(images, generator()), to_model_range(images))
