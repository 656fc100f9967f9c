"""A classifier that starts from simulated images of other microscopes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from svp_lightning.classifier.validation import BEST
from svp_lightning.config import run_folder
from svp_lightning.errors import SettingsError
from svp_lightning.pipeline import Pipeline
from svp_lightning.stages.pretraining import _microscopes
from tests.configured import changed
from tests.conftest import Program

Build = Callable[..., Pipeline]
NONE, START = "augmentation=none", "pretraining=simulated"
AS_IT_STARTS = ("classifier.learning_rate=1e-9", "classifier.weight_decay=0")


def kernels(folder: Path) -> dict[str, Tensor]:
    """Of the convolutions, which a training of a tiny learning rate leaves as they were."""
    state = torch.load(folder / BEST, weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if value.ndim == 4}


def are_close(one: Path, other: Path) -> bool:
    first, second = kernels(one), kernels(other)
    assert first.keys() == second.keys()
    return all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_a_classifier_starts_from_the_pretrained_one(svp_pipeline: Build) -> None:
    plain = svp_pipeline(NONE, *AS_IT_STARTS)
    started = svp_pipeline(NONE, START, *AS_IT_STARTS)
    assert started.pretrained is not None
    assert are_close(started.classifier, started.pretrained)
    assert not are_close(started.classifier, plain.classifier)


def test_microscopes_are_of_their_own_and_another_seed_gives_others(svp_pipeline: Build) -> None:
    stores = [
        svp_pipeline(NONE, START, f"pretraining.seed={seed}").pretraining_store for seed in (0, 1)
    ]
    images = []
    for store in stores:
        assert store is not None
        assert store.counts("train") == {"protein": 32, "silicone_oil": 16, "air_bubble": 16}
        assert set(store.particles["group"].str.split("-").str[1]) == {"train", "val", "test"}
        images += [image.tobytes() for image in np.asarray(store.images)]
    assert len(set(images)) == len(images)
    assert store.particles["group"].str[:2].unique().tolist() == ["04", "05", "06", "07"]


def test_every_setting_of_the_microscopes_decides_their_images(svp_pipeline: Build) -> None:
    config = svp_pipeline(NONE, START).config
    assert config.pretraining is not None
    changes = {
        "source_points": 49,
        "optics": {"medium_index": (1.34, 1.35)},
        "neighbour_share": 0.5,
        "crop": "box",
        "device": "cuda",
    }
    for own in (config.simulation, config.pretraining.simulation):
        assert own.identity().keys() == changes.keys()
        assert own.identity()["optics"].keys() == {"medium_index"}
    for name, value in changes.items():
        other = changed(config.pretraining, {"simulation": {name: value}})
        assert _microscopes(other) != _microscopes(config.pretraining), name


def test_backbones_share_the_images_and_not_the_weights(svp_pipeline: Build) -> None:
    one, other = (
        svp_pipeline(NONE, START, f"classifier={name}") for name in ("resnet18", "resnet34")
    )
    assert one.pretraining_store is not None
    assert other.pretraining_store is not None
    assert one.pretraining_store.path == other.pretraining_store.path
    assert one.pretrained != other.pretrained


def test_images_of_a_folder_start_from_simulated_ones(svp: Program, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(24):  # of two classes, neither of them the simulator's
        file = tmp_path / "images" / ("fibre", "glass")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (16, 16), dtype=np.uint8)).save(file)
    svp("data=folder", f"data.root={tmp_path / 'images'}", NONE, START)
    costs = json.loads((svp.run / "results.json").read_text())["costs"]
    assert {"microscopes", "pretraining", "classifier"} <= costs.keys()
    assert costs["pretraining"]["artifact"] != costs["classifier"]["artifact"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("pretraining.steps=3",), "pretraining: .*multiple of validate_every"),
        (("classifier.pretrained_weights=x.pt",), "two starts of one classifier"),
        (("pretraining.images={protein:0}",), "pretraining.images.protein"),
        (("pretraining.microscopes=0",), "pretraining.microscopes"),
    ],
)
def test_what_cannot_be_a_start_is_refused(
    svp_pipeline: Build, changes: tuple[str, ...], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        svp_pipeline(NONE, START, *changes)


def test_a_start_is_part_of_a_run_that_trains_classifiers(svp_pipeline: Build) -> None:
    def folder(*overrides: str) -> Path:
        return run_folder(svp_pipeline(NONE, *overrides).config)

    assert len({folder(), folder(START), folder(START, "pretraining.seed=1")}) == 3
    assert folder("task=ingest") == folder("task=ingest", START)
