"""``task=sample``: draw synthetic images into the pool."""

from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import say


def run(pipeline: Pipeline) -> None:
    """Draw the images that the mix asks for and say where they are.

    A generator that has learnt only some of the rare classes (``generator.classes``) draws those.
    """
    wanted, _ = pipeline.drawn_and_simulated(pipeline.config.augmentation.ratio)
    learnt = pipeline.generator_rows.class_names
    pool = pipeline.draw({name: n for name, n in wanted.items() if name in learnt})
    say("\n".join([*IngestSummary(pool).lines(), f"Store: {pool.path}"]))
