"""What a sweep would still make and how long that takes: ``hydra.launcher.dry_run=true``.

Nothing is built. The pipeline of each cell is asked for its parts with a cache that refuses to
build, so a part is missing exactly where a run would build it. Times and sizes are those of
finished outputs of the same kind in ``paths.artifacts`` and ``paths.outputs``, for each image, and
times those of the device at hand.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table

from svp_lightning.config import Config, run_folder
from svp_lightning.data.classes import rare_classes
from svp_lightning.data.settings import UseSettings
from svp_lightning.errors import SvpError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import RECORD, ArtifactCache
from svp_lightning.runtime.files import sha256_of_json
from svp_lightning.runtime.terminal import duration, print_table
from svp_lightning.stages.past_outputs import SIMULATED, past_outputs
from svp_lightning.stages.run_folder import finished
from svp_lightning.stages.settings import SimulatedData

PRETRAINING = ("pretraining_store", "pretrained")
ADDING = ("store", "features", "generator", "microscopes", "pool")
PARTS = {
    "train_generator": ("store", "generator"),
    "sample": ("store", "generator", "pool"),
    "train_classifier": (*ADDING, *PRETRAINING, "classifier"),
    "evaluate": (*ADDING, *PRETRAINING, "classifier", "test"),
}
"""Task -> parts of the pipeline that it builds, in order. Other tasks are not foreseen."""


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


def missing_parts(config: Config, of: Sequence[str] | None = None) -> list[Part]:
    """What a run of ``config`` has to make (``of`` these names); empty where it is finished.

    Raises:
        SvpError: it cannot run (``data.root`` is not there, say).
    """
    run_dir = run_folder(config)
    if config.task == "evaluate" and finished(run_dir):
        return []
    pipeline = Pipeline(config, run_dir)
    pipeline.cache = _Planning(config.paths.artifacts)
    return [_part(n, config) for n in of or _parts_of(config) if not _built(pipeline, n)]


def _parts_of(config: Config) -> Iterator[str]:
    arm = config.augmentation
    unused = {
        "features": not arm.needs_features,
        "generator": not (config.draws_images or config.task == "train_generator"),
        "microscopes": "matched" not in arm.parts,
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
    if name in used:
        decided = {group: getattr(config, group).identity() for group in used[name]}
    elif name == "microscopes":  # whatever the real images
        from svp_lightning.simulation.matching import looks_settings

        simulation = getattr(config.data, "simulation", config.simulation)
        decided = looks_settings(simulation) | {"count": config.augmentation.candidates}
    else:
        decided = config.identity()
    if name == "store":  # images that are used in another way are the same images
        decided = {k: v for k, v in decided["data"].items() if k not in UseSettings.model_fields}
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
        trained = first.steps * config.classifier.batch_size
        return first.num_images if name == "pretraining_store" else trained
    if name == "microscopes":
        from svp_lightning.simulation.matching import COMPARED, IMAGES

        return len(COMPARED) * IMAGES * (config.augmentation.candidates or 0)
    if not isinstance(config.data, SimulatedData):
        return None
    simulation, arm = config.data.simulation, config.augmentation
    if name == "store":
        return simulation.num_images
    if name == "test":
        return sum(simulation.counts["test"].values())
    from svp_lightning.data.mix import added_counts

    train, most = dict(simulation.counts["train"]), config.data.rare_images
    rare = rare_classes(train)
    train |= {one: min(train[one], most or train[one]) for one in rare}
    return sum(added_counts(train, rare, arm.ratio, arm.plentiful_ratio).values())


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
        return bool(missing_parts(config, ["generator"]))
    except (SvpError, OSError):  # the cell says so
        return False


def forecast(part: Part, config: Config, device: str) -> tuple[float | None, float | None]:
    """Seconds and bytes of making a part on a device; None where nothing like it was made before.

    Sizes are those of any device; trained weights do not grow with the images trained on.
    """
    folders, images = (config.paths.artifacts, config.paths.outputs), part.images
    known = [one for one in past_outputs(part.name, *folders) if one.like == part.like]
    timed = [one for one in known if part.name in SIMULATED or one.was_made_on(device)]
    seconds = size = None
    if images is not None and timed:
        seconds = images * sum(one.seconds for one in timed) / sum(one.images for one in timed)
    if part.name not in (*SIMULATED, "pool"):
        size = fmean(one.bytes for one in known) if known else None
    elif images is not None and known:
        size = images * sum(one.bytes for one in known) / sum(one.images for one in known)
    elif images is not None and config.data.image_size is not None:
        size = images * float(config.data.image_size) ** 2
    return seconds, size


def show(cells: Sequence[tuple[str, Config]], parallel: int, first: bool = False) -> None:
    """Print a table of the cells: what each has still to make, and about how long it takes.

    ``parallel`` cells run at once; ``first``: generators are trained before, one after another
    (:class:`Needs`). Below it the sums, with the device and the room on the disk.
    """
    from svp_lightning.stages.environment import planned_device

    table = Table("cell", "still to make", "about", box=None, pad_edge=False)
    made, unknown, devices = set[str](), set[str](), set[str]()
    sizes: Counter[Path] = Counter()
    generators, cell_seconds, unsized, finished_cells = [0.0], [0.0], False, 0
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
        devices.add(device := planned_device(config.trainer))
        took, training, untimed = 0.0, 0.0, set()
        for part in own:
            part_seconds, size = forecast(part, config, device)
            took += part_seconds or 0
            training += (part.name == "generator") * (part_seconds or 0)
            untimed |= {part.name} if part_seconds is None else set()
            folder = config.paths.outputs if part.name == "test" else config.paths.artifacts
            sizes[folder] += round(size or 0)
            unsized |= size is None
        table.add_row(name, _in_words(parts, own), _about(took, bool(untimed)))
        unknown |= untimed
        generators.append(training)
        cell_seconds.append(took - training)
    print_table(table)
    where = " and ".join(sorted(devices)) or "this machine"
    # The longest takes its time, however many run at once; cells may wait for another's generator.
    shared = ((generators, 1 if first else parallel), (cell_seconds, parallel))
    seconds = sum(max(*times, sum(times) / at_once) for times, at_once in shared)
    print(f"{len(cells)} cell{'s' * (len(cells) > 1)}, {finished_cells} finished.")
    print(f"To do on {where}: {_about(seconds, bool(unknown))} with {parallel} at a time.")
    for line in _room(sizes, "at least " if unsized else ""):
        print(line)
    if unknown:
        print(f"Not counted, as nothing like it was made on {where}: {', '.join(sorted(unknown))}.")
        print("One cell that has run says how long others of its kind take.")


def _room(sizes: Mapping[Path, int], more: str) -> Iterator[str]:
    """Bytes that are needed and free on each disk, with a warning where they do not suffice."""
    disks: dict[int, tuple[int, int, Path]] = {}
    for folder, size in sizes.items():
        there = next(one for one in (folder.resolve(), *folder.resolve().parents) if one.exists())
        disk = there.stat().st_dev
        before = disks[disk][0] if disk in disks else 0
        disks[disk] = before + size, shutil.disk_usage(there).free, folder
    for needed, free, folder in disks.values():
        yield f"Disk of {folder}: {more}{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free."
        if needed > free:
            yield "Warning: that does not suffice. Free some, or change paths.artifacts."


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
        return "not known" if more else "-"
    return f"{'at least ' if more else ''}{duration(seconds)}"
