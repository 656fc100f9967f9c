"""What an import says of itself: particles that the window cuts or shrinks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.data.store import Store
from tests.data.importers.made_runs import imported

SIDES = [20] * 16 + [60] * 3 + [118]
"""Of the images, px; a disc of 0.8 of the side, at 0.5 µm/px."""


def disc(side: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where(np.hypot(rows, columns) < 0.4 * side, 60, 170).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    for k, side in enumerate(SIDES):
        image = disc(side)
        image[0, 0] = 170 - k  # no two are equal
        Image.fromarray(image).save(root / f"{k:02d}.png")
    table = pd.DataFrame({"path": [f"{k:02d}.png" for k in range(len(SIDES))]})
    table["ecd_um"] = [0.8 * side * 0.5 for side in SIDES]
    table.to_csv(root / "table.csv", index=False)
    return root


def stored(root: Path, **options: object) -> Store:
    return imported("folder", root, labelled=False, **options)


def test_the_window_is_made_for_the_large_particles(root) -> None:
    store = stored(root, table="table.csv")
    assert store.image_size == 128
    assert IngestSummary(store).window.empty
    assert "window" not in "\n".join(IngestSummary(store).lines())
    assert not store.particles["cut"].any()


def test_particles_that_the_window_cuts_are_counted_for_each_size(root) -> None:
    store = stored(root, table="table.csv", image_size=32)
    assert store.particles["cut"].sum() == 4
    found = IngestSummary(store)
    assert found.window["cut"].to_dict() == {"5-10 µm": 0, "10-25 µm": 3, "≥ 25 µm": 1}
    said = "\n".join(found.lines())
    assert "the window of 32 px cuts 4 of the 4 particles ≥ 10 µm (100%)" in said
    sizes = store.manifest.made_by["window"]["sizes"]
    assert sizes["10-25 µm"] == {"particles": 3, "cut": 3, "shrunk": 0, "smallest_scale": 1.0}


def test_particles_scaled_down_to_fit_are_counted_and_keep_their_true_size(root) -> None:
    store = stored(root, table="table.csv", image_size=32, fit="shrink", pixel_size_um=0.5)
    table = store.particles
    assert table["scale"].tolist() == [1.0] * 16 + [32 / 60] * 3 + [32 / 118]
    assert not table["cut"].any()
    assert "Scaled down to fit the window: 4 of the 4" in "\n".join(IngestSummary(store).lines())
    dark = (store.images < 115).sum(axis=(1, 2))
    recomputed = 2 * np.sqrt(dark / np.pi) * 0.5 / table["scale"]
    assert recomputed.to_numpy() == pytest.approx(table["ecd_um"].to_numpy(), rel=0.04)


def test_without_sizes_all_images_are_counted_together(root) -> None:
    store = stored(root, image_size=32)
    assert "cuts 4 of the 20 particles (20%)" in "\n".join(IngestSummary(store).lines())
    expected = {"particles": 20, "cut": 4, "shrunk": 0, "smallest_scale": 1}
    assert store.manifest.made_by["window"]["sizes"] == {"size unknown": expected}
