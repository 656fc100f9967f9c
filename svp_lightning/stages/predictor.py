"""The classifier that new images are judged with: of an evaluated run, or a packaged one."""

from dataclasses import dataclass
from pathlib import Path

from svp_lightning.classifier.appearance import Appearance
from svp_lightning.classifier.backbones import fold_batch_norms
from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.packaged import open_classifier
from svp_lightning.evaluation.reference import REFERENCE, Reference, read_reference
from svp_lightning.evaluation.schema import RESULTS, Results, read_results


@dataclass(frozen=True)
class Predictor:
    """A classifier and what is known of it.

    Attributes:
        seen: network (its batch norms folded), class names and trained shares; with a reference,
            also how far an image is from each class.
        reference: what prediction sets and flags come from; None: there are none.
        results: calibration and mistakes; None: it was not evaluated.
    """

    seen: ClassifierModule | Appearance
    reference: Reference | None
    results: Results | None


def load_predictor(folder: Path) -> Predictor:
    """Read the folder of an evaluated run, or of a packaged classifier.

    Raises:
        ArtifactError: a file is broken or not the one that was recorded.
        CheckpointError: the weights cannot be used.
    """
    classifier, reference = open_classifier(folder), read_reference(folder / REFERENCE)
    fold_batch_norms(classifier.network)
    results = read_results(folder / RESULTS) if (folder / RESULTS).is_file() else None
    if reference is None:
        return Predictor(classifier, None, results)
    return Predictor(Appearance(classifier, reference.appearance), reference, results)
