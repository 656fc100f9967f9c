"""What a classifier starts from: a training on simulated images of other microscopes."""

from collections.abc import Callable, Mapping
from functools import cached_property
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
from svp_lightning.stages.simulated_pools import Microscopes, choose_microscopes
from svp_lightning.stages.trainers import Trainers

HELD_OUT = ("val", "test")
"""Splits of one further microscope each, which a training asks for and nothing is chosen on."""
SESSIONS = 8
"""Instrument runs of each microscope."""
ARM = FEATURE_ARM.model_copy(update={"method": "none", "sampling": "natural"})


class Start:
    """A classifier trained on simulated images, each part of it made if missing when asked for.

    Args:
        settings: which images, and how long.
        classifier: the network that starts from it, whose batches and optimiser it shares.
        store: the data. Their training images choose the microscopes where there are candidates.
        cache: where the parts are kept.
        trainers: asked when the classifier is trained.
    """

    def __init__(
        self,
        settings: PretrainingSettings,
        classifier: ClassifierSettings,
        store: Store,
        cache: ArtifactCache,
        trainers: Callable[[], Trainers],
    ) -> None:
        self._settings, self._network = settings, classifier
        self._data, self._cache, self._trainers = store, cache, trainers

    @cached_property
    def microscopes(self) -> Microscopes:
        """Those of the training images; without candidates another seed has others."""
        asked = self._settings
        if asked.candidates is None:
            first = asked.seed * (asked.microscopes + len(HELD_OUT))
            return Microscopes(range(first, first + asked.microscopes), {})
        return choose_microscopes(asked, asked.simulation, self._data, self._cache)

    @cached_property
    def store(self) -> Store:
        """The simulated images of all microscopes."""
        settings, size = self._settings, self._data.image_size
        instruments = _instruments(settings, self.microscopes)
        identity = {
            "image_size": size,
            "seed": settings.seed,
            "counts": {name: one.num_images for name, one in instruments.items()},
            "microscopes": [one.identity() for one in instruments.values()],
        }

        def make(folder: Path) -> None:
            seed = settings.seed * len(instruments)
            with writing("Simulating", settings.num_images, folder) as progress:
                simulate_instruments(folder, instruments, size, seed, progress)

        return Store.open(self._cache.build("store", identity, make))

    @cached_property
    def classifier(self) -> Path:
        """Folder of the trained classifier."""
        even = dict.fromkeys(self.store.class_names, 1 / len(self.store.class_names))
        own, seed = pretrained_settings(self._settings, self._network), self._settings.seed
        rows = mix(self.store, None, ARM, seed)
        return build_classifier(own, ARM, seed, rows, even, self._cache, self._trainers())

    @property
    def sources(self) -> Mapping[str, Path]:
        """Stage -> artifact behind it."""
        looks, trained = self.microscopes.sources, self.classifier
        training = "matched_pretraining" if looks else "pretraining"
        return {**looks, "microscopes": self.store.path, training: trained}


def _instruments(
    settings: PretrainingSettings, chosen: Microscopes
) -> dict[str, SimulationSettings]:
    """Name -> settings of each microscope, whose images are all of one split."""
    splits = ["train"] * settings.microscopes + list(HELD_OUT)
    further = settings.candidates or chosen.numbers[-1] + 1
    found = {}
    for number, split in zip([*chosen.numbers, further, further + 1], splits, strict=True):
        values = microscope(settings.simulation, number).model_dump()
        values |= {
            "counts": {split: settings.images},
            "sessions_per_split": dict.fromkeys(("train", *HELD_OUT), SESSIONS),
        }
        found[f"{number:02d}"] = SimulationSettings.parse(values, "pretraining.simulation")
    return found
