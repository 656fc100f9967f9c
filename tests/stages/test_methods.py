"""Arms that choose or share out the images they add, at ``scale=tiny``."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from svp_lightning.classifier.features import describe, load_features
from svp_lightning.errors import SettingsError
from svp_lightning.pipeline import Pipeline

Build = Callable[..., Pipeline]
SHAPE = ("block_channels", "attention", "patch")
NARROW = tuple(f"generator.network.{name}=${{scale.generator.{name}}}" for name in SHAPE)


def test_pool_has_its_share_of_the_draws(svp_pipeline: Build) -> None:
    # What the generator starts from, and how long it is trained, are another matter.
    generator = ("generator.initial=null", "generator.steps=${scale.generator.steps}", *NARROW)
    pipeline = svp_pipeline("augmentation=diffusion_physics", "augmentation.ratio=2", *generator)
    rows = pipeline.rows
    assert rows.added == {"protein": 0, "silicone_oil": 24, "air_bubble": 24}
    rare = rows.composition.shares[:, 1:]
    np.testing.assert_allclose(rare / rare.sum(axis=0), 0.5)
    np.testing.assert_allclose(rows.composition.class_shares, rows.trained_shares)
    trained = json.loads((pipeline.classifier / "training.json").read_text())
    assert list(trained["trained_shares"].values()) == pytest.approx(rows.trained_shares)


def test_hard_negatives_are_real_training_images_that_look_rare(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline("augmentation=hard_negatives", "augmentation.hard_negatives=0.1")
    rows, store = pipeline.rows, pipeline.store
    assert not any(rows.added.values())
    assert rows.synthetic is None
    mined = rows.row[rows.added_row]
    assert len(mined) == 6
    train = store.indices("train", 0)
    assert set(mined) <= set(train)
    found = describe(load_features(pipeline.features), np.asarray(store.images[train]))
    rare = found.probabilities[:, 1:].sum(axis=1)
    assert rare[np.isin(train, mined)].min() >= rare[~np.isin(train, mined)].max()
    protein = rows.composition.shares[:, 0]
    np.testing.assert_allclose(protein / protein.sum(), [0.7, 0.3])
    assert pipeline.classifier.is_dir()


def test_hard_negatives_need_a_class_that_is_not_rare(svp_pipeline: Build, tmp_path: Path) -> None:
    pipeline = svp_pipeline("augmentation=hard_negatives", "scale.counts.train.protein=12")
    assert set(pipeline.store.counts("train").values()) == {12}
    pipeline.__dict__["features"] = tmp_path
    with pytest.raises(SettingsError, match=r"equally frequent.*hard_negatives=0"):
        _ = pipeline.rows
