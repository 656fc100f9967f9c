"""What the trainer may be told, and what it would be wrong to tell it."""

from typing import Any

import pytest

from svp_lightning.errors import SettingsError
from svp_lightning.trainer_settings import INSTEAD, TrainerSettings


def trainer(**settings: Any) -> TrainerSettings:
    return TrainerSettings.parse({"accelerator": "cpu", "devices": 1, **settings}, "trainer")


@pytest.mark.parametrize("name", ["max_epochs", "fast_dev_run", "max_time", "limit_train_batches"])
def test_what_would_cut_a_training_short_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"trainer\.{name} .* Set .* instead") as error:
        trainer(**{name: 1})
    assert INSTEAD[name] in str(error.value)


def test_how_to_run_is_handed_on() -> None:
    extras = {"detect_anomaly": True, "profiler": "simple", "benchmark": True}
    assert trainer(**extras).model_extra == extras
