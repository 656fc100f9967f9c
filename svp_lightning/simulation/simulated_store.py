"""Simulate a whole store, in parallel and resumable."""

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from svp_lightning.data.store import MANIFEST, Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.errors import SettingsError
from svp_lightning.simulation.draw import Draw
from svp_lightning.simulation.label_noise import with_label_noise
from svp_lightning.simulation.settings import SPLITS, SimulationSettings
from svp_lightning.simulation.simulator import Simulator

_NUMBERS_PER_SPLIT = 10**9
_SESSIONS_PER_SPLIT = 10**6
_IMAGES_WORTH_A_WORKER = 1000
"""Starting a process takes as long as rendering a few hundred images."""

_PROBE_IMAGES = 24

_Chunk = tuple[range, NDArray[np.uint8], pd.DataFrame]


def plan_images(settings: SimulationSettings) -> pd.DataFrame:
    """Lay out the data set: splits, then classes; sessions take turns within a class.

    One row per image in the order of the store: ``label``, ``split``, and the numbers that the
    image and its session are drawn by, ``index`` and ``session``. They are distinct between splits,
    whatever the counts.
    """
    parts = []
    for code, split in enumerate(SPLITS):
        for name in settings.class_names:
            number = np.arange(settings.counts.get(split, {}).get(name, 0))
            run = number % getattr(settings.sessions_per_split, split)
            columns = {
                "index": code * _NUMBERS_PER_SPLIT + number,
                "session": code * _SESSIONS_PER_SPLIT + run,
            }
            parts.append(pd.DataFrame(columns).assign(label=name, split=split))
    return pd.concat(parts, ignore_index=True)


def _named(part: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The store's columns that do not depend on physics, of part of a plan."""
    labels, splits = part["label"].tolist(), part["split"].tolist()
    numbers, runs = part["index"] % _NUMBERS_PER_SPLIT, part["session"] % _SESSIONS_PER_SPLIT
    names = zip(labels, splits, numbers, strict=True)
    return pd.DataFrame(
        {
            "id": [f"{label}-{split}-{number:06d}" for label, split, number in names],
            "label": labels,
            "split": splits,
            "group": [f"{split}-run-{run:03d}" for split, run in zip(splits, runs, strict=True)],
            "origin": "simulated",
            "source": "simulation",
            "seed": seed,
            "label_confidence": 1.0,
        }
    )


def _drawn_by(part: pd.DataFrame) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Class names, numbers and sessions, as :class:`Simulator` takes them."""
    return part["label"].tolist(), part["index"].to_numpy(), part["session"].to_numpy()


def simulate_store(
    path: Path,
    settings: SimulationSettings,
    image_size: int,
    seed: int,
    progress: Callable[[int], None],
    estimate: Callable[[float], None] = lambda _: None,
) -> None:
    """Render every planned image into a store; a killed call resumes.

    Rendering uses ``settings.workers`` fresh processes (no ``fork``), so a script that calls this
    needs the usual ``if __name__ == "__main__":`` guard. The images do not depend on the number of
    workers or on the chunk size.

    ``progress`` gets the number of images just written, those of an earlier call first;
    ``estimate`` gets once, before the work starts, about how many seconds it will take.

    Raises:
        SettingsError: for a device that is not there.
        ArtifactError: if the disk is full or cannot be written.
    """
    simulator = Simulator(settings, image_size, seed)
    plan = plan_images(settings)
    writer = StoreWriter(path, len(plan), image_size)
    pending = writer.pending(settings.chunk_size)
    missing = sum(len(rows) for rows in pending)
    progress(len(plan) - missing)
    workers = worker_count(settings.workers, missing)
    if missing > _PROBE_IMAGES * 10:
        estimate(_seconds_per_image(simulator, plan, pending) * missing / max(workers, 1))
    for rows, images, table in _rendered(simulator, plan, pending, workers):
        writer.write(rows.start, images, table)
        progress(len(rows))
    writer.finish(
        class_names=settings.class_names,
        pixel_size_um=simulator.pixel_size_um,
        made_by={
            "task": "simulate",
            "size_definition": "equivalent circular diameter",
            "settings": settings.identity(),
            "image_size": image_size,
            "seed": seed,
        },
    )


def simulate_instruments(
    path: Path,
    instruments: Mapping[str, SimulationSettings],
    image_size: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Store:
    """One store of the images of several instruments; a killed call resumes.

    Instrument k of ``instruments`` (name -> settings, of the same classes) is drawn by ``seed`` +
    k. Ids and groups begin with its name. ``progress`` is as for :func:`simulate_store`.

    Raises:
        ArtifactError: if the disk is full or cannot be written.
    """
    if (path / MANIFEST).is_file():
        return Store.open(path)
    parts = {}
    for own_seed, (name, settings) in enumerate(instruments.items(), seed):
        part = path / "parts" / name
        if (part / MANIFEST).is_file():
            progress(settings.num_images)
        else:
            simulate_store(part, settings, image_size, own_seed, progress)
        parts[name] = Store.open(part)
    writer, start = StoreWriter(path, sum(map(len, parts.values())), image_size), 0
    for name, store in parts.items():
        own = {column: f"{name}-" + store.particles[column] for column in ("id", "group")}
        writer.write(start, np.asarray(store.images), store.particles.assign(**own))
        start += len(store)
    writer.finish(store.class_names, None, {"task": "simulate", "instruments": list(parts)})
    shutil.rmtree(path / "parts")
    return Store.open(path)


def _seconds_per_image(simulator: Simulator, plan: pd.DataFrame, pending: list[range]) -> float:
    """Measured on a few images spread over what is missing, after the tables are built."""
    rows = np.concatenate([np.arange(rows.start, rows.stop) for rows in pending])
    probe = plan.iloc[rows[np.linspace(0, len(rows) - 1, _PROBE_IMAGES).astype(np.int64)]]
    seconds = 0.0
    for _ in range(2):  # the first call pays for set-up
        start = time.perf_counter()
        simulator.render(*_drawn_by(probe), device=simulator.settings.device)
        seconds = time.perf_counter() - start
    return seconds / _PROBE_IMAGES


def worker_count(asked: int | None, missing: int) -> int:
    """Processes to start; 0 renders in this one."""
    if multiprocessing.current_process().daemon:  # may not have children
        return 0
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(cores or 1, missing // _IMAGES_WORTH_A_WORKER)
    return workers if workers > 1 else 0


def _rendered(
    simulator: Simulator, plan: pd.DataFrame, pending: list[range], workers: int
) -> Iterator[_Chunk]:
    """Chunks in order; at most a few per worker are in memory."""
    if simulator.settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("data.simulation.device=cuda: there is no such device.", "Use cpu.")
    if workers == 0:
        for rows in pending:
            yield _render(simulator, plan, rows)
        return
    # Where one device does the optics, the processes draw the particles for it.
    draw_only = simulator.settings.device != "cpu"
    task: Callable[[range], Any] = _draw_in_worker if draw_only else _render_in_worker
    pool = ProcessPoolExecutor(
        workers,
        mp_context=fresh_processes(),
        initializer=_start_worker,
        initargs=(simulator.settings, simulator.image_size, simulator.seed),
    )
    waiting: deque[tuple[range, Future[Any]]] = deque()
    ahead = iter(pending)
    try:
        while True:
            for rows in islice(ahead, 2 * workers + 1 - len(waiting)):
                waiting.append((rows, pool.submit(task, rows)))
            if not waiting:
                return
            rows, future = waiting.popleft()
            result = future.result()
            yield _render(simulator, plan, rows, result) if draw_only else result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _render(
    simulator: Simulator, plan: pd.DataFrame, rows: range, drawn: list[Draw] | None = None
) -> _Chunk:
    settings, seed = simulator.settings, simulator.seed
    part = plan.iloc[rows.start : rows.stop]
    images, physics = simulator.render(*_drawn_by(part), device=settings.device, drawn=drawn)
    table = pd.concat([_named(part, seed), physics], axis=1)
    size = settings.instrument.size_scale
    table = with_label_noise(table, settings.label_noise, settings.class_names, size, seed)
    return rows, images, table


def fresh_processes() -> BaseContext:
    """A context whose processes inherit no threads or devices from this one.

    Where there is a fork server they share the memory of one import of torch (300 MB each).
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


_worker: tuple[Simulator, pd.DataFrame]
"""Set in worker processes only."""


def _start_worker(settings: SimulationSettings, image_size: int, seed: int) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = (Simulator(settings, image_size, seed), plan_images(settings))
    leave_with_parent()


def leave_with_parent() -> None:
    """A killed parent cannot stop its workers, and they would wait for it for ever.

    Ctrl-C, which a terminal sends to all, is the parent's to answer.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_and_leave, daemon=True).start()


def _wait_and_leave() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _render_in_worker(rows: range) -> _Chunk:
    return _render(*_worker, rows)


def _draw_in_worker(rows: range) -> list[Draw]:
    simulator, plan = _worker
    return simulator.draw(*_drawn_by(plan.iloc[rows.start : rows.stop]))
