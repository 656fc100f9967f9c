"""Small stores made on the spot."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from svp_lightning.data.importers.folder import ingest_folder
from svp_lightning.data.settings import FolderSettings
from svp_lightning.data.store import Store, StoreWriter
from svp_lightning.errors import DataError
from tests.data.class_folders import COUNT, particle

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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of twelve PNGs."""
    root = tmp_path / "images"
    for k, name in enumerate(("Silicone Oil", "protein")):
        (root / name).mkdir(parents=True)
        for n in range(COUNT):
            Image.fromarray(particle(100 * k + n)).save(root / name / f"{n:02d}.png")
    return root


@pytest.fixture
def ingest(root: Path, tmp_path: Path) -> Callable[..., Store]:
    def run(**options) -> Store:
        path = tmp_path / "store"
        shutil.rmtree(path, ignore_errors=True)
        done: list[int] = []
        ingest_folder(path, FolderSettings(root=root, **options), done.append)
        store = Store.open(path)
        assert sum(done) == len(store)
        return store

    return run


@pytest.fixture
def refuses(root: Path, tmp_path: Path) -> Callable[..., None]:
    def check(message: str, **options) -> None:
        path = tmp_path / "refused"
        with pytest.raises(DataError, match=message) as caught:
            ingest_folder(path, FolderSettings(root=root, **options), lambda n: None)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
        assert not path.exists()

    return check
