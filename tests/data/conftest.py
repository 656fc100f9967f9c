"""Small stores made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter

StoreMaker = Callable[..., Store]


@pytest.fixture
def make_store(tmp_path_factory: pytest.TempPathFactory) -> StoreMaker:
    """Store with given (class, split, count) blocks; the mean grey level encodes the row."""

    def make(
        blocks: list[tuple[str | None, str, int]],
        class_names: tuple[str, ...] = ("protein", "silicone_oil"),
        origin: str = "real",
        image_size: int = 16,
        path: Path | None = None,
    ) -> Store:
        rows = [(label, split) for label, split, n in blocks for _ in range(n)]
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (len(rows), image_size, image_size), dtype=np.uint8)
        images[:, 0, 0] = np.arange(len(rows)) % 256
        table = pd.DataFrame(rows, columns=["label", "split"])
        table["id"] = [f"p{i}" for i in range(len(rows))]
        table["group"] = table["id"]
        table["origin"] = origin
        path = path or tmp_path_factory.mktemp("store") / "store"
        writer = StoreWriter(path, len(rows), image_size)
        writer.write(0, images, table)
        writer.finish(class_names, None, {})
        return Store.open(path)

    return make
