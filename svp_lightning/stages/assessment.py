"""How good the generated images of a pool are, and whether they are copies."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from svp_lightning.classifier.features import FeatureNetwork, describe, load_features
from svp_lightning.data.store import Store, spread
from svp_lightning.data.transforms import SYMMETRIES
from svp_lightning.errors import DataError
from svp_lightning.evaluation.fidelity.class_fidelity import Assessment, ImageSet, assess_class
from svp_lightning.evaluation.fidelity.copies import Neighbours, symmetric_images
from svp_lightning.evaluation.fidelity.measures import MIN_IMAGES
from svp_lightning.evaluation.fidelity.morphology import MEASURES
from svp_lightning.evaluation.fidelity.stored import FIDELITY, Fidelity
from svp_lightning.report.fidelity import MEASURE_NAMES
from svp_lightning.report.figures.likeness import (
    closest_pairs,
    distance_histograms,
    morphology_histograms,
)
from svp_lightning.report.style import save_figure
from svp_lightning.report.text import listing
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.clock import keep_cost
from svp_lightning.runtime.files import write_json
from svp_lightning.runtime.terminal import bar
from svp_lightning.stages.environment import git_revision, package_versions
from svp_lightning.stages.run_folder import FIGURES
from svp_lightning.stages.settings import AssessSettings

HELD_OUT = "test"
"""No generator, checkpoint or filter has been chosen on this split."""
PAIRS = 8


def require_comparable(store: Store, drawn: Mapping[str, int]) -> None:
    """Refuse classes of too few images before any network is trained for them.

    ``drawn``: class name -> generated images, of which none need be there yet.

    Raises:
        DataError: with the class and its images.
    """
    for name, generated in drawn.items():
        real = (len(store.indices(s, store.class_names.index(name))) for s in ("train", HELD_OUT))
        there = dict(zip(("training", "test", "generated"), (*real, generated), strict=True))
        if generated and min(there.values()) < MIN_IMAGES:
            counts = listing([f"{count:,} {kind}" for kind, count in there.items()])
            raise DataError(
                f"{name} has {counts} images; task=assess needs {MIN_IMAGES} of each.",
                "Add images of the class, or draw more (augmentation.ratio).",
            )


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
    own = {"features": features.name, "assess": settings.identity()}
    identity = _compared(store, pool) | own

    def make(folder: Path) -> None:
        network, classes = load_features(features), {}
        names = [n for k, n in enumerate(store.class_names) if len(pool.indices(label=k))]
        parts = {name: folder / f"class_{name}.json" for name in names}
        with bar("Assessing", len(names), " classes") as progress:
            for name, part in parts.items():  # what an interrupted attempt has finished is kept
                if not part.is_file():
                    found = _assess(settings, store, pool, name, network, device, folder / FIGURES)
                    write_json(part, found.found.model_dump(mode="json"))
                    keep_cost(folder)
                classes[name] = json.loads(part.read_text(encoding="utf-8"))
                progress.update(1)
        facts = _facts(settings, store, pool, network) | {"scale": scale, "classes": classes}
        write_json(folder / FIDELITY, Fidelity.model_validate(facts).model_dump(mode="json"))
        for part in parts.values():
            part.unlink()

    return cache.build("fidelity", identity, make)


def attach_finished(cache: ArtifactCache, store: Store, pool: Store, run_dir: Path) -> None:
    """Give a run the assessment of its pool, where there is one; none is made for it."""
    compared = _compared(store, pool)
    for folder, identity in cache.finished("fidelity"):
        if {name: identity[name] for name in compared} == compared:
            attach_fidelity(folder, run_dir)


def _compared(store: Store, pool: Store) -> dict[str, Any]:
    """What identifies images and their measures. The pixel size is in no hash of the images."""
    pixel = {"pixel_size_um": store.image_pixel_um}
    return {"data": store.sha256, "synthetic": pool.sha256} | pixel


def attach_fidelity(folder: Path, run_dir: Path) -> None:
    """Copy an assessment into a run's folder, ``fidelity.json`` last."""
    (run_dir / FIGURES).mkdir(parents=True, exist_ok=True)
    for figure in sorted((folder / FIGURES).glob("*.png")):
        shutil.copyfile(figure, run_dir / FIGURES / figure.name)
    write_json(run_dir / FIDELITY, json.loads((folder / FIDELITY).read_text(encoding="utf-8")))


def _assess(
    settings: AssessSettings,
    store: Store,
    pool: Store,
    name: str,
    network: FeatureNetwork,
    device: torch.device,
    figures: Path,
) -> Assessment:
    """Assess one class and draw its figures."""
    label = store.class_names.index(name)

    def image_set(of: Store, rows: NDArray[np.int64], symmetries: int = SYMMETRIES) -> ImageSet:
        images = np.asarray(of.images[rows])
        turned = images
        if symmetries > 1:
            turned = symmetric_images(images).reshape(-1, *images.shape[1:])
        found = describe(network, turned, device)
        features = found.features.reshape(symmetries, len(images), -1)
        recognised = found.probabilities[: len(images)].argmax(axis=1) == label
        return ImageSet(images, features, recognised)

    train = image_set(store, store.indices("train", label), symmetries=1)
    heldout = image_set(store, spread(store.indices(HELD_OUT, label), settings.images))
    generated = image_set(pool, pool.indices(label=label)[: settings.images])
    found = assess_class(
        train,
        heldout,
        generated,
        pixel_size_um=store.image_pixel_um,
        draws=settings.draws,
        seed=settings.seed,
    )
    real, new = (
        {measure: getattr(measured, measure) for measure in MEASURES} for measured in found.measured
    )
    morphology = morphology_histograms(real, new, MEASURE_NAMES, name)
    distances = {
        words: (one.generated.distance, one.heldout.distance, one.found.closer.threshold)
        for words, one in {
            "Distance to the nearest training image, grey levels (RMS)": found.pixel,
            "… in feature space": found.feature,
        }.items()
    }
    pairs = {
        "generated": _pairs(generated, train, found.pixel.generated),
        "real, held out": _pairs(heldout, train, found.pixel.heldout),
    }
    save_figure(morphology, figures / f"fidelity_morphology_{name}.png")
    save_figure(distance_histograms(distances, name), figures / f"fidelity_distances_{name}.png")
    save_figure(closest_pairs(pairs, name), figures / f"fidelity_pairs_{name}.png")
    return found


def _pairs(
    images: ImageSet, train: ImageSet, neighbours: Neighbours
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[str]]:
    """The pairs with the smallest d1 / d2, the image turned as its training image lies."""
    closest = np.argsort(neighbours.ratio, kind="stable")[:PAIRS]
    turned = symmetric_images(images.images[closest])
    shown = turned[neighbours.symmetry[closest], np.arange(len(closest))]
    notes = [f"d {neighbours.distance[k]:.1f}\nratio {neighbours.ratio[k]:.2f}" for k in closest]
    return shown, train.images[neighbours.index[closest]], notes


def _facts(
    settings: AssessSettings, store: Store, pool: Store, network: FeatureNetwork
) -> dict[str, Any]:
    backbone, components = network.classifier.settings.backbone, network.num_features
    return {
        "held_out_split": HELD_OUT,
        "image_size": store.image_size,
        "pixel_size_um": store.image_pixel_um,
        "feature_network": {"backbone": backbone, "components": components},
        "settings": settings.identity(),
        "provenance": {
            "data": store.sha256,
            "generator": pool.manifest.made_by["generator"],
            "synthetic": pool.sha256,
            "sampler": pool.manifest.made_by["sampler"],
            "filtered": "filter" in pool.manifest.made_by,
            "git": git_revision(),
            "packages": package_versions(),
        },
    }
