"""``task=train_classifier``: a classifier on real images and what the mix adds to them."""

from svp_lightning.classifier.validation import BEST
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import say


def run(pipeline: Pipeline) -> None:
    """Train the classifier and say where it is."""
    say(f"Classifier: {pipeline.classifier / BEST}")
