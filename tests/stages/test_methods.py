"""Arms that choose, share out or order the images they add, at ``scale=tiny``."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import entropy

from svp_lightning.classifier.features import describe, load_features
from svp_lightning.errors import SettingsError
from svp_lightning.evaluation.fidelity.measures import Rejection
from svp_lightning.pipeline import Pipeline
from svp_lightning.stages import filtering

Build = Callable[..., Pipeline]


@pytest.mark.parametrize(
    ("method", "shares", "ending"),
    [
        ("diffusion_shared", [0.7, 0.3], [1, 0]),
        ("diffusion_pretrained", [0, 1], [1, 0]),
        ("diffusion_physics", [0.5, 0.5], None),
    ],
)
def test_pool_has_its_share_until_the_ending(
    svp_pipeline: Build, method: str, shares: list[float], ending: list[float] | None
) -> None:
    # What the generator starts from, and how long it is trained, are another matter.
    generator = ("generator.initial=null", "generator.steps=${scale.generator.steps}")
    pipeline = svp_pipeline(f"augmentation={method}", "augmentation.ratio=2", *generator)
    rows = pipeline.rows
    assert rows.added == {"protein": 0, "silicone_oil": 24, "air_bubble": 24}
    assert (rows.ending is None) == (ending is None)
    phases = (rows.composition, shares), (rows.ending or rows.composition, ending or shares)
    for composition, wanted in phases:
        rare = composition.shares[:, 1:]
        np.testing.assert_allclose(rare / rare.sum(axis=0), np.transpose([wanted, wanted]))
        np.testing.assert_allclose(composition.class_shares, rows.trained_shares)
    trained = json.loads((pipeline.classifier / "training.json").read_text())
    assert list(trained["trained_shares"].values()) == pytest.approx(rows.trained_shares)


class OfAnotherClass:
    """Takes every image for another class's, and finds it within the distribution."""

    def __call__(self, features: np.ndarray, probabilities: np.ndarray) -> Rejection:
        return Rejection(np.ones(len(features), dtype=bool), np.zeros(len(features), dtype=bool))


def test_hard_images_are_the_least_sure_of_those_within_the_distribution(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "ClassFilter", lambda *_: OfAnotherClass())
    # A quantile of its own keeps what is faked out of other tests' shared artifacts.
    pipeline = svp_pipeline("augmentation=diffusion_hard", "augmentation.filter.quantile=0.4")
    pool, network = pipeline.pool, load_features(pipeline.features)
    assert pool.counts("") == {"protein": 0, "silicone_oil": 12, "air_bubble": 12}
    looked_at = max(tally["looked_at"] for tally in filtering.rejections(pool).values())
    assert looked_at > 24
    everything = pipeline.draw(pipeline.wanted(1.0, looked_at / 12))
    for label in (1, 2):
        hard, every = (
            entropy(describe(network, images).probabilities, axis=1)
            for images in (s.images[s.indices(label=label)] for s in (pool, everything))
        )
        assert hard.min() > np.median(every)


def test_hard_negatives_are_real_training_images_that_look_rare(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline("augmentation=hard_negatives", "augmentation.hard_negatives=0.1")
    rows, store = pipeline.rows, pipeline.store
    assert rows.added == {"protein": 6, "silicone_oil": 0, "air_bubble": 0}
    assert rows.synthetic is None
    mined = rows.row[rows.added_row]
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
    with pytest.raises(SettingsError, match=r"equally frequent.*hard_negatives=0"):
        filtering.build_hardest(tmp_path, pipeline.store, pipeline.cache, pipeline.device)
