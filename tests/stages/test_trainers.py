"""What the trainings share."""

from collections.abc import Callable

import pytest
import pytorch_lightning as pl

from svp_lightning.errors import DistributedError, TrainingError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import RECORD
from svp_lightning.stages.trainers import Trainers, require_divisible, require_finished

Build = Callable[..., Pipeline]


class StopAtOnce(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: object, **__: object) -> None:
        trainer.should_stop = True


def test_training_stopped_early_is_not_a_finished_generator(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline("generator.seed=31")
    pipeline.trainers = Trainers(
        pipeline.config.trainer, lambda group: [StopAtOnce()] if group == "callbacks" else []
    )
    with pytest.raises(TrainingError, match=r"after 1 of \d+ steps \(generator.steps\)"):
        _ = pipeline.generator
    assert not [
        r
        for r in pipeline.cache.root.glob(f"generator/*/{RECORD}")
        if '"seed": 31' in r.read_text()
    ]


def test_batch_that_cannot_be_divided_is_refused() -> None:
    require_divisible("generator.batch_size", 6, 2)
    with pytest.raises(DistributedError, match=r"generator\.batch_size=7"):
        require_divisible("generator.batch_size", 7, 2)


def test_all_steps_are_a_finished_training() -> None:
    require_finished("classifier", 20, 20)
