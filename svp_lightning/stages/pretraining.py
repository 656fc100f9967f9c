"""What a classifier starts from: a training on simulated images of microscopes at random."""

from pathlib import Path

from svp_lightning.classifier.settings import ClassifierSettings
from svp_lightning.data.mix import mix
from svp_lightning.data.store import Store
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.simulation.microscopes import microscope
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.simulated_store import simulate_instruments
from svp_lightning.stages.classifier_training import FEATURE_ARM, build_classifier
from svp_lightning.stages.real_store import writing
from svp_lightning.stages.settings import PretrainingSettings, pretrained_settings
from svp_lightning.stages.trainers import Trainers

HELD_OUT = ("val", "test")
"""Splits of one further microscope each, which a training asks for and nothing is chosen on."""
SESSIONS = 8
"""Instrument runs of each microscope."""
ARM = FEATURE_ARM.model_copy(update={"method": "none", "sampling": "natural"})


def build_pretraining_store(
    settings: PretrainingSettings, image_size: int, cache: ArtifactCache
) -> Store:
    """The store of simulated images of all microscopes, rendered if missing."""
    microscopes = _microscopes(settings)
    identity = {
        "image_size": image_size,
        "seed": settings.seed,
        "counts": {name: one.num_images for name, one in microscopes.items()},
        "microscopes": [one.identity() for one in microscopes.values()],
    }

    def make(folder: Path) -> None:
        with writing("Simulating", settings.num_images, folder) as progress:
            simulate_instruments(
                folder, microscopes, image_size, settings.seed * len(microscopes), progress
            )

    return Store.open(cache.build("store", identity, make))


def _microscopes(settings: PretrainingSettings) -> dict[str, SimulationSettings]:
    """Name -> settings of each microscope, whose images are all of one split."""
    splits = ["train"] * settings.microscopes + list(HELD_OUT)
    first = settings.seed * len(splits)
    found = {}
    for number, split in enumerate(splits, first):
        values = microscope(settings.simulation, number).model_dump()
        values |= {
            "counts": {split: settings.images},
            "sessions_per_split": dict.fromkeys(("train", *HELD_OUT), SESSIONS),
        }
        found[f"{number:02d}"] = SimulationSettings.parse(values, "pretraining.simulation")
    return found


def build_pretrained(
    settings: PretrainingSettings,
    classifier: ClassifierSettings,
    store: Store,
    cache: ArtifactCache,
    trainers: Trainers,
) -> Path:
    """The folder of a classifier of the network of ``classifier``, trained on ``store``."""
    even = dict.fromkeys(store.class_names, 1 / len(store.class_names))
    rows = mix(store, None, ARM, settings.seed)
    own = pretrained_settings(settings, classifier)
    return build_classifier(own, ARM, settings.seed, rows, even, cache, trainers)
