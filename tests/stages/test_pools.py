"""Pools: which classes, how they grow, what their manifest says."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from svp_lightning.data.store import Store
from svp_lightning.pipeline import Pipeline
from tests.conftest import Program


@pytest.fixture
def new_pool(svp: Program) -> Callable[..., Store]:
    """Call ``task=sample`` and open the one pool that was not there before."""

    def draw(*overrides: str) -> Store:
        before = set(svp.artifacts.glob("synthetic/*/manifest.json"))
        svp("task=sample", *overrides)
        (found,) = set(svp.artifacts.glob("synthetic/*/manifest.json")) - before
        return Store.open(found.parent)

    return draw


@pytest.mark.parametrize("classes", ["rare", "all"])
def test_pool_holds_the_rare_classes_and_the_mix_takes_it(
    svp: Program, new_pool: Callable[..., Store], classes: str
) -> None:
    pool = new_pool(f"generator.classes={classes}", "sampler.seed=21")
    assert pool.class_names == ("protein", "silicone_oil", "air_bubble")
    assert pool.counts("") == {"protein": 0, "silicone_oil": 12, "air_bubble": 12}
    infos = [json.loads(f.read_text()) for f in svp.artifacts.glob("generator/*/generator.json")]
    learnt = list(pool.class_names if classes == "all" else pool.class_names[1:])
    assert learnt in [info["generator"]["class_names"] for info in infos]
    svp("task=train_classifier", "+experiment=resnet18_aug_ratio_1x", "sampler.seed=21",
        f"generator.classes={classes}")  # fmt: skip


def test_generator_of_one_class_draws_that_class_alone(
    svp: Program, new_pool: Callable[..., Store]
) -> None:
    one = "generator.classes=air_bubble"
    assert new_pool(one).counts("") == {"protein": 0, "silicone_oil": 0, "air_bubble": 12}
    message = svp.fails("+experiment=resnet18_aug_ratio_1x", one)
    assert "silicone_oil" in message
    assert "generator.classes" in message
    message = svp.fails("task=sample", one, "augmentation.ratio=0")
    assert "augmentation.ratio" in message
    message = svp.fails("task=train_generator", "generator.classes=dust")
    assert "dust" in message
    assert "protein, silicone_oil, air_bubble" in message


def test_larger_pool_begins_with_the_smaller_one(new_pool: Callable[..., Store]) -> None:
    common = ("sampler.seed=5", "sampler.batch_size=5")
    small = new_pool(*common, "augmentation.ratio=0.5")
    large = new_pool(*common, "augmentation.ratio=2")
    for label in (1, 2):
        first = small.images[small.indices(label=label)]
        assert np.array_equal(large.images[large.indices(label=label)][: len(first)], first)


def test_manifest_tells_the_precision_that_was_used(
    new_pool: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    def precision(pool: Store) -> Any:
        return pool.manifest.made_by["sampler"]["precision"]

    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    assert precision(new_pool("sampler.seed=6")) == "float32"
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    assert precision(new_pool("sampler.seed=6")) == "bfloat16"


def test_pixels_and_classes_are_those_of_the_real_images_at_hand(
    svp_pipeline: Callable[..., Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    """The generator is the same, and so is what it has drawn already."""
    pipeline = svp_pipeline()
    pool, manifest = pipeline.pool, pipeline.store.manifest
    names = (*manifest.class_names, "fibre")
    capsys.readouterr()
    for changes in ({"pixel_size_um": 9.9}, {"class_names": names}):
        pipeline.__dict__["store"] = replace(
            pipeline.store, manifest=manifest.model_copy(update=changes)
        )
        other = pipeline.draw({"silicone_oil": 12, "air_bubble": 12})
        assert np.array_equal(other.images, pool.images)
        for name, value in changes.items():
            assert getattr(other.manifest, name) == value
        if "pixel_size_um" in changes:
            assert "images/s" not in capsys.readouterr().out  # nothing is drawn again
