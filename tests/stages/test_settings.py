"""Trainer arguments that are handed on, and those that are refused."""

from typing import Any

import pytest

from svp_lightning.errors import SettingsError
from svp_lightning.stages.settings import INSTEAD, TrainerSettings
from tests.configured import tiny


def trainer(**settings: Any) -> TrainerSettings:
    return TrainerSettings.parse(tiny().trainer.model_dump() | settings, "trainer")


@pytest.mark.parametrize("name", ["max_epochs", "fast_dev_run", "max_time", "limit_train_batches"])
def test_what_would_cut_a_training_short_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"trainer\.{name} .* Set .* instead") as error:
        trainer(**{name: 1})
    assert INSTEAD[name] in str(error.value)


@pytest.mark.parametrize("kind", ["16", "bf16"])
def test_weights_are_not_kept_in_16_bit(kind: str) -> None:
    with pytest.raises(SettingsError, match=f"trainer.precision.*{kind}-mixed"):
        trainer(precision=f"{kind}-true")
    assert trainer(precision=f"{kind}-mixed").precision == f"{kind}-mixed"


def test_how_to_run_is_handed_on() -> None:
    extras = {"detect_anomaly": True, "profiler": "simple", "benchmark": True}
    assert trainer(**extras).model_extra == extras


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
    ],
)
def test_when_lightning_runs_the_command_again(
    settings: dict[str, Any], visible: int, several: bool
) -> None:
    assert trainer(**settings).may_start_processes(lambda: visible) == several
