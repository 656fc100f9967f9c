"""What a sampler may be, and what it asks of a generator."""

import pytest

from svp_lightning.errors import SettingsError
from svp_lightning.generator.sampler_settings import require_learnt
from tests.configured import generator, sampler


@pytest.mark.parametrize("other", [{"name": "ddim"}, {"spacing": "uniform"}])
def test_samplers_of_equal_steps_start_from_noise_alone(other: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="start_ratio"):
        sampler(start_ratio=1.0, **other)


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_guidance_needs_a_generator_that_has_seen_hidden_classes(guidance: float) -> None:
    unhidden = generator(diffusion={"class_dropout": 0})
    with pytest.raises(SettingsError, match=r"class_dropout is 0. Set sampler\.guidance=1"):
        require_learnt(sampler(guidance=guidance), unhidden)
    require_learnt(sampler(guidance=guidance), generator(diffusion={"class_dropout": 0.1}))
    require_learnt(sampler(guidance=1), unhidden)


def test_orientations_need_a_generator_that_has_seen_them_all() -> None:
    plain = generator(symmetry=False)
    with pytest.raises(SettingsError, match=r"Set sampler\.reorient=false"):
        require_learnt(sampler(reorient=True), plain)
    require_learnt(sampler(reorient=False), plain)
