"""What a run's classifier is passed on with: evidence, ``model.onnx``, and its card."""

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.onnx_export import OnnxCheck, available, write_onnx
from svp_lightning.classifier.packaged import CARD, ONNX, is_packaged, write_packaged
from svp_lightning.errors import ArtifactError, DataError, SettingsError
from svp_lightning.evaluation.predictions import PREDICTIONS, read_predictions, write_predictions
from svp_lightning.evaluation.reference import REFERENCE, read_reference
from svp_lightning.evaluation.schema import RESULTS, Results, read_results
from svp_lightning.report.model_card import write_classifier_card
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.preparation import PREPARATION
from svp_lightning.stages.real_store import build_store
from svp_lightning.stages.run_folder import CLASSIFIER, VALIDATION, data_of

CHECKED_PER_CLASS = 100
"""Validation images of each class, at most, that an ONNX file is compared on."""


def export_classifier(
    folder: Path, run: Path, images: NDArray[np.uint8] | None, licence: str, origin: str
) -> OnnxCheck | None:
    """Write the classifier of an evaluated run into ``folder``, which the caller makes whole.

    ``model.onnx`` is checked on validation images (n, H, W); None: no such file. ``licence`` is an
    SPDX name, or ``other``; ``origin`` says where the training images come from, as a sentence.

    Raises:
        ArtifactError: the run's results are missing or have changed.
        CheckpointError: the weights cannot be used, or the ONNX file computes something else.
    """
    results, module = read_results(run / RESULTS), Classifier.load(run / CLASSIFIER)
    shutil.copyfile(run / RESULTS, folder / RESULTS)
    further = [RESULTS]
    for name in (PREDICTIONS, VALIDATION):
        _without_names(run / name, folder / name)
        further.append(name)
    if read_reference(run / REFERENCE) is not None:
        shutil.copyfile(run / REFERENCE, folder / REFERENCE)
        further.append(REFERENCE)
    checked = None
    if images is not None:
        checked = write_onnx(folder / ONNX, module, images)
        further.append(ONNX)
    config = write_packaged(
        folder, module, name=results.experiment, further=further, **facts_of(results, origin)
    )
    write_classifier_card(folder / CARD, config.model_dump(mode="json"), results, checked, licence)
    return checked


def facts_of(results: Results, origin: str) -> dict[str, Any]:
    """The fields of :class:`~.packaged.PackagedConfig` that an evaluation has found."""
    preparation = (results.provenance.model_extra or {}).get(PREPARATION)
    scaling = results.calibration
    return {
        "prevalence": results.prevalence,
        "pixel_um": preparation and preparation.get("pixel_um"),
        "calibration": {"temperature": scaling.temperature, "biases": scaling.biases},
        "preparation": preparation,
        "training": {
            "origin": origin,
            "images": results.counts.train,
            "added": results.counts.synthetic,
            "augmentation": results.augmentation.model_dump(mode="json"),
            "data": results.provenance.data,
            "packages": results.provenance.packages,
        },
    }


def _without_names(file: Path, to: Path) -> None:
    """Copy predictions; the images' names, which may tell about samples, become numbers."""
    found = read_predictions(file, with_ids=False)
    ids = np.arange(len(found.labels)).astype(str).astype(object)
    write_predictions(to, replace(found, ids=ids))


def images_to_check(
    run: Path, wanted: Literal["auto"] | bool, own: Collection[Path], cache: ArtifactCache
) -> NDArray[np.uint8] | None:
    """(n, H, W) validation images of a run, of every class, that ``model.onnx`` is checked on.

    None where it is not wanted, or with ``auto``, where it cannot be made or checked.

    Args:
        run: an evaluated run, whose images are imported again if they are not in the cache.
        wanted: ``export.onnx``.
        own: folders of results, which are no images.
        cache: of artifacts.

    Raises:
        SettingsError: ``run`` is a packaged classifier.
        SvpError: ``wanted`` is true, and the images are not at hand or are others now.
    """
    if is_packaged(run):
        raise SettingsError(f"{run} is an exported classifier already.", "Copy the folder.")
    if wanted is False or (wanted == "auto" and not available()):
        return None
    try:
        store = build_store(data_of(run), own, cache)
        if store.sha256 != read_results(run / RESULTS).provenance.data:
            raise ArtifactError(
                f"The images at hand ({store.path}) are not those of the run.",
                "Put the run's images back in their place, or set export.onnx=false.",
            )
    except (ArtifactError, DataError) as error:
        if wanted is True:
            raise
        say(f"No model.onnx: it is checked on the run's validation images. {error}")
        return None
    return np.asarray(store.images[store.few_of_each("val", CHECKED_PER_CLASS)])
