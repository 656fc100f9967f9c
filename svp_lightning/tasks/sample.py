"""``task=sample``: draw synthetic images into the pool."""

import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from svp_lightning.config import Config
from svp_lightning.data.importers.summary import summarise
from svp_lightning.data.mix import added_counts
from svp_lightning.data.store import Store
from svp_lightning.errors import SettingsError
from svp_lightning.generator.checkpoint import load_generator
from svp_lightning.generator.precision import resolve_precision
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import explaining_write_errors, sha256_of_json
from svp_lightning.tasks.devices import choose_device
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.pool import Pool, PoolModule
from svp_lightning.tasks.session import Session, say
from svp_lightning.tasks.train_generator import ensure_generator, training_rows, weights_hash
from svp_lightning.tasks.training import build_trainer, device_name, duration


def run(config: Config, session: Session) -> None:
    """Draw the images that the mix asks for and say where they are.

    A generator that has learnt only some of the rare classes (``generator.classes``) draws those.
    """
    store = ensure_store(config, session)
    learnt = training_rows(config.generator, store).class_names
    counts = {name: n for name, n in _wanted(config, store).items() if name in learnt}
    pool = _ensure_pool(config, session, store, counts)
    say("\n".join([*summarise(pool).lines(), f"Store: {pool.path}"]))


def ensure_synthetic(config: Config, session: Session, store: Store) -> Store:
    """The synthetic store this configuration's mix needs, drawn if missing.

    A pool that another ratio has drawn already is the beginning of this one: image k of a
    class is the same in every pool of a generator and sampler, so only the rest is drawn.

    Raises:
        SettingsError: the mix needs a class that the generator does not learn.
    """
    counts = _wanted(config, store)
    learnt = training_rows(config.generator, store).class_names
    if lacking := [name for name in counts if name not in learnt]:
        raise SettingsError(
            f"The mix needs synthetic images of {', '.join(lacking)}, but generator.classes "
            f"leaves the generator with {', '.join(learnt)}.",
            "Use generator.classes=all (or rare, with augmentation.plentiful_ratio=0), or only "
            "task=sample.",
        )
    return _ensure_pool(config, session, store, counts)


def _wanted(config: Config, store: Store) -> dict[str, int]:
    return added_counts(store.counts("train"), config.augmentation)


def _ensure_pool(config: Config, session: Session, store: Store, counts: dict[str, int]) -> Store:
    if not sum(counts.values()):
        raise SettingsError(
            f"augmentation.ratio={config.augmentation.ratio:g} of the classes "
            f"{', '.join(counts) or '(none)'} is no image.",
            "Raise augmentation.ratio, or let the generator learn a rare class.",
        )
    generator_path = ensure_generator(config, session, store)
    device = choose_device(config.trainer)
    sampler = resolve_precision(config.sampler, device)
    pool = {"generator": weights_hash(generator_path), "sampler": sampler.identity()}
    make = partial(_draw, config, session, store, pool, sampler, counts, generator_path)
    with _one_at_a_time(session, pool):
        path = session.artifacts.build(
            "synthetic", pool | {"counts": counts}, make, every_rank=True
        )
    return Store.open(path)


def _one_at_a_time(session: Session, pool: dict[str, Any]) -> Any:
    """Cells of a sweep extend one pool in turn instead of drawing the same images twice."""
    if not is_main_process():
        return nullcontext()
    root = session.artifacts.root / "synthetic"
    with explaining_write_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    return session.artifacts.lock(root / f"pool-{sha256_of_json(pool)[:16]}")


def _draw(
    config: Config,
    session: Session,
    store: Store,
    pool: dict[str, Any],
    sampler: SamplerSettings,
    counts: dict[str, int],
    generator_path: Path,
    folder: Path,
) -> None:
    generator = load_generator(generator_path)
    earlier = _largest_pool(session, pool)
    module = PoolModule(Pool(generator, pool["generator"], sampler, counts, earlier), folder)
    trainer = build_trainer(config, session, None, "Sampling")
    trainer.predict(module, return_predictions=False)
    # Waits for every process, whose batches are then written.
    counted = torch.tensor(module.drawn, device=trainer.strategy.root_device)
    drawn = int(trainer.strategy.reduce(counted, reduce_op="sum"))
    if is_main_process():
        if drawn:  # else a killed call or an earlier pool had drawn them all
            seconds = time.monotonic() - module.started
            say(
                f"  {drawn:,} images, {drawn / seconds:,.1f} images/s on {device_name(trainer)} "
                f"({sampler.precision}), {duration(seconds)}"
            )
        info = generator.info
        module.writer.finish(store.class_names, info.pixel_size_um, pool | {"task": "sample"})


def _largest_pool(session: Session, pool: dict[str, Any]) -> Store | None:
    """The largest finished pool of the same generator and sampler."""
    found = [
        (sum(identity["counts"].values()), path)
        for path, identity in session.artifacts.finished("synthetic")
        if {k: identity[k] for k in pool} == pool
    ]
    return Store.open(max(found)[1]) if found else None
