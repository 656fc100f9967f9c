"""Prediction sets and flags hold what they promise, class by class, whatever the class shares."""

from pathlib import Path

import numpy as np
import pytest

from svp_lightning.errors import ArtifactError
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.reference import (
    Reference,
    guaranteed,
    read_reference,
    write_reference,
)

NAMES = ("protein", "silicone_oil", "air_bubble")
SIGNAL = (2.5, 1.5, 1.0)
"""How well each class is recognised."""
TRIALS, NEW = 400, 300


def seen(rng: np.random.Generator, label: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, K) and strangeness (n, K) of images of one class."""
    scores = rng.normal(size=(images, 3))
    scores[:, label] += SIGNAL[label]
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    strange = rng.gamma(2, size=(images, 3)) + 3 * (np.arange(3) != label)
    return p.astype(np.float32), strange.astype(np.float32)


def reference(rng: np.random.Generator, images: tuple[int, ...]) -> Reference:
    probability, strangeness = {}, {}
    for k, (name, n) in enumerate(zip(NAMES, images, strict=True)):
        p, strange = seen(rng, k, n)
        probability[name], strangeness[name] = np.sort(p[:, k]), np.sort(strange[:, k])
    return Reference(probability, strangeness, {"mean": np.zeros(2, np.float32)})


def raw(p: np.ndarray) -> Predictions:
    ids, unknown = np.arange(len(p)).astype(object), np.full(len(p), -1)
    return Predictions(ids, unknown, p, NAMES, dict.fromkeys(NAMES, 1 / 3))


def test_each_class_is_covered_as_often_as_its_validation_images_can_promise() -> None:
    images, coverage, false_alarms = (500, 39, 10), 0.9, 0.05
    # 1 - k / (n + 1), k = floor(0.1 (n + 1)): 50 of 501, 4 of 40, 1 of 11.
    expected = (1 - 50 / 501, 1 - 4 / 40, 1 - 1 / 11)
    # 25 of 501, 2 of 40; 10 images cannot promise 1 of 20, but 1 of 11.
    flagged_at_most = (25 / 501, 2 / 40, 1 / 11)
    covered, flagged = np.zeros((TRIALS, 3)), np.zeros((TRIALS, 3))
    for trial in range(TRIALS):
        rng = np.random.default_rng(trial)
        known = reference(rng, images)
        for k in range(3):
            p, strange = seen(rng, k, NEW)
            covered[trial, k] = known.sets(raw(p), coverage)[:, k].mean()
            flagged[trial, k] = known.unfamiliar(strange, NAMES, false_alarms).mean()
    error = covered.std(axis=0) / np.sqrt(TRIALS)
    assert (np.abs(covered.mean(axis=0) - expected) < 4 * error).all()
    assert (error < 0.005).all()
    assert (flagged.mean(axis=0) < np.array(flagged_at_most) + 4 * error).all()
    assert flagged.mean() > 0


def test_a_particle_far_from_every_class_is_flagged_and_one_near_any_is_not() -> None:
    known = reference(np.random.default_rng(0), (200, 200, 200))
    strange = np.array([[99, 99, 99], [99, 99, 0.1], [0.1, 99, 99]], np.float32)
    assert known.unfamiliar(strange, NAMES, 0.05).tolist() == [True, False, False]


def test_too_few_images_are_named_with_what_they_promise() -> None:
    known = reference(np.random.default_rng(0), (99, 19, 18))
    assert known.too_few(0.05) == {"air_bubble": 18}  # 19 are ceil(1 / 0.05) - 1
    assert known.too_few(0.01) == {"silicone_oil": 19, "air_bubble": 18}
    assert guaranteed(18) == 18 / 19


def test_the_file_gives_back_what_was_written_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "reference.safetensors"
    assert read_reference(file) is None
    known = reference(np.random.default_rng(0), (20, 19, 18))
    written = set()
    for _ in range(12):
        write_reference(file, known)
        written.add(file.read_bytes())
    assert len(written) == 1
    found = read_reference(file)
    assert found is not None
    assert tuple(found.probability) == NAMES
    for part in ("probability", "strangeness", "appearance"):
        for name, values in getattr(known, part).items():
            np.testing.assert_array_equal(getattr(found, part)[name], values)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match="reference"):
        read_reference(file)
