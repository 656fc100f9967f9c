"""The whole pipeline on a folder of one's own: any classes, any sizes, 8 or 16 bit."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tests.conftest import Program, results


def draw(folder: Path, kind: int, number: int, generator: np.random.Generator) -> None:
    """A noisy image of 8 to 30 px with a spot whose level is that of its class."""
    height, width = generator.integers(8, 31, size=2)
    image = generator.normal(175, 2, size=(height, width))
    image[height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2] = 30 * kind
    folder.mkdir(parents=True, exist_ok=True)
    levels = image.clip(0, 255).astype(np.uint8)
    if number % 2:
        Image.fromarray(levels).save(folder / f"{number}.png")
    else:
        Image.fromarray(levels.astype(np.uint16) * 16).save(folder / f"{number}.tif")


def test_own_folder_to_report(svp: Program, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    names = [f"kind_{k}" for k in range(5)]
    for kind, name in enumerate(names):
        for number in range(30 if kind == 0 else 12):
            draw(tmp_path / "images" / name, kind, number, generator)
    root = f"data.root={tmp_path / 'images'}"
    svp("+experiment=resnet18_aug_ratio_1x", "data=folder", root)
    folder = svp.run
    found = results(folder)
    assert set(found["metrics"]["per_class"]) == set(names)
    assert set(found["rare_classes"]) == set(names[1:])  # 30 images against 12
    for name in names[1:]:
        assert found["counts"]["synthetic"][name] == found["counts"]["train"][name]
    assert (folder / "report.html").is_file()

    svp("task=predict", f"predict.run={folder}", "data=folder", root, "study=new")
    (predicted,) = tmp_path.glob("outputs/new/*/counts.csv")
    assert pd.read_csv(predicted)["count"].max() == 30 + 12 * 4
