"""What the two trainings share."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import pytorch_lightning as pl

from svp_lightning.config import Config
from svp_lightning.errors import TrainingError
from svp_lightning.runtime.artifacts import RECORD
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.session import Session
from svp_lightning.tasks.train_generator import ensure_generator
from svp_lightning.tasks.training import require_finished

Build = Callable[..., tuple[Config, Session]]


class StopAtOnce(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: object, **__: object) -> None:
        trainer.should_stop = True


def test_training_stopped_early_is_not_a_finished_generator(svp_config: Build) -> None:
    config, session = svp_config("generator.seed=31")
    store = ensure_store(config, session)
    stopped = replace(session, build=lambda group: [StopAtOnce()] if group == "callbacks" else [])
    with pytest.raises(TrainingError, match=r"after 1 of \d+ steps \(generator.steps\)"):
        ensure_generator(config, stopped, store)
    assert not [
        r
        for r in session.artifacts.root.glob(f"generator/*/{RECORD}")
        if '"seed": 31' in r.read_text()
    ]


def test_all_steps_are_a_finished_training() -> None:
    require_finished("classifier", 20, 20)
