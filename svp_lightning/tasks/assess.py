"""``task=assess``: how good are the generated images, and are they copies?"""

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.classifier.features import FeatureNetwork, describe, load_features
from svp_lightning.config import Config
from svp_lightning.data.store import Store
from svp_lightning.evaluation.fidelity.assess import ImageSet, assess_class, class_record
from svp_lightning.evaluation.fidelity.neighbours import SYMMETRIES, symmetric_images
from svp_lightning.report.fidelity_page import fidelity_report
from svp_lightning.report.fidelity_table import print_fidelity
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import write_json
from svp_lightning.tasks.assess_figures import write_class_figures
from svp_lightning.tasks.devices import choose_device
from svp_lightning.tasks.features import ensure_features
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.progress import bar
from svp_lightning.tasks.provenance import git_revision, package_versions
from svp_lightning.tasks.session import Session, say
from svp_lightning.tasks.train_classifier import synthetic_images

FIDELITY = "fidelity.json"
FIGURES = "figures"
SCHEMA = 1
HELD_OUT = "test"
"""No generator, checkpoint or filter has been chosen on this split."""


def run(config: Config, session: Session) -> None:
    """Measure the pool of generated images; write ``fidelity.json``, figures and a page."""
    store = ensure_store(config, session)
    folder = ensure_fidelity(config, session, store, assessed_pool(config, session, store))
    if not is_main_process():
        return
    attach_fidelity(folder, session.run_dir)
    page = fidelity_report(session.run_dir)
    print_fidelity(session.run_dir)
    say(f"Report: {page}")


def assessed_pool(config: Config, session: Session, store: Store) -> Store:
    """The images this configuration would train on; those of 1 × where it adds none."""
    if not config.augmentation.needs_generator:
        changes = {"extra": "diffusion", "ratio": 1.0}
        augmentation = config.augmentation.model_copy(update=changes)
        config = config.model_copy(update={"augmentation": augmentation})
    return synthetic_images(config, session, store)


def ensure_fidelity(config: Config, session: Session, store: Store, pool: Store) -> Path:
    """The folder with the assessment of a pool, made if missing."""
    features = ensure_features(config, session, store)
    identity = _identity(config, store, pool, features)
    make = partial(_assess, config, store, pool, features)
    return session.artifacts.build("fidelity", identity, make)


def attach_finished(session: Session, pool: Store) -> None:
    """Give a run the assessment of its pool, where there is one; none is made for it."""
    for folder, identity in session.artifacts.finished("fidelity"):
        if identity["synthetic"] == pool.sha256:
            attach_fidelity(folder, session.run_dir)


def attach_fidelity(folder: Path, run_dir: Path) -> None:
    """Copy an assessment into a run's folder, ``fidelity.json`` last."""
    (run_dir / FIGURES).mkdir(parents=True, exist_ok=True)
    for figure in sorted((folder / FIGURES).glob("*.png")):
        shutil.copyfile(figure, run_dir / FIGURES / figure.name)
    write_json(run_dir / FIDELITY, json.loads((folder / FIDELITY).read_text(encoding="utf-8")))


def _identity(config: Config, store: Store, pool: Store, features: Path) -> dict[str, Any]:
    return {
        "data": store.sha256,
        "synthetic": pool.sha256,
        "features": features.name,
        "assess": config.assess.identity(),
    }


@dataclass(frozen=True)
class _Inputs:
    config: Config
    store: Store
    pool: Store
    network: FeatureNetwork


def _assess(config: Config, store: Store, pool: Store, features: Path, folder: Path) -> None:
    """Class by class; what an interrupted attempt has finished is kept."""
    inputs = _Inputs(config, store, pool, load_features(features))
    names = [name for k, name in enumerate(store.class_names) if len(pool.indices(label=k))]
    records = {}
    with bar("Assessing", len(names), " classes") as progress:
        for name in names:
            part = folder / f"class_{name}.json"
            if not part.is_file():
                _assess_one(inputs, name, folder, part)
            records[name] = json.loads(part.read_text(encoding="utf-8"))
            progress.update(1)
    write_json(folder / FIDELITY, _results(inputs, records))
    for name in names:
        (folder / f"class_{name}.json").unlink()


def _assess_one(inputs: _Inputs, name: str, folder: Path, part: Path) -> None:
    store, pool, settings = inputs.store, inputs.pool, inputs.config.assess
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
        pixel_size_um=store.pixel_size_um,
        draws=settings.draws,
        seed=settings.seed,
        device=choose_device(inputs.config.trainer),
    )
    write_class_figures(folder / FIGURES, name, train, heldout, generated, found)
    counts = {"train": len(train), "heldout": len(heldout), "generated": len(generated)}
    write_json(part, {"counts": counts, **class_record(found)})


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
    device = choose_device(inputs.config.trainer)
    found = describe(inputs.network, turned, device)
    return ImageSet(
        images,
        found.features.reshape(symmetries, len(images), -1),
        found.probabilities[: len(images)].argmax(axis=1) == label,
    )


def _results(inputs: _Inputs, records: dict[str, Any]) -> dict[str, Any]:
    config, store, pool = inputs.config, inputs.store, inputs.pool
    return {
        "schema": SCHEMA,
        "task": "assess",
        "scale": config.scale.name,
        "held_out_split": HELD_OUT,
        "image_size": store.image_size,
        "pixel_size_um": store.pixel_size_um,
        "feature_network": {
            "backbone": inputs.network.classifier.settings.backbone,
            "components": inputs.network.num_features,
        },
        "settings": config.assess.identity(),
        "classes": records,
        "provenance": {
            "data": store.sha256,
            "generator": pool.manifest.made_by["generator"],
            "synthetic": pool.sha256,
            "sampler": pool.manifest.made_by["sampler"],
            "git": git_revision(),
            "packages": package_versions(),
        },
    }
