"""The feature network: trained on real images, the same for every run on a store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svp_lightning.classifier import features
from svp_lightning.classifier.features import describe, fit_features, load_features, save_projection
from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.errors import CheckpointError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime import clock
from svp_lightning.runtime.artifacts import cost_of
from tests import configured


def classifier(backbone: str = "resnet18") -> ClassifierModule:
    return ClassifierModule(configured.classifier(backbone=backbone), ["a", "b"], 16, seed=1).eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (80, 16, 16), dtype=np.uint8)


def test_features_are_centred_and_white(images: np.ndarray) -> None:
    network = fit_features(classifier(), images, 10)
    found = describe(network, images)
    assert found.features.shape == (80, 10)
    np.testing.assert_allclose(found.features.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(found.features.T), np.eye(10), atol=2e-2)
    with torch.inference_mode():
        expected = classifier()(torch.from_numpy(images[:, None] / 127.5 - 1).float()).softmax(1)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)


def test_each_image_is_described_for_itself(images: np.ndarray) -> None:
    network = fit_features(classifier(), images, 10)
    whole = describe(network, images).features
    np.testing.assert_allclose(describe(network, images[7:9]).features, whole[7:9], atol=1e-4)


def test_images_of_a_store_are_read_batch_by_batch(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BATCH_SIZE", 3)
    network, read = fit_features(classifier(), images, 10), []

    class File:
        def __getitem__(self, rows: np.ndarray) -> np.ndarray:
            read.append(rows.tolist())
            return images[rows]

    file: Any = File()
    found = describe(network, file, rows=np.array([5, 70, 2, 9]))
    assert read == [[5, 70, 2], [9]]
    whole = describe(network, images).features
    np.testing.assert_allclose(found.features, whole[[5, 70, 2, 9]], atol=1e-4)


def test_broken_folder_is_refused(images: np.ndarray, tmp_path: Path) -> None:
    save_projection(tmp_path, fit_features(classifier(), images, 4))
    with pytest.raises(CheckpointError, match=r"classifier\.ckpt"):
        load_features(tmp_path)


def test_every_backbone_has_features(images: np.ndarray) -> None:
    found = describe(fit_features(classifier("convnext_tiny"), images, 4), images[:3])
    assert found.features.shape == (3, 4)
    assert np.isfinite(found.features).all()


def test_one_feature_network_serves_all_runs_on_a_store(
    svp_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, step = [0.0], ClassifierModule.training_step

    def counted(self: ClassifierModule, *batch: Any) -> Any:
        steps[0] += 1
        return step(self, *batch)

    monkeypatch.setattr(ClassifierModule, "training_step", counted)
    monkeypatch.setattr(clock, "_cpu_seconds", lambda: steps[0])  # a second for each step
    first = svp_pipeline("seed=1", "features.seed=1")
    second = svp_pipeline("seed=2", "features.seed=1", "classifier=resnet50", "sampler.steps=2")
    assert first.features == second.features
    # The training is an artifact of its own, with costs of its own.
    assert first.feature_classifier.parent.name == "classifier"
    trained, fitted = cost_of(first.feature_classifier), cost_of(first.features)
    assert trained is not None
    assert fitted is not None
    assert trained["cpu_seconds"] == steps[0] > 0
    assert fitted["cpu_seconds"] == 0
    network = load_features(first.features)
    rows = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
    assert np.isfinite(describe(network, rows).features).all()
