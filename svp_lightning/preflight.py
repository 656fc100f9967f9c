"""What a sweep would still make and how long that takes: ``hydra.launcher.dry_run=true``.

Nothing is built. The pipeline of each cell is asked for its parts with a cache that refuses to
build, so a part is missing exactly where a run would build it. Times and sizes are those of
finished outputs of the same kind in ``paths.artifacts`` and ``paths.outputs``, for each image.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table

from svp_lightning.config import Config, PathSettings, run_folder
from svp_lightning.data.classes import rare_classes
from svp_lightning.errors import SvpError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import RECORD, ArtifactCache, cost_of
from svp_lightning.runtime.files import sha256_of_json
from svp_lightning.runtime.terminal import duration, print_table
from svp_lightning.stages.run_folder import RESULTS, finished
from svp_lightning.stages.settings import SimulatedData

PRETRAINING = ("pretraining_store", "pretrained")
PARTS = {
    "train_generator": ("store", "generator"),
    "sample": ("store", "generator", "pool"),
    "train_classifier": ("store", "features", "generator", "pool", *PRETRAINING, "classifier"),
    "evaluate": ("store", "features", "generator", "pool", *PRETRAINING, "classifier", "test"),
}
"""Task -> parts of the pipeline that it builds, in order. Other tasks are not foreseen."""
STAGES = {
    "pool": "synthetic",
    "features": "classifier",
    "pretraining_store": "store",
    "pretrained": "classifier",
}
"""Part -> stage whose finished outputs say how long it takes, where the names differ."""


@dataclass(frozen=True)
class Part:
    """Something a cell has to make; cells with the same ``key`` make it once.

    Attributes:
        name: one of :data:`PARTS`.
        images: drawn, trained on or tested; None where that is not known before the data are read.
        like: what outputs of comparable speed share (a backbone, say).
    """

    name: str
    key: str
    images: int | None
    like: str | None


class _MissingError(Exception):
    pass


class _Planning(ArtifactCache):
    @contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        """What another process builds is missing until it is there; nobody waits for it."""
        yield

    def build(self, stage: str, identity: Mapping[str, Any], *_: Any, **__: Any) -> Path:
        path = self.path(stage, identity)
        if not (path / RECORD).is_file():
            raise _MissingError
        return path


def missing_parts(config: Config) -> list[Part]:
    """What a run of ``config`` has to make; empty where it is finished.

    Raises:
        SvpError: it cannot run (``data.root`` is not there, say).
    """
    run_dir = run_folder(config)
    if config.task == "evaluate" and finished(run_dir):
        return []
    pipeline = Pipeline(config, run_dir)
    pipeline.cache = _Planning(config.paths.artifacts)
    return [_part(name, config) for name in _parts_of(config) if not _built(pipeline, name)]


def _parts_of(config: Config) -> Iterator[str]:
    arm = config.augmentation
    unused = {
        "features": not arm.needs_features,
        "generator": not (config.draws_images or config.task == "train_generator"),
        "pool": not (arm.needs_pool or config.task == "sample"),
    } | dict.fromkeys(PRETRAINING, not config.pretrains)
    return (name for name in PARTS.get(config.task, ()) if not unused.get(name))


def _built(pipeline: Pipeline, name: str) -> bool:
    try:
        return name != "test" and getattr(pipeline, name) is not None
    except _MissingError:
        return False


def _part(name: str, config: Config) -> Part:
    """The settings that decide the part make its key."""
    used = {"store": ["data"], "features": ["data", "features"], "generator": ["data", "generator"]}
    used["pool"] = [*used["generator"], "sampler", "augmentation"]
    used |= {"pretraining_store": ["pretraining"], "pretrained": ["pretraining", "classifier"]}
    groups = used.get(name)
    decided = (
        config.identity() if groups is None else [getattr(config, g).identity() for g in groups]
    )
    return Part(name, sha256_of_json([name, decided]), _images(name, config), _like(name, config))


def _like(name: str, config: Config) -> str | None:
    if name == "generator":
        return sha256_of_json(config.generator.network.identity())
    if name == "features":
        return config.features.classifier.backbone
    return config.classifier.backbone if name in ("classifier", "pretrained", "test") else None


def _images(name: str, config: Config) -> int | None:
    if name in ("generator", "classifier", "features"):
        own = config.features.classifier if name == "features" else getattr(config, name)
        return int(own.steps * own.batch_size)
    if (first := config.pretraining) is not None and name in PRETRAINING:
        return (
            first.num_images
            if name == "pretraining_store"
            else first.steps * config.classifier.batch_size
        )
    if not isinstance(config.data, SimulatedData):
        return None
    simulation, arm = config.data.simulation, config.augmentation
    if name == "store":
        return simulation.num_images
    if name == "test":
        return sum(simulation.counts["test"].values())
    from svp_lightning.data.mix import added_counts

    train, most = dict(simulation.counts["train"]), config.data.rare_images
    train |= {one: min(train[one], most or train[one]) for one in rare_classes(train)}
    return sum(added_counts(train, arm.ratio, arm.plentiful_ratio).values())


@dataclass(frozen=True)
class Needs:
    """What the cells of a sweep use of the machine they share.

    Attributes:
        accelerated: one of them uses an accelerator where there is one.
        processes: of a cell, the most; None: one for each accelerator there is.
        first: name of a cell -> overrides that make its command train a generator. It takes most of
            a cell's time, so it is trained with all cores before the cells share them.
    """

    accelerated: bool
    processes: int | None
    first: dict[str, list[str]]


def needs(cells: Mapping[str, Config]) -> Needs:
    """The needs of cells, by their names; of generators those that are still to be trained."""
    trainers = [config.trainer for config in cells.values()]
    counts = [None if one.num_nodes > 1 else one.processes for one in trainers]
    known = [count for count in counts if count is not None]
    generators: dict[str, str] = {}
    for name, config in cells.items():
        if "generator" in _parts_of(config):
            generators.setdefault(_part("generator", config).key, name)
    untrained = [name for name in generators.values() if _lacks_generator(cells[name])]
    return Needs(
        accelerated=any(one.accelerator != "cpu" for one in trainers),
        processes=max(known, default=1) if len(known) == len(counts) else None,
        first={name: ["task=train_generator"] for name in untrained},
    )


def _lacks_generator(config: Config) -> bool:
    try:
        return "generator" in {part.name for part in missing_parts(config)}
    except SvpError:  # the cell says so
        return False


@dataclass(frozen=True)
class _Output:
    """A finished output: how long it took and what it holds, for so many images."""

    like: str | None
    images: int
    seconds: float
    bytes: int


@cache  # the cells of a sweep share their folders
def _outputs(name: str, paths: PathSettings) -> tuple[_Output, ...]:
    return tuple(_tested(paths) if name == "test" else _made(STAGES.get(name, name), paths))


def _tested(paths: PathSettings) -> Iterator[_Output]:
    for file in sorted(paths.outputs.glob(f"*/*/{RESULTS}")):
        with suppress(OSError, ValueError, KeyError):  # of a damaged run, or another version
            found = json.loads(file.read_text(encoding="utf-8"))
            images, cost = sum(found["counts"]["test"].values()), found["costs"]["test"]
            yield _Output(found["backbone"], images, cost["wall_seconds"], 0)


def _made(stage: str, paths: PathSettings) -> Iterator[_Output]:
    for folder, identity in ArtifactCache(paths.artifacts).finished(stage):
        own, cost = identity.get(stage, {}), cost_of(folder)
        like = own.get("backbone") or ("network" in own and sha256_of_json(own["network"])) or None
        trained = own["steps"] * own["batch_size"] if "steps" in own else 0
        if (images := trained or _held(identity)) and cost is not None:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            yield _Output(like, images, cost["wall_seconds"], size)


def _held(identity: Mapping[str, Any]) -> int:
    """Images of a store or pool, from the counts in its identity."""
    counts = identity.get("counts") or identity.get("simulation", {}).get("counts", {})
    return sum(sum(one.values()) if isinstance(one, dict) else one for one in counts.values())


def forecast(part: Part, config: Config) -> tuple[float, float] | None:
    """Seconds and bytes of making a part; None where nothing like it has been made here.

    Bytes of trained weights do not grow with the images trained on.
    """
    known = [one for one in _outputs(part.name, config.paths) if one.like == part.like]
    if part.images is None or not known:
        return None
    images = sum(one.images for one in known)
    seconds = part.images * sum(one.seconds for one in known) / images
    size = fmean(one.bytes for one in known)
    grows = part.name in ("store", "pretraining_store", "pool")
    return seconds, part.images * sum(one.bytes for one in known) / images if grows else size


def show(cells: Sequence[tuple[str, Config]], parallel: int) -> None:
    """Print a table of the cells: what each has still to make, and about how long it takes.

    ``parallel`` cells run at once.
    """
    table = Table("cell", "still to make", "about", box=None, pad_edge=False)
    made: set[str] = set()
    unknown: set[str] = set()
    seconds, size, finished_cells = 0.0, 0.0, 0
    for name, config in cells:
        if config.task not in PARTS:
            table.add_row(name, f"not foreseen for task={config.task}", "?")
            continue
        try:
            parts = missing_parts(config)
        except SvpError as error:
            table.add_row(name, f"cannot run: {error.what}", "")
            continue
        finished_cells += not parts
        own = [part for part in parts if part.key not in made]
        made |= {part.key for part in own}
        forecasts = {part.name: forecast(part, config) for part in own}
        missing = {part for part, found in forecasts.items() if found is None}
        took = sum(found[0] for found in forecasts.values() if found)
        size += sum(found[1] for found in forecasts.values() if found)
        table.add_row(name, _in_words(parts, own), _about(took, bool(missing)))
        seconds, unknown = seconds + took, unknown | missing
    print_table(table)
    total = _about(seconds / parallel, bool(unknown))
    where = cells[0][1].paths.artifacts
    print(
        f"{len(cells)} cells, {finished_cells} finished. To do: {total} with {parallel} at a time,"
    )
    print(f"{size / 1e9:.1f} GB in {where}.")
    if unknown:
        print(f"Not counted, as nothing like it was made here: {', '.join(sorted(unknown))}.")


def _in_words(parts: Sequence[Part], own: Sequence[Part]) -> str:
    if not parts:
        return "nothing: finished"
    words = []
    for part in parts:
        count = f" ({part.images:,} images)" if part.images is not None else ""
        words.append(f"{part.name}{count}" if part in own else f"{part.name} (shared)")
    return ", ".join(words)


def _about(seconds: float, more: bool) -> str:
    if not seconds:
        return "?" if more else "-"
    return f"{'at least ' if more else ''}{duration(seconds)}"
