"""A folder of two classes, its import, and its refusal."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from svp_lightning.data.importers.writer import write_plan
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError
from tests.data.importers.class_folders import COUNT, particle
from tests.data.importers.made_runs import plan


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
        write_plan(path, plan("folder", root, **options), 2, done.append)
        store = Store.open(path)
        assert sum(done) == len(store)
        return store

    return run


@pytest.fixture
def refuses(root: Path, tmp_path: Path) -> Callable[..., None]:
    def check(message: str, **options) -> None:
        path = tmp_path / "refused"
        with pytest.raises(DataError, match=message) as caught:
            write_plan(path, plan("folder", root, **options), 2, lambda n: None)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
        assert not path.exists()

    return check


@pytest.fixture
def flat(root: Path) -> list[str]:
    """All images directly in ``root`` as ``<class>_<number>.png``; ``name,class`` of each."""
    rows = []
    for path in sorted(root.rglob("*.png")):
        rows.append(f"{path.parent.name}_{path.name},{path.parent.name}")
        path.rename(root / f"{path.parent.name}_{path.name}")
    return rows


def into_runs(root: Path, where: str, runs: int, keep_label: bool = False) -> None:
    """Move the images of class folders, in turn, to ``where`` such as ``{run}/{label}``.

    ``keep_label``: names begin with the class.
    """
    for path in sorted(root.glob("*/*.png")):
        folder = root / where.format(run=f"run{int(path.stem) % runs}", label=path.parent.name)
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / (f"{path.parent.name}_{path.name}" if keep_label else path.name))
    for folder in root.iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
