import pytest

from svp_lightning.errors import SettingsError
from svp_lightning.generator.settings import (
    DiffusionSettings,
    GeneratorSettings,
    SamplerSettings,
    require_guidable,
)


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("all", "all"),
        ("rare", "rare"),
        ("silicone_oil", ("silicone_oil",)),
        (["a", "b"], ("a", "b")),
    ],
)
def test_classes_are_a_word_or_names(given: object, understood: object) -> None:
    assert GeneratorSettings.parse({"classes": given}, "generator").classes == understood


@pytest.mark.parametrize("interval", [(1.0, 1.0), (2.0, 1.0), (-0.1, 1.0)])
def test_guidance_interval_must_rise(interval: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match=r"sampler\.guidance_interval.*below the upper"):
        SamplerSettings.parse({"guidance_interval": interval}, "sampler")


@pytest.mark.parametrize("signal", [0, -1, "sometimes", float("inf")])
def test_signal_is_auto_or_above_zero(signal: object) -> None:
    with pytest.raises(SettingsError, match=r"generator\.diffusion\.signal"):
        GeneratorSettings.parse({"diffusion": {"signal": signal}}, "generator")


def test_what_changes_images_is_part_of_the_identity() -> None:
    plain = SamplerSettings().identity()
    assert SamplerSettings(guidance_interval=(0.2, 2.0)).identity() != plain
    assert SamplerSettings(precision="float32").identity() != plain
    assert GeneratorSettings(classes="all").identity() != GeneratorSettings().identity()
    assert GeneratorSettings(augmentation=0.1).identity() != GeneratorSettings().identity()


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_guidance_needs_a_generator_that_has_seen_hidden_classes(guidance: float) -> None:
    guided, unhidden = SamplerSettings(guidance=guidance), DiffusionSettings(class_dropout=0)
    with pytest.raises(SettingsError, match=r"class_dropout is 0. Set sampler\.guidance=1"):
        require_guidable(guided, unhidden)
    require_guidable(guided, DiffusionSettings(class_dropout=0.1))
    require_guidable(SamplerSettings(guidance=1), unhidden)
