from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from svp_lightning.errors import ArtifactError
from svp_lightning.evaluation.predictions import (
    Predictions,
    read_predictions,
    read_resamples,
    write_predictions,
    write_resamples,
)

NAMES = ("protein", "silicone_oil", "id")  # a class may be called like a column


def make(n=1000, seed=0):
    rng = np.random.default_rng(seed)
    return Predictions(
        ids=np.array([f"img-{i}" for i in range(n)], dtype=object),
        labels=rng.integers(-1, 3, n),
        probabilities=rng.dirichlet([1, 1, 1], n).astype(np.float32),
        class_names=NAMES,
        shares={"protein": 0.7, "silicone_oil": 0.2, "id": 0.1},
    )


def assert_same(a, b):
    assert a.class_names == b.class_names
    assert a.shares == b.shares
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


def test_a_long_table_without_ids_and_without_unknown_classes(tmp_path):
    path, written = tmp_path / "predictions.parquet", make(150_000)
    write_predictions(path, written)
    found = read_predictions(path, with_ids=False).labelled()
    known = written.labels >= 0
    np.testing.assert_array_equal(found.labels, written.labels[known])
    np.testing.assert_array_equal(found.probabilities, written.probabilities[known])
    assert len(found.ids) == 0
    matrix = found.confusion()
    assert matrix.sum(axis=1).tolist() == np.bincount(found.labels).tolist()
    assert matrix.trace() == (found.probabilities.argmax(1) == found.labels).sum()


def test_redrawn_metrics_survive_the_file(tmp_path):
    path, values = tmp_path / "bootstrap.parquet", np.random.default_rng(0).random((10, 2))
    assert read_resamples(path) is None
    write_resamples(path, values, ["macro_auprc", "silicone_oil/auprc"], "these images")
    found = read_resamples(path)
    np.testing.assert_array_equal(found.values, values)
    assert found.draw == "these images"
    np.testing.assert_array_equal(found.of("silicone_oil/auprc"), values[:, 1])
    path.write_bytes(b"no parquet")
    with pytest.raises(ArtifactError, match="resampled metrics"):
        read_resamples(path)


def test_failed_write_keeps_the_old_file(tmp_path):
    path, old = tmp_path / "predictions.parquet", make(10)
    write_predictions(path, old)
    bad = replace(old, probabilities=old.probabilities[:, :2])
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
    table = {"id": ["a"], "label": ["dust"], "probability_protein": [1.0]}
    pd.DataFrame(table).to_parquet(path)
    with pytest.raises(ArtifactError, match="class shares"):
        read_predictions(path)
    described = {"svp_lightning": '{"trained_shares": {"protein": 1.0}}'}
    parquet.write_table(pa.table(table).replace_schema_metadata(described), path)
    with pytest.raises(ArtifactError, match="label 'dust'"):
        read_predictions(path)
