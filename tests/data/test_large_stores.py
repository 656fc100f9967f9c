"""Ten million images: opened at once, drawn without a permutation, loaded without an index."""

import pickle
import re
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.stats import kstest

from svp_lightning.data.batches import StepBatchSampler
from svp_lightning.data.dataset import ParticleDataset
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import train_rows
from svp_lightning.data.store import SCHEMA, Manifest, Store
from tests.data.test_store import CLASSES

COUNT = 10_000_000


@pytest.fixture(autouse=True)
def hashes_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the second cell of a sweep."""
    monkeypatch.setattr("svp_lightning.data.store.checked_hash", lambda _: "a" * 64)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sparse_store(tmp_path_factory.mktemp("large"), COUNT)


def sparse_store(path: Path, count: int) -> Path:
    """Black images, one in 5,000 of them of oil; no training reads the ids."""
    shape = (count, 16, 16)
    np.lib.format.open_memmap(path / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    oil = np.arange(count) % 5_000 == 0
    parts = {"id": ("x",), "label": CLASSES, "split": ("train",), "group": ("a",)}
    names = parts | {"origin": ("real",)}
    codes = {name: (oil if name == "label" else np.zeros(count)).astype(np.int8) for name in names}
    columns = {n: pa.DictionaryArray.from_arrays(codes[n], pa.array(v)) for n, v in names.items()}
    parquet.write_table(pa.table(columns), path / "particles.parquet")
    manifest = Manifest(
        schema_version=SCHEMA,
        class_names=CLASSES,
        num_images=count,
        image_size=16,
        pixel_size_um=None,
        counts={"train": {CLASSES[0]: count - count // 5_000, CLASSES[1]: count // 5_000}},
        sha256={"images.npy": "a" * 64, "particles.parquet": "a" * 64},
        made_by={},
        created="",
        package_version="",
    )
    (path / "manifest.json").write_text(manifest.model_dump_json())
    return path


def test_they_open_at_once_and_are_drawn_without_a_permutation(large: Path) -> None:
    start = time.perf_counter()
    store = Store.open(large)
    assert time.perf_counter() - start < 0.2  # 3 ms on an idle machine
    rows = train_rows(store)
    sampler = StepBatchSampler(rows.group, np.array([0.5, 0.5]), 4096, 10, seed=1)
    dataset = ParticleDataset.of_mixture(rows)
    tracemalloc.start()
    drawn = np.concatenate([sampler.global_batch(step) for step in range(10)])
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()
    common = drawn[rows.label[drawn] == 0]
    assert len(common) == len(set(common)) == 20_480
    assert kstest(common / COUNT, "uniform").pvalue > 0.001
    assert dataset[drawn[:64]]["image"].shape == (64, 1, 16, 16)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="counts pages on Linux")
def test_a_loader_process_holds_no_index(large: Path, tmp_path: Path) -> None:
    """Started by a fork it shares the pages that it leaves alone; else it gets what is pickled."""
    few, many = memory_of_workers(sparse_store(tmp_path, 10_000)), memory_of_workers(large)
    print(f"private memory of a loader process: {few / 1e6:.1f} and {many / 1e6:.1f} MB")
    assert many - few < COUNT  # not one byte an image


def memory_of_workers(path: Path) -> float:
    """Mean bytes that two loader processes have written to, after they read all of an epoch.

    Pages of the images that they read are the system's, which takes them back when it likes.
    """
    data = ParticleDataModule(train_rows(Store.open(path)), None, 256, 20, num_workers=2)
    device = SimpleNamespace(type="cpu")
    strategy = SimpleNamespace(root_device=device)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, global_step=0, strategy=strategy)
    loader = data.train_dataloader()
    assert len(pickle.dumps(loader.dataset)) < 10_000
    batches = iter(loader)
    assert sum(len(batch["index"]) for batch in batches) == 20 * 256
    texts = [Path(f"/proc/{one.pid}/smaps_rollup").read_text() for one in batches._workers]
    assert len(texts) == 2
    kib = [int(re.findall(r"^Private_Dirty: *(\d+) kB", text, re.M)[0]) for text in texts]
    return 1024 * sum(kib) / len(kib)
