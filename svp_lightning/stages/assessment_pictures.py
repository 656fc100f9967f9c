"""The pictures of one class's assessment."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.fidelity.class_fidelity import Assessment, ImageSet
from svp_lightning.evaluation.fidelity.copies import Neighbours, symmetric_images
from svp_lightning.evaluation.fidelity.morphology import MEASURES, Morphology
from svp_lightning.report.fidelity import MEASURE_NAMES
from svp_lightning.report.figures.likeness import (
    closest_pairs,
    distance_histograms,
    morphology_histograms,
)
from svp_lightning.report.style import save_figure

PAIRS = 8
SPACE_NAMES = {
    "pixel": "Distance to the nearest training image, grey levels (RMS)",
    "feature": "… in feature space",
}


def write_class_figures(
    folder: Path,
    name: str,
    train: ImageSet,
    heldout: ImageSet,
    generated: ImageSet,
    found: Assessment,
) -> None:
    """Write the class's histograms and its closest pairs into ``folder``."""
    real, new = found.measured
    histograms = morphology_histograms(_columns(real), _columns(new), MEASURE_NAMES, name)
    save_figure(histograms, folder / f"fidelity_morphology_{name}.png")
    panels = {
        SPACE_NAMES[space]: (
            closeness.generated.distance,
            closeness.heldout.distance,
            closeness.found.closer.threshold,
        )
        for space, closeness in (("pixel", found.pixel), ("feature", found.feature))
    }
    save_figure(distance_histograms(panels, name), folder / f"fidelity_distances_{name}.png")
    rows = {
        "generated": _pairs(generated, train, found.pixel.generated),
        "real, held out": _pairs(heldout, train, found.pixel.heldout),
    }
    save_figure(closest_pairs(rows, name), folder / f"fidelity_pairs_{name}.png")


def _columns(measured: Morphology) -> dict[str, NDArray[np.float64]]:
    return {measure: getattr(measured, measure) for measure in MEASURES}


def _pairs(
    images: ImageSet, train: ImageSet, neighbours: Neighbours
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[str]]:
    """The pairs with the smallest d1 / d2, the image turned as its training image lies."""
    closest = np.argsort(neighbours.ratio, kind="stable")[:PAIRS]
    turned = symmetric_images(images.images[closest])
    shown = turned[neighbours.symmetry[closest], np.arange(len(closest))]
    notes = [f"d {neighbours.distance[k]:.1f}\nratio {neighbours.ratio[k]:.2f}" for k in closest]
    return shown, train.images[neighbours.index[closest]], notes
