"""How good the generated images of a pool are, and whether they are copies."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from svp_lightning.classifier.features import FeatureNetwork, describe, load_features
from svp_lightning.data.store import Store
from svp_lightning.evaluation.fidelity.class_fidelity import ImageSet, assess_class
from svp_lightning.evaluation.fidelity.copies import SYMMETRIES, symmetric_images
from svp_lightning.evaluation.schema import FIDELITY, Fidelity, write_fidelity
from svp_lightning.evaluation.settings import AssessSettings
from svp_lightning.runtime.artifacts import ArtifactCache, keep_cost
from svp_lightning.runtime.files import write_json
from svp_lightning.runtime.terminal import bar
from svp_lightning.stages.assessment_pictures import write_class_figures
from svp_lightning.stages.environment import git_revision, package_versions
from svp_lightning.stages.run_folder import FIGURES

HELD_OUT = "test"
"""No generator, checkpoint or filter has been chosen on this split."""


def build_fidelity(
    settings: AssessSettings,
    scale: str,
    store: Store,
    pool: Store,
    features: Path,
    cache: ArtifactCache,
    device: torch.device,
) -> Path:
    """The folder with ``fidelity.json`` and the figures of a pool, made if missing.

    The network in the folder ``features`` compares the pool with the real images of the store;
    ``scale`` is recorded.
    """
    identity = {
        "data": store.sha256,
        "synthetic": pool.sha256,
        "features": features.name,
        "assess": settings.identity(),
    }

    def make(folder: Path) -> None:
        inputs = _Inputs(settings, store, pool, load_features(features), device)
        records = _assess(inputs, folder)
        found = Fidelity.model_validate(_facts(inputs, scale) | {"classes": records})
        write_fidelity(folder / FIDELITY, found)
        for name in records:
            _part(folder, name).unlink()

    return cache.build("fidelity", identity, make)


def attach_finished(cache: ArtifactCache, pool: Store, run_dir: Path) -> None:
    """Give a run the assessment of its pool, where there is one; none is made for it."""
    for folder, identity in cache.finished("fidelity"):
        if identity["synthetic"] == pool.sha256:
            attach_fidelity(folder, run_dir)


def attach_fidelity(folder: Path, run_dir: Path) -> None:
    """Copy an assessment into a run's folder, ``fidelity.json`` last."""
    (run_dir / FIGURES).mkdir(parents=True, exist_ok=True)
    for figure in sorted((folder / FIGURES).glob("*.png")):
        shutil.copyfile(figure, run_dir / FIGURES / figure.name)
    write_json(run_dir / FIDELITY, json.loads((folder / FIDELITY).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class _Inputs:
    settings: AssessSettings
    store: Store
    pool: Store
    network: FeatureNetwork
    device: torch.device


def _part(folder: Path, name: str) -> Path:
    return folder / f"class_{name}.json"


def _assess(inputs: _Inputs, folder: Path) -> dict[str, Any]:
    """Class by class; what an interrupted attempt has finished is kept."""
    pool = inputs.pool
    names = [n for k, n in enumerate(inputs.store.class_names) if len(pool.indices(label=k))]
    records = {}
    with bar("Assessing", len(names), " classes") as progress:
        for name in names:
            part = _part(folder, name)
            if not part.is_file():
                write_json(part, _assess_one(inputs, name, folder / FIGURES))
                keep_cost(folder)
            records[name] = json.loads(part.read_text(encoding="utf-8"))
            progress.update(1)
    return records


def _assess_one(inputs: _Inputs, name: str, figures: Path) -> dict[str, Any]:
    store, pool, settings = inputs.store, inputs.pool, inputs.settings
    label = store.class_names.index(name)
    train = _image_set(inputs, store, label, store.indices("train", label), symmetries=1)
    heldout = _image_set(
        inputs, store, label, spread(store.indices(HELD_OUT, label), settings.images)
    )
    generated = _image_set(inputs, pool, label, pool.indices(label=label)[: settings.images])
    found = assess_class(
        train,
        heldout,
        generated,
        pixel_size_um=store.image_pixel_um,
        draws=settings.draws,
        seed=settings.seed,
    )
    write_class_figures(figures, name, train, heldout, generated, found)
    return found.found.model_dump(mode="json")


def spread(rows: NDArray[np.int64], at_most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly over all runs: the plentiful class may have millions."""
    if len(rows) <= at_most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, at_most).round().astype(np.int64)]


def _image_set(
    inputs: _Inputs,
    store: Store,
    label: int,
    rows: NDArray[np.int64],
    symmetries: int = SYMMETRIES,
) -> ImageSet:
    images = np.asarray(store.images[rows])
    turned = images
    if symmetries > 1:
        turned = symmetric_images(images).reshape(-1, *images.shape[1:])
    found = describe(inputs.network, turned, inputs.device)
    return ImageSet(
        images,
        found.features.reshape(symmetries, len(images), -1),
        found.probabilities[: len(images)].argmax(axis=1) == label,
    )


def _facts(inputs: _Inputs, scale: str) -> dict[str, Any]:
    store, pool = inputs.store, inputs.pool
    return {
        "scale": scale,
        "held_out_split": HELD_OUT,
        "image_size": store.image_size,
        "pixel_size_um": store.image_pixel_um,
        "feature_network": {
            "backbone": inputs.network.classifier.settings.backbone,
            "components": inputs.network.num_features,
        },
        "settings": inputs.settings.identity(),
        "provenance": {
            "data": store.sha256,
            "generator": pool.manifest.made_by["generator"],
            "synthetic": pool.sha256,
            "sampler": pool.manifest.made_by["sampler"],
            "git": git_revision(),
            "packages": package_versions(),
        },
    }
