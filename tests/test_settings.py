"""What single settings allow, what they mean, and which of them decide a result."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from svp_lightning.data.settings import FlowCamSettings
from svp_lightning.errors import SettingsError
from svp_lightning.runtime.settings import Settings
from svp_lightning.stages.settings import INSTEAD, TrainerSettings
from tests import configured
from tests.configured import generator, sampler, simulation, simulation_values

TINY = configured.tiny()
GIVEN = {name: getattr(TINY, name) for name in ("trainer", "generator", "sampler", "classifier")}


def parsed(where: str, changes: Mapping[str, Any]) -> Settings:
    """The settings of a node of the configuration, with changes."""
    if where == "simulation":
        return type(simulation()).parse(simulation_values(**changes), where)
    values = GIVEN[where].model_dump()
    nested = {k: values[k] | v if isinstance(v, dict) else v for k, v in changes.items()}
    return type(GIVEN[where]).parse(values | nested, where)


def trainer(**changes: Any) -> TrainerSettings:
    found = parsed("trainer", changes)
    assert isinstance(found, TrainerSettings)
    return found


@pytest.mark.parametrize(
    ("where", "changes", "named"),
    [
        ("simulation", {"counts": {"train": {"glass": 3}}}, "glass"),
        ("simulation", {"counts": {"train": {"protein": -1}}}, "protein"),
        ("simulation", {"counts": {"train": {"protein": 0}}}, "protein"),
        ("simulation", {"counts": {"holdout": {"protein": 3}}}, "holdout"),
        ("simulation", {"counts": {"train": {}}}, "counts"),
        ("simulation", {"source_points": 10}, "source_points"),
        ("simulation", {"sessions_per_split": {"train": 0}}, "train"),
        ("simulation", {"optics": {"objective_na": [0.4, 0.3]}}, "objective_na"),
        ("simulation", {"optics": {"condenser_na": [0.1, 0.3]}}, "condenser_na"),
        ("simulation", {"large_bubble_share": 1.5}, "large_bubble_share"),
        ("simulation", {"workers": -2}, "workers"),
        ("classifier", {"label_smoothing": 0.1}, "label_smoothing"),  # corrects to no other shares
        *(
            ("sampler", {"guidance_interval": interval}, r"guidance_interval.*below the upper")
            for interval in ((1.0, 1.0), (2.0, 1.0), (-0.1, 1.0))
        ),
        *(
            ("generator", {"diffusion": {"signal": signal}}, r"generator\.diffusion\.signal")
            for signal in (0, -1, "sometimes", float("inf"))
        ),
        *(
            ("trainer", {name: 1}, rf"trainer\.{name} .* Set {INSTEAD[name]} instead")
            for name in ("max_time", "fast_dev_run", "accumulate_grad_batches", "sync_batchnorm")
        ),
        *(
            ("trainer", {"precision": given}, r"trainer\.precision.*bf16-mixed")
            for given in ("16-true", "bf16-true", "64-true", "64", 64)
        ),
        ("trainer", {"log_every_n_steps": 0}, r"log_every_n_steps=0 is no number"),
        ("trainer", {"devices": 0}, r"trainer\.devices=0 leaves no process"),
    ],
)
def test_bad_settings_are_refused_by_name(where: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        parsed(where, changes)
    assert "\n" not in str(caught.value)


def test_what_changes_images_is_part_of_the_identity() -> None:
    assert simulation(workers=0, chunk_size=5).identity() == simulation(workers=8).identity()
    data = [TINY.data.model_copy(update={"simulation": simulation(workers=n)}) for n in (0, 8)]
    assert data[0].identity() == data[1].identity()
    assert simulation(source_points=9).identity() != simulation().identity()
    plain = sampler().identity()
    assert sampler(batch_size=1).identity() == plain
    for changes in ({"seed": 1}, {"guidance_interval": (0.2, 2.0)}, {"precision": "float32"}):
        assert sampler(**changes).identity() != plain
    for changes in ({"classes": "all"}, {"augmentation": 0.1}):
        assert generator(**changes).identity() != generator().identity()


def test_a_seed_counts_where_it_chooses_the_real_images() -> None:
    every, few = ([TINY.data.model_copy(update={"rare_images": images, "rare_seed": seed})
                   for seed in (1, 2)] for images in (None, 5))  # fmt: skip
    assert every[0].identity() == every[1].identity() == TINY.data.identity()
    assert few[0].identity() != few[1].identity()


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
    assert generator(classes=given).classes == understood


def test_how_to_run_is_handed_on() -> None:
    extras = {"detect_anomaly": True, "profiler": "simple", "benchmark": True}
    assert trainer(**extras).model_extra == extras
    assert trainer(precision="bf16-mixed").precision == "bf16-mixed"


@pytest.mark.parametrize(
    ("settings", "visible", "several"),
    [
        ({}, 8, False),
        ({"devices": 2}, 8, True),
        ({"devices": 2, "strategy": "ddp"}, 8, True),
        ({"devices": [3]}, 8, False),
        ({"devices": [0, 1]}, 8, True),
        ({"devices": "1,"}, 8, False),
        ({"devices": "2"}, 8, True),
        ({"devices": 1, "num_nodes": 2}, 8, True),
        ({"devices": "auto"}, 1, False),
        ({"devices": "auto"}, 0, False),
        ({"devices": "auto"}, 2, True),
        ({"devices": -1}, 2, True),
        ({"devices": "auto", "accelerator": "cpu"}, 2, False),
    ],
)
def test_when_lightning_runs_the_command_again(
    settings: dict[str, Any], visible: int, several: bool
) -> None:
    assert trainer(**settings).may_start_processes(lambda: visible) == several


@pytest.mark.parametrize(
    ("given", "volumes"),
    [
        (" 0.5 ", 0.5),
        ("run 1 = 0.5, it's = 4e-1,", {"run 1": 0.5, "it's": 0.4}),
        ("run=1 = 0.5, a, b = 0.25 ", {"run=1": 0.5, "a, b": 0.25}),
    ],
)
def test_volumes_of_runs_are_told_by_their_names(
    given: str, volumes: float | dict[str, float], tmp_path: Path
) -> None:
    assert configured.flowcam(tmp_path, volume_ml=given).volume_ml == volumes


@pytest.mark.parametrize(
    ("given", "run"),
    [
        (0, ""),
        (True, ""),
        ("-1", ""),
        ("Vial 1=0, Vial 2=0.5", "that of Vial 1 "),
        ({"a": "1e999"}, "that of a "),
    ],
)
def test_a_volume_of_nothing_is_refused_with_the_name_of_its_run(
    given: Any, run: str, tmp_path: Path
) -> None:
    values = configured.flowcam(tmp_path).model_dump() | {"volume_ml": given}
    message = f"data.volume_ml: {run}must be a number above 0, got {given!r}."
    with pytest.raises(SettingsError, match=re.escape(message)):
        FlowCamSettings.parse(values, "data")


@pytest.mark.parametrize(
    "given",
    [
        *("1,5", "a = 1,5", "a = 0.5, b = 1,5", "a = 0.5, b = x", "a", "a =", "= 1", "a = 1, = 2"),
        *("a = 1, " * 60 + "b", "a" + " " * 100_000 + "b", "a = 1" + " " * 100_000 + "b"),
    ],
)
def test_a_volume_that_is_read_in_part_is_refused(given: str, tmp_path: Path) -> None:
    """With a decimal comma, 1,5 mL would be 1 mL."""
    with pytest.raises(ValidationError, match="with a decimal point"):
        configured.flowcam(tmp_path, volume_ml=given)
