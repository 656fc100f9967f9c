"""What a classifier cannot be trained with is said before images are drawn for it."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from svp_lightning.errors import SvpError
from svp_lightning.pipeline import Pipeline
from svp_lightning.stages.classifier_training import build_classifier
from tests import configured

Build = Callable[..., Pipeline]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["data.prevalence={protein: 9, oil: 1, air_bubble: 1}"], "The prevalence names"),
        (["augmentation.sampling={protein: 9, oil: 1, air_bubble: 1}"], "sampling names protein"),
        (["classifier.pretrained_weights=/no/weights.pth"], "weights.pth cannot be read"),
        (["classifier=convnext_tiny", "classifier.stem_stride=1"], "no stem of stride 1"),
        (["generator.batch_size=6", "trainer.accumulate=3"], r"classifier\.batch_size=16 .* of 3"),
        (["classifier.batch_size=2", "trainer.accumulate=2"], "one image in each of 2 parts"),
        (
            ["augmentation=diffusion_filtered", "features.classifier.batch_size=15",
             "trainer.accumulate=2"],
            r"features\.classifier\.batch_size=15",
        ),
        (
            ["augmentation.hard_negatives=0.1", "augmentation.method=diffusion_hard_negatives",
             "scale.counts.train={protein: 9, silicone_oil: 9, air_bubble: 9}"],
            "all classes of .* are equally frequent",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_reported_before_the_generator_is_trained(
    svp_pipeline: Build, overrides: list[str], named: str
) -> None:
    pipeline = svp_pipeline("augmentation=diffusion", "generator.seed=41", *overrides)
    with pytest.raises(SvpError, match=named):
        _ = pipeline.rows
    assert not {"generator", "feature_classifier", "pool"} & set(vars(pipeline))


def test_whatever_decides_a_classifier_is_part_of_its_key() -> None:
    cache: Any = SimpleNamespace(build=lambda _, identity, *__, **___: identity)

    def rows(*row: int, stores: str = "real") -> SimpleNamespace:
        made = [SimpleNamespace(sha256=one, counts=lambda _: {}) for one in stores.split()]
        return SimpleNamespace(stores=made, row=np.array(row))

    def trainers(**stated: Any) -> SimpleNamespace:
        null = {"precision": None, "deterministic": False}
        return SimpleNamespace(
            settings=configured.changed(configured.tiny().trainer, null | stated)
        )

    given: dict[str, Any] = {
        "settings": configured.classifier(),
        "augmentation": configured.augmentation(hard_negatives=0.1, method="hard_negatives"),
        "seed": 1,
        "rows": rows(0, 1),
        "prevalence": {"protein": 0.9, "silicone_oil": 0.1},
        "trainers": trainers(),
    }
    changes = [
        {"settings": configured.classifier(learning_rate=0.5)},
        {"augmentation": configured.augmentation(hard_negatives=0.2, method="hard_negatives")},
        {"seed": 2},
        {"rows": rows(0, 2)},
        {"rows": rows(0, 1, stores="other")},
        {"rows": rows(0, 1, stores="real pool")},
        {"prevalence": {"protein": 0.8, "silicone_oil": 0.2}},
        {"trainers": trainers(accumulate=2)},
        {"trainers": trainers(precision="16-mixed")},
        {"trainers": trainers(precision="32-true")},
        {"trainers": trainers(deterministic=True)},
    ]
    found = [build_classifier(cache=cache, **given | change) for change in ({}, *changes)]
    assert len({json.dumps(identity) for identity in found}) == len(found)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_that_lacks_a_class_is_named_first(svp_pipeline: Build, split: str) -> None:
    pipeline = svp_pipeline("augmentation=diffusion", "generator.seed=41")
    splits = pipeline.store.particles["split"].to_numpy(dtype=object)
    splits[pipeline.store.indices(split, label=2)] = ""
    pipeline.store = pipeline.store.changed({"split": splits}, {"lacks": split})
    with pytest.raises(SvpError, match=rf"no {split}|{split} split .*no images of air_bubble"):
        _ = pipeline.rows
    assert "generator" not in vars(pipeline)


def test_the_batch_of_the_feature_network_is_named_as_it_is_set(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline("features.classifier.batch_size=15", "trainer.accumulate=2")
    with pytest.raises(SvpError, match=r"^features\.classifier\.batch_size=15 "):
        _ = pipeline.feature_classifier
