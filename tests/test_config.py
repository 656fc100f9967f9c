"""The configuration as a whole: where values are from, and what may not be combined."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from svp_lightning.__main__ import configured
from svp_lightning.config import Config
from svp_lightning.data.augmentation import FilterSettings
from svp_lightning.data.settings import FolderSettings, SplitFractions
from svp_lightning.errors import SettingsError
from svp_lightning.runtime.settings import Settings, assignment
from svp_lightning.simulation.settings import OpticsSettings

UNGUIDABLE = ("generator=paper", "sampler.guidance=2", "scale=tiny")


def settings_in(kind: Any) -> set[type[Settings]]:
    """The settings classes that a type names, and those among their fields."""
    if not isinstance(kind, type):
        return set().union(*(settings_in(part) for part in get_args(kind)))
    if not issubclass(kind, Settings):
        return set()
    fields = (settings_in(field.annotation) for field in kind.model_fields.values())
    return {kind}.union(*fields)


def test_no_setting_has_a_default_in_python() -> None:
    """All are in ``conf/``, which a user reads and a script composes."""
    found = settings_in(Config)
    assert {FilterSettings, FolderSettings, SplitFractions, OpticsSettings} < found
    for settings in found:
        names = [n for n, field in settings.model_fields.items() if not field.is_required()]
        assert not names, settings


@pytest.mark.parametrize("task", ["sample", "evaluate", "train_classifier", "assess", "export"])
def test_guidance_of_a_generator_that_hid_no_class_is_refused_at_once(task: str) -> None:
    with pytest.raises(SettingsError, match=r"sampler\.guidance=2"):
        configured(*UNGUIDABLE, f"task={task}", "augmentation.ratio=1")


@pytest.mark.parametrize(
    "overrides",
    [
        ("augmentation=none",),
        ("task=train_generator",),
        ("task=export", "export.generator=/another"),
    ],
)
def test_guidance_does_not_matter_where_nothing_is_drawn(overrides: tuple[str, ...]) -> None:
    configured(*UNGUIDABLE, *overrides)


def test_what_is_stated_of_the_arithmetic_makes_another_run_and_devices_do_not() -> None:
    def identity(*overrides: str) -> str:
        return json.dumps(configured("scale=tiny", *overrides).identity())

    stated = ("precision=32-true", "precision=16-mixed", "deterministic=true", "accumulate=2")
    assert len({identity(), *(identity(f"trainer.{one}") for one in stated)}) == 1 + len(stated)
    for same in ("devices=2", "compile=true", "num_workers=3", "deterministic=false"):
        assert identity(f"trainer.{same}") == identity()


@pytest.mark.parametrize("key", ["sede", "serve.sede"])
def test_a_key_that_is_none_is_named_as_that(key: str) -> None:
    with pytest.raises(SettingsError, match=rf"^There is no setting {key}\."):
        configured("scale=tiny", f"+{key}=3")


@pytest.mark.parametrize("key", ["study", "name"])
@pytest.mark.parametrize("value", ["../esc", "/abs", "", "a/b", "..", ".a", " a", "a\\b", "a\nb"])
def test_runs_lie_below_the_outputs(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{key}: give the name of one folder"):
        configured("scale=tiny", assignment(key, value))


@pytest.mark.parametrize("value", ["Größe 2 (neu)", "2026", "a..b", "_x", "日本"])
def test_studies_have_names_of_any_language(value: str) -> None:
    assert configured("scale=tiny", assignment("study", value)).study == value


@pytest.mark.parametrize("name", ["seed", "generator.seed", "audit.seed", "assess.seed"])
def test_seeds_that_no_library_takes_are_refused_at_once(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: "):
        configured("scale=tiny", f"{name}={2**63}")


def test_a_generator_starts_from_a_folder_of_any_name() -> None:
    def start(value: str) -> Path | None:
        return configured(
            "scale=tiny", "augmentation=none", f"generator.initial={value}"
        ).generator.initial

    assert start("2024") == Path("2024")
    assert start("null") is None
    for value in ("[a]", "''"):
        with pytest.raises(SettingsError, match=r"^generator\.initial: "):
            start(value)


def test_an_audit_of_a_part_of_the_rare_images_is_refused() -> None:
    configured("scale=tiny", "data.rare_images=4")
    with pytest.raises(SettingsError, match=r"data\.rare_images.*task=audit"):
        configured("scale=tiny", "data.rare_images=4", "task=audit")


def test_a_seed_that_is_multiplied_has_room_for_it() -> None:
    with pytest.raises(SettingsError, match=r"^pretraining\.seed: "):
        configured("scale=tiny", "pretraining=simulated", f"pretraining.seed={2**63 - 1}")
