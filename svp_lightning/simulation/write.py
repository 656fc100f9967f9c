"""Simulate a whole store, in parallel and resumable."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from svp_lightning.data.store import StoreWriter
from svp_lightning.simulation.dataset import Simulator
from svp_lightning.simulation.plan import Plan, plan_images
from svp_lightning.simulation.settings import SimulationSettings

_IMAGES_WORTH_A_WORKER = 1000
"""Starting a process takes as long as rendering a few hundred images."""

_Chunk = tuple[range, NDArray[np.uint8], pd.DataFrame]


def simulate_store(
    path: Path,
    settings: SimulationSettings,
    image_size: int,
    seed: int,
    progress: Callable[[int], None],
) -> None:
    """Render every planned image into a store; a killed call goes on where it was.

    Rendering uses ``settings.workers`` fresh processes (``spawn``), so a script that calls
    this needs the usual ``if __name__ == "__main__":`` guard. The images do not depend on
    the number of workers or on the chunk size.

    Args:
        path: of the store.
        settings: what to simulate.
        image_size: pixels along one side.
        seed: of the data set.
        progress: told the number of images just written; those of an earlier call come first.

    Raises:
        SettingsError: for an image size or seed that cannot be used.
        ArtifactError: if the disk is full or cannot be written.
    """
    simulator = Simulator(settings, image_size, seed)
    plan = plan_images(settings)
    writer = StoreWriter(path, len(plan), image_size)
    pending = writer.pending(settings.chunk_size)
    missing = sum(len(rows) for rows in pending)
    progress(len(plan) - missing)
    workers = _worker_count(settings.workers, missing)
    for rows, images, table in _rendered(simulator, plan, pending, workers):
        writer.write(rows.start, images, table)
        progress(len(rows))
    writer.finish(
        class_names=plan.class_names,
        pixel_size_um=simulator.pixel_size_um,
        made_by={
            "task": "simulate",
            "settings": settings.identity(),
            "image_size": image_size,
            "seed": seed,
        },
    )


def _worker_count(asked: int | None, missing: int) -> int:
    """Processes to start; 0 renders in this one."""
    if multiprocessing.current_process().daemon:  # may not have children
        return 0
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(cores or 1, missing // _IMAGES_WORTH_A_WORKER)
    return workers if workers > 1 else 0


def _rendered(
    simulator: Simulator, plan: Plan, pending: list[range], workers: int
) -> Iterator[_Chunk]:
    """Chunks in order; at most a few per worker are in memory."""
    if workers == 0:
        for rows in pending:
            yield _render(simulator, plan, rows)
        return
    arguments = (simulator.settings, simulator.image_size, simulator.seed)
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=arguments,
    )
    waiting: deque[Future[_Chunk]] = deque()
    try:
        for rows in pending:
            waiting.append(pool.submit(_render_in_worker, rows))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _render(simulator: Simulator, plan: Plan, rows: range) -> _Chunk:
    images, physics = simulator.render(plan.names(rows), plan.indices(rows), plan.sessions(rows))
    return rows, images, pd.concat([plan.table(rows, simulator.seed), physics], axis=1)


_worker: tuple[Simulator, Plan]
"""Set in worker processes only."""


def _start_worker(settings: SimulationSettings, image_size: int, seed: int) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = (Simulator(settings, image_size, seed), plan_images(settings))
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """A killed parent cannot stop its workers, and they would wait for it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _render_in_worker(rows: range) -> _Chunk:
    return _render(*_worker, rows)
