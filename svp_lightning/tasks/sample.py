"""``task=sample``: draw synthetic images of the rare classes into the pool."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.config import Config
from svp_lightning.data.ingest.summary import summarise
from svp_lightning.data.mix import synthetic_counts
from svp_lightning.data.store import Store, StoreWriter
from svp_lightning.distributed import is_main_process
from svp_lightning.files import explaining_write_errors, sha256_of_json
from svp_lightning.generator.checkpoint import Generator, load_generator
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler import sample
from svp_lightning.tasks.devices import choose_device
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.progress import counting
from svp_lightning.tasks.session import Session, say
from svp_lightning.tasks.train_generator import ensure_generator, weights_hash

CHUNK_IMAGES = 256


def run(config: Config, session: Session) -> None:
    """Draw ``augmentation.ratio`` × the real images of each rare class and say where they are."""
    store = ensure_store(config, session)
    pool = ensure_synthetic(config, session, store)
    say("\n".join([*summarise(pool).lines(), f"Store: {pool.path}"]))


def ensure_synthetic(config: Config, session: Session, store: Store) -> Store:
    """The synthetic store this configuration's mix needs, drawn if missing.

    A pool that another ratio has drawn already is the beginning of this one: image k of a
    class is the same in every pool of a generator and sampler, so only the rest is drawn.
    """
    generator_path = ensure_generator(config, session, store)
    counts = synthetic_counts(store.counts("train"), config.augmentation.ratio)
    pool = {"generator": weights_hash(generator_path), "sampler": config.sampler.identity()}
    make = partial(_draw, config, session, pool, counts, generator_path)
    with _one_at_a_time(session, pool):
        path = session.artifacts.build("synthetic", pool | {"counts": counts}, make)
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
    pool: dict[str, Any],
    counts: dict[str, int],
    generator_path: Path,
    folder: Path,
) -> None:
    generator = load_generator(generator_path)
    info = generator.info
    earlier = _largest_pool(session, pool)
    writer = StoreWriter(folder, sum(counts.values()), info.image_size)
    name = np.repeat(list(counts), list(counts.values()))
    number = np.concatenate([np.arange(n) for n in counts.values()])
    pending = writer.pending(CHUNK_IMAGES)
    with counting("Sampling", sum(map(len, pending))) as progress:
        for chunk in pending:
            rows = slice(chunk.start, chunk.stop)
            images, seeds = _images(config, generator, earlier, name[rows], number[rows], progress)
            writer.write(
                chunk.start, images, _table(name[rows], number[rows], seeds, pool["generator"])
            )
    writer.finish(info.class_names, info.pixel_size_um, pool | {"task": "sample"})


def _images(
    config: Config,
    generator: Generator,
    earlier: Store | None,
    name: NDArray[np.str_],
    number: NDArray[np.int64],
    progress: Callable[[int], None],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images ``number`` of the classes ``name``: from an earlier pool where it has them."""
    size = generator.info.image_size
    images = np.empty((len(name), size, size), dtype=np.uint8)
    seeds = np.empty(len(name), dtype=np.int64)
    missing = np.ones(len(name), dtype=bool)
    for class_name in np.unique(name):
        here = np.flatnonzero(name == class_name)
        first, last = int(number[here[0]]), int(number[here[-1]]) + 1
        seeds[here] = image_seeds(config.sampler.seed, str(class_name), first, last)
        if earlier is not None:
            held = earlier.indices(label=earlier.class_names.index(str(class_name)))[first:last]
            images[here[: len(held)]] = earlier.images[held]
            missing[here[: len(held)]] = False
    progress(int((~missing).sum()))
    labels = np.array([generator.label_of(str(n)) for n in name[missing]], dtype=np.int64)
    device = choose_device(config.trainer.accelerator)
    images[missing] = sample(
        generator.denoiser, labels, seeds[missing], config.sampler, device, progress
    )
    return images, seeds


def _largest_pool(session: Session, pool: dict[str, Any]) -> Store | None:
    """The largest finished pool of the same generator and sampler."""
    found = [
        (sum(identity["counts"].values()), path)
        for path, identity in session.artifacts.finished("synthetic")
        if {k: identity[k] for k in pool} == pool
    ]
    return Store.open(max(found)[1]) if found else None


def _table(
    name: NDArray[np.str_], number: NDArray[np.int64], seeds: NDArray[np.int64], generator: str
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"{n}-{k:07d}" for n, k in zip(name, number, strict=True)],
            "label": name.astype(object),
            "split": "",
            "group": "synthetic",
            "origin": "synthetic",
            "source": f"generator {generator[:12]}",
            "seed": seeds,
        }
    )
