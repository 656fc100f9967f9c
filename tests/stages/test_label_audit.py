"""Folds of whole runs, and the evidence that their classifiers give."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.validation import BEST
from svp_lightning.data.mix import Mixture, train_rows
from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.errors import DataError
from svp_lightning.stages import label_audit
from svp_lightning.stages.label_audit import assign_folds, examine_labels, fold_view
from svp_lightning.stages.settings import AuditSettings
from tests.configured import classifier, tiny

NAMES = ("protein", "silicone_oil")
SETTINGS: AuditSettings = tiny().audit


def made(
    path: Path,
    labels: Sequence[str | None],
    groups: list[str],
    images: NDArray[np.uint8] | None = None,
) -> Store:
    count = len(labels)
    table = pd.DataFrame({"id": [f"p{i}" for i in range(count)], "label": labels, "group": groups})
    writer = StoreWriter(path / "store", count, 16)
    pixels = np.zeros((count, 16, 16), np.uint8) if images is None else images
    writer.write(0, pixels, table.assign(split="train", origin="real"))
    writer.finish(NAMES, None, {})
    return Store.open(path / "store")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Ten runs of both classes, and an image without a label."""
    labels = [*([NAMES[0]] * 5 + [NAMES[1]] * 2) * 10, None]
    return made(tmp_path, labels, [f"run {i // 7}" for i in range(70)] + ["run 0"])


def test_folds_keep_runs_whole_and_hold_every_class(store: Store) -> None:
    rows = np.arange(70)
    fold = assign_folds(SETTINGS, store, rows)
    assert set(fold) == set(range(SETTINGS.folds))
    pairs = set(zip(store.particles["group"], fold, strict=False))
    assert len(pairs) == 10  # runs
    for number in range(SETTINGS.folds):
        assert set(store.labels[rows[fold == number]]) == {0, 1}


def test_each_fold_is_another_artifact_and_judged_once(store: Store) -> None:
    rows = np.arange(70)
    fold = assign_folds(SETTINGS, store, rows)
    views = [fold_view(store, rows, fold, number) for number in range(SETTINGS.folds)]
    assert len({view.sha256 for view in [store, *views]}) == SETTINGS.folds + 1
    tested = np.concatenate([view.indices("test") for view in views])
    assert sorted(tested) == rows.tolist()
    for view in views:
        parts = [set(view.particles["group"][view.indices(s)]) for s in ("train", "val", "test")]
        assert not parts[0] & parts[1]
        assert not parts[2] & (parts[0] | parts[1])
        assert sum(map(len, (view.indices(s) for s in ("train", "val", "test")))) == 70


def test_few_runs_make_fewer_folds_and_one_run_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [NAMES[i % 2] for i in range(40)]
    four = made(tmp_path / "four", labels, [f"run {i // 10}" for i in range(40)])
    assert set(assign_folds(SETTINGS, four, np.arange(40))) == {0, 1, 2, 3}
    assert "Warning" not in capsys.readouterr().out
    one = made(tmp_path / "one", labels, list(labels))  # a run of each class
    fold = assign_folds(SETTINGS, one, np.arange(40))
    assert {*np.bincount(fold)} == {40 // SETTINGS.folds}
    assert "runs are too few" in capsys.readouterr().out


def test_single_images_are_divided_without_looking_at_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [NAMES[i % 2] for i in range(40)]
    alone = made(tmp_path, labels, [f"image {i}" for i in range(40)])
    monkeypatch.setattr(label_audit, "StratifiedGroupKFold", None)  # it loops over the groups
    fold = assign_folds(SETTINGS, alone, np.arange(40))
    for number in range(SETTINGS.folds):
        assert np.bincount(alone.labels[fold == number]).tolist() == [4, 4]


def test_any_seed_leaves_room_for_further_attempts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    class FirstFails(label_audit.StratifiedGroupKFold):
        def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Any]:
            seeds.append(self.random_state)
            every = [(X, X)] * SETTINGS.folds
            return iter(every) if len(seeds) == 1 else super().split(X, y, groups)

    monkeypatch.setattr(label_audit, "StratifiedGroupKFold", FirstFails)
    last = SETTINGS.model_copy(update={"seed": 2**32 - 1})
    assert set(assign_folds(last, store, np.arange(70))) == set(range(SETTINGS.folds))
    assert seeds == [2**32 - 1, 0]


def test_a_class_of_two_images_is_refused(tmp_path: Path) -> None:
    labels = [NAMES[0]] * 20 + [NAMES[1]] * 2
    store = made(tmp_path, labels, [f"run {i}" for i in range(22)])
    with pytest.raises(DataError, match="fewer than 3"):
        assign_folds(SETTINGS, store, np.arange(22))


def test_evidence_is_of_unseen_images_and_does_not_depend_on_how_they_lie(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 16, 16), np.uint8)
    labels = [NAMES[i % 2] for i in range(30)]
    groups = [f"run {i // 2}" for i in range(30)]
    trained: list[Path] = []

    def train(view: Store) -> tuple[Path, Mixture]:
        """An untrained network, another one for each fold."""
        folder = tmp_path / f"fold {len(trained)}"
        folder.mkdir(exist_ok=True)
        settings = classifier(backbone="resnet18_quarter")
        module = ClassifierModule(settings, NAMES, 16, seed=len(trained))
        saved = {"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}
        torch.save(saved, folder / BEST)
        trained.append(folder)
        return folder, train_rows(view)

    found = []
    for name, turned in (("as they are", images), ("turned", np.rot90(images, axes=(1, 2)))):
        trained.clear()
        store = made(tmp_path / name, labels, groups, turned)
        found.append(examine_labels(SETTINGS, store, train, 8, torch.device("cpu"))[1])
    first, second = found
    np.testing.assert_allclose(first.probability, second.probability, atol=1e-5)
    np.testing.assert_allclose(first.probability.sum(axis=1), 1)
    assert first.neighbours.shape == (30, SETTINGS.neighbours)
    run = np.arange(30) // 2
    assert not (run[first.neighbours] == run[:, None]).any()


def test_neighbours_and_distances_are_the_nearest_in_blocks_as_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    label, order = rng.integers(0, 3, 60), rng.permutation(60)
    judged, known = order[:25], order[25:]
    monkeypatch.setattr(label_audit, "_PAIRS", 4 * len(known))  # blocks of 4, and one of 1
    compared = (vectors, label, judged, known, 5, torch.device("cpu"))
    near, own = label_audit._compare(*compared)
    distance = np.linalg.norm(vectors[judged, None] - vectors[known], axis=2)
    assert (near == known[distance.argsort(axis=1)[:, :5]]).all()
    same = np.where(label[judged, None] == label[known], distance, np.inf)
    np.testing.assert_allclose(own, same.min(axis=1), rtol=1e-4)
