"""The store of real or simulated images."""

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from svp_lightning.data.classes import rare_classes
from svp_lightning.data.importers.writer import write_plan
from svp_lightning.data.overrides import with_overrides
from svp_lightning.data.rarity import limit_rare
from svp_lightning.data.settings import FolderSettings, RunSettings, UseSettings
from svp_lightning.data.store import Store
from svp_lightning.evaluation.priors import class_shares
from svp_lightning.runtime.artifacts import STAGE_VERSIONS, ArtifactCache
from svp_lightning.runtime.clock import keep_cost
from svp_lightning.runtime.files import sweep_memory
from svp_lightning.runtime.terminal import counting, duration, say
from svp_lightning.stages.input_files import input_hashes
from svp_lightning.stages.settings import DataSettings, SimulatedData

WORTH_SAYING_SECONDS = 60
USES = (*UseSettings.model_fields, "volume_ml")
"""Settings of how the images are used, not of which there are."""


def build_store(data: DataSettings, own: Collection[Path], cache: ArtifactCache) -> Store:
    """The store of real (or simulated) images, built if missing.

    Where ``data.label_overrides`` changes labels or ``data.rare_images`` limits the rare classes,
    it is a view of the same store. Folders of results in ``own`` are no images where they lie among
    them.
    """
    if isinstance(data, SimulatedData):
        identity = {
            "source": data.source,
            "image_size": data.image_size,
            "seed": data.seed,
            "simulation": data.simulation.identity(),
        }
        make = partial(simulate, data)
    else:
        uses = USES if data.source == "flowcam" else (*USES, "dilution")  # its facts hold it
        identity = {name: v for name, v in data.identity().items() if name not in uses}
        # The files decide, not the folder's place: a moved folder is the same data.
        identity |= input_hashes(data, own, sweep_memory()) | {"import": STAGE_VERSIONS["import"]}
        make = partial(_import, data, own)
    store = Store.open(cache.build("store", identity, make))
    for warning in store.manifest.made_by.get("warnings", []):
        say(warning)
    if data.label_overrides is not None:
        store = with_overrides(store, data.label_overrides)
    if data.rare_images is None:
        return store
    return limit_rare(store, data.rare_images, data.rare_seed)


def simulate(data: SimulatedData, folder: Path) -> None:
    """Render the store of simulated images into ``folder``; a killed call resumes."""
    # Imported when needed: it brings torch, which no import of real images waits for.
    from svp_lightning.simulation.simulated_store import simulate_store

    total = sum(sum(counts.values()) for counts in data.simulation.counts.values())
    with writing("Simulating", total, folder) as progress:
        simulate_store(
            folder, data.simulation, data.image_size, data.seed, progress, announce_simulation
        )


def announce_simulation(seconds: float) -> None:
    """Say how long a simulation will take, where that is worth saying."""
    if seconds > WORTH_SAYING_SECONDS:
        say(f"  Simulating takes about {duration(seconds)}; if stopped, it resumes later.")


def _import(data: FolderSettings | RunSettings, own: Collection[Path], folder: Path) -> None:
    importer = importlib.import_module(f"svp_lightning.data.importers.{data.source}")
    plan = getattr(importer, f"plan_{data.source}")(data, own)
    with writing("Importing", len(plan.particles), folder) as progress:
        write_plan(folder, plan, data.num_threads, progress)


@contextmanager
def writing(description: str, total: int, folder: Path) -> Iterator[Callable[[int], None]]:
    """A bar over the images of a store; every chunk written records the cost so far."""
    with counting(description, total) as advance:

        def written(count: int) -> None:
            advance(count)
            keep_cost(folder)

        yield written


def use_prevalence(
    stated: dict[str, float] | None, plentiful: float | Literal["test"], store: Store
) -> dict[str, float]:
    """Class name -> share in the field.

    Args:
        stated: ``data.prevalence``, which decides where it is given.
        plentiful: ``evaluation.prevalence``: particles of each plentiful class for each of a rare
            one (:func:`~.classes.rare_classes`; where no class is, all count alike); ``test``: the
            test images' own shares.
        store: the real images.

    Raises:
        SettingsError: the prevalence stated is of other classes than the data's.
    """
    frequency: Mapping[str, float] = stated or store.counts("test")
    if stated is not None:
        class_shares(stated, store.class_names)  # refuses other classes
    elif plentiful != "test":
        rare = rare_classes(store.counts("train"))
        frequency = {name: 1.0 if name in rare else plentiful for name in store.class_names}
    total = sum(frequency.values())
    return {name: frequency[name] / total for name in store.class_names}
