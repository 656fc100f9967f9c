import numpy as np
import pandas as pd
import pytest

from svp_lightning.errors import ArtifactError
from svp_lightning.evaluation.predictions import (
    Predictions,
    iterate_predictions,
    read_predictions,
    write_predictions,
)

NAMES = ("protein", "silicone_oil", "id")  # a class may be called like a column


def make(n=1000, seed=0):
    rng = np.random.default_rng(seed)
    return Predictions(
        ids=np.array([f"img-{i}" for i in range(n)], dtype=object),
        labels=rng.integers(-1, 3, n),
        probabilities=rng.dirichlet([1, 1, 1], n).astype(np.float32),
        class_names=NAMES,
    )


def assert_same(a, b):
    assert a.class_names == b.class_names
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_round_trip_is_exact_and_readable_by_pandas(tmp_path):
    path, written = tmp_path / "predictions.parquet", make()
    write_predictions(path, written)
    assert_same(read_predictions(path), written)
    table = pd.read_parquet(path)
    assert list(table) == ["id", "label", *(f"probability_{name}" for name in NAMES)]
    assert table["label"].isna().sum() == (written.labels == -1).sum()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_parts_are_bounded_and_in_order(tmp_path):
    path, written = tmp_path / "predictions.parquet", make()
    write_predictions(path, written)
    parts = list(iterate_predictions(path, rows=300))
    assert [len(part.ids) for part in parts] == [300, 300, 300, 100]
    np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), written.labels)


def test_failed_write_keeps_the_old_file(tmp_path):
    path, old = tmp_path / "predictions.parquet", make(10)
    write_predictions(path, old)
    bad = Predictions(old.ids, old.labels, old.probabilities[:, :2], NAMES)
    with pytest.raises(ValueError, match="zip"):
        write_predictions(path, bad)
    assert_same(read_predictions(path), old)


@pytest.mark.parametrize("content", [b"", b"PAR1 but not really", None])
def test_broken_or_missing_files_are_named(tmp_path, content):
    path = tmp_path / "predictions.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"predictions\.parquet"):
        read_predictions(path)


def test_foreign_table_is_refused(tmp_path):
    path = tmp_path / "other.parquet"
    pd.DataFrame({"id": ["a"], "score": [1.0]}).to_parquet(path)
    with pytest.raises(ArtifactError, match="probability_"):
        read_predictions(path)
