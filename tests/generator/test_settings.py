import pytest

from svp_lightning.errors import SettingsError
from svp_lightning.generator.settings import GeneratorSettings, SamplerSettings, require_learnt
from tests import configured


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
    assert configured.generator(classes=given).classes == understood


@pytest.mark.parametrize("interval", [(1.0, 1.0), (2.0, 1.0), (-0.1, 1.0)])
def test_guidance_interval_must_rise(interval: tuple[float, float]) -> None:
    values = configured.sampler().model_dump() | {"guidance_interval": interval}
    with pytest.raises(SettingsError, match=r"sampler\.guidance_interval.*below the upper"):
        SamplerSettings.parse(values, "sampler")


def test_what_changes_images_is_part_of_the_identity() -> None:
    plain = configured.sampler().identity()
    assert configured.sampler(batch_size=1).identity() == plain
    assert configured.sampler(seed=1).identity() != plain
    assert configured.sampler(guidance_interval=(0.2, 2.0)).identity() != plain
    assert configured.sampler(precision="float32").identity() != plain
    assert configured.generator(classes="all").identity() != configured.generator().identity()
    assert configured.generator(augmentation=0.1).identity() != configured.generator().identity()


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_guidance_needs_a_generator_that_has_seen_hidden_classes(guidance: float) -> None:
    guided = configured.sampler(guidance=guidance)
    unhidden = configured.generator(diffusion={"class_dropout": 0})
    with pytest.raises(SettingsError, match=r"class_dropout is 0. Set sampler\.guidance=1"):
        require_learnt(guided, unhidden)
    require_learnt(guided, configured.generator(diffusion={"class_dropout": 0.1}))
    require_learnt(configured.sampler(guidance=1), unhidden)


def test_orientations_need_a_generator_that_has_seen_them_all() -> None:
    plain = configured.generator(symmetry=False)
    with pytest.raises(SettingsError, match=r"Set sampler\.reorient=false"):
        require_learnt(configured.sampler(reorient=True), plain)
    require_learnt(configured.sampler(reorient=False), plain)


@pytest.mark.parametrize("signal", [0, -1, "sometimes", float("inf")])
def test_signal_is_auto_or_above_zero(signal: object) -> None:
    values = configured.generator().model_dump()
    values["diffusion"]["signal"] = signal
    with pytest.raises(SettingsError, match=r"generator\.diffusion\.signal"):
        GeneratorSettings.parse(values, "generator")
