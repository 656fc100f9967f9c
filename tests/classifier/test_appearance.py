"""How far an image is from those of each class."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from svp_lightning.classifier.appearance import (
    IMAGES_PER_GAUSSIAN,
    VARIANCE_FLOOR,
    Appearance,
    Look,
    described,
    fit_appearance,
)
from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.errors import CheckpointError
from tests import configured

SIZE, EACH = 32, 120


def pictures(kind: str, count: int, seed: int) -> np.ndarray:
    """Discs, bars or checks of varying contrast and place, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE][:, None] - (SIZE - 1) / 2 + rng.normal(0, 0.5, (2, count, 1, 1))
    shape = {
        "disc": np.hypot(x, y) < rng.uniform(4, 7, (count, 1, 1)),
        "bar": (np.abs(x) < 2) & (np.abs(y) < rng.uniform(8, 12, (count, 1, 1))),
        "checks": (x // 4 + y // 4) % 2 == 0,
    }[kind]
    contrast = rng.uniform(-80, -40, (count, 1, 1)) * shape
    return np.clip(170 + contrast + rng.normal(0, 2, shape.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["resnet18_quarter", "convnext_tiny"])
def fitted(request: pytest.FixtureRequest) -> tuple[Appearance, dict[str, np.ndarray]]:
    settings = configured.classifier(backbone=request.param)
    classifier = ClassifierModule(settings, ["disc", "bar"], SIZE, seed=1).eval()
    images = np.concatenate([pictures("disc", EACH, 0), pictures("bar", EACH, 1)])
    tensors = fit_appearance(classifier, images, np.repeat([0, 1], EACH))
    return Appearance(classifier, tensors), tensors


def seen(appearance: Appearance, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        probabilities, strange = appearance(torch.from_numpy(images[:, None]))
    return probabilities.numpy(), strange.numpy()


def test_new_images_are_nearest_to_their_own_class_and_other_shapes_far_from_all(
    fitted: tuple[Appearance, dict[str, np.ndarray]],
) -> None:
    appearance, _ = fitted
    discs, bars, checks = (
        seen(appearance, pictures(kind, 60, 2))[1] for kind in ("disc", "bar", "checks")
    )
    assert (discs.argmin(axis=1) == 0).all()
    assert (bars.argmin(axis=1) == 1).all()
    known = np.quantile(np.concatenate([discs[:, 0], bars[:, 1]]), 0.95)
    assert (checks.min(axis=1) > known).mean() > 0.95


def test_strangeness_is_the_negative_log_density_and_probabilities_are_the_classifiers(
    fitted: tuple[Appearance, dict[str, np.ndarray]],
) -> None:
    appearance, tensors = fitted
    assert EACH < IMAGES_PER_GAUSSIAN  # one Gaussian each
    images = pictures("disc", 5, 3)
    probabilities, strange = seen(appearance, images)
    with torch.inference_mode():
        batch = torch.from_numpy(images[:, None])
        blocks, logits = described(appearance.classifier, appearance.look, batch)
    np.testing.assert_allclose(probabilities, logits.softmax(dim=1), atol=1e-6)
    found = (torch.cat(blocks, dim=1).numpy() - tensors["mean"]) @ tensors["basis"]
    for k in range(2):
        root = tensors["roots"][k, 0].astype(np.float64)
        density = multivariate_normal(tensors["centres"][k, 0], np.linalg.inv(root @ root.T))
        np.testing.assert_allclose(strange[:, k], -density.logpdf(found), rtol=1e-3)


def test_the_look_of_a_turned_and_of_a_mirrored_particle_is_the_same() -> None:
    look, images = Look(SIZE), pictures("bar", 4, 4)
    upright, turned, mirrored = (
        torch.cat(look(torch.from_numpy(np.ascontiguousarray(x))), dim=1)
        for x in (images, np.rot90(images, axes=(1, 2)), images[:, :, ::-1])
    )
    torch.testing.assert_close(turned, upright, rtol=1e-2, atol=2e-2)
    torch.testing.assert_close(mirrored, upright, rtol=1e-2, atol=2e-2)


def test_tensors_of_another_classifier_are_refused(
    fitted: tuple[Appearance, dict[str, np.ndarray]],
) -> None:
    appearance, tensors = fitted
    with pytest.raises(CheckpointError, match="does not fit"):
        Appearance(appearance.classifier, tensors | {"weights": tensors["weights"][:1]})
    with pytest.raises(CheckpointError, match="basis"):
        Appearance(appearance.classifier, {k: v for k, v in tensors.items() if k != "basis"})


def test_new_images_of_a_rare_class_are_hardly_stranger_than_those_it_was_fitted_to() -> None:
    classifier = ClassifierModule(
        configured.classifier(backbone="resnet18_quarter"), ["disc", "bar"], SIZE, seed=1
    ).eval()
    discs, bars = pictures("disc", 30, 0), pictures("bar", 300, 1)
    tensors = fit_appearance(
        classifier, np.concatenate([discs, bars]), np.repeat([0, 1], [30, 300])
    )
    assert tensors["centres"].shape == (2, 1, 10)  # one Gaussian each, of few dimensions
    appearance = Appearance(classifier, tensors)
    known, new, checks = (
        seen(appearance, images)[1][:, 0]
        for images in (discs, pictures("disc", 200, 2), pictures("checks", 100, 2))
    )
    assert np.median(new) - np.median(known) < 10  # nats
    assert (checks > np.quantile(new, 0.95)).mean() > 0.95


def test_a_class_of_one_image_has_the_least_spread_allowed() -> None:
    classifier = ClassifierModule(
        configured.classifier(backbone="resnet18_quarter"), ["disc", "bar"], SIZE, seed=1
    ).eval()
    images = np.concatenate([pictures("disc", 1, 0), pictures("bar", 30, 1)])
    tensors = fit_appearance(classifier, images, np.repeat([0, 1], [1, 30]))
    root = tensors["roots"][0, 0]
    np.testing.assert_allclose(root, np.eye(len(root)) / np.sqrt(VARIANCE_FLOOR), rtol=1e-4)
    assert np.abs(tensors["roots"][1, 0]).max() < root.max()


def test_components_are_of_images_from_all_over_a_class() -> None:
    """A store has the images of one run after those of another."""
    classifier = ClassifierModule(
        configured.classifier(backbone="resnet18_quarter"), ["disc", "bar"], SIZE, seed=1
    ).eval()
    few, bars, other = pictures("disc", 20, 0), pictures("bar", 20, 1), pictures("bar", 20, 2)
    labels = np.repeat([0, 1], [20, 40])
    found = [
        fit_appearance(classifier, np.concatenate([few, bars, last]), labels)["mean"]
        for last in (other, other // 2)
    ]
    assert np.abs(found[0] - found[1]).max() > 0.01
