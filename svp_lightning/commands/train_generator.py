"""``task=train_generator``: the generator of this configuration."""

from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.run_folder import FIGURES


def run(pipeline: Pipeline) -> None:
    """Train the generator and say where it and its pictures are."""
    path = pipeline.generator
    say(f"Generator: {path}\nPictures:  {path / FIGURES}")
