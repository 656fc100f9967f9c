import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from svp_lightning.errors import ArtifactError, DataError, SettingsError
from svp_lightning.evaluation.metrics import (
    CLASS_METRICS,
    MACRO_METRICS,
    classification_metrics,
)
from svp_lightning.evaluation.predictions import (
    Predictions,
    count_rows,
    iterate_scores,
    write_predictions,
)
from svp_lightning.evaluation.prevalence import prevalence_weights
from svp_lightning.evaluation.tally import prevalence_table, tally_arrays, tally_file

NAMES = ("protein", "silicone_oil", "air_bubble")
IN_USE = {"protein": 1000.0, "silicone_oil": 1.0, "air_bubble": 2.0}


def predictions(seed, counts=(60, 9, 7), signal=1.5, decimals=None):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([0, 1, 2], counts))
    scores = rng.normal(size=(len(labels), 3))
    scores[np.arange(len(labels)), labels] += signal
    p = (np.exp(scores) / np.exp(scores).sum(1, keepdims=True)).astype(np.float32)
    return labels, p if decimals is None else p.round(decimals)


def flat(metrics):
    per_class = [metrics["per_class"][name][m] for name in NAMES for m in CLASS_METRICS]
    return np.array([metrics[m] for m in MACRO_METRICS] + per_class)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    signal=st.sampled_from([0.0, 1.5, 9.0]),
    decimals=st.sampled_from([None, 2, 1, 0]),
    prevalence=st.sampled_from([None, IN_USE]),
)
@example(seed=158, signal=1.5, decimals=0, prevalence=None)  # 38 of 40 is 95 %
def test_counts_give_exactly_the_metrics(seed, signal, decimals, prevalence):
    labels, p = predictions(seed, signal=signal, decimals=decimals)
    weights = prevalence_weights(labels, prevalence, NAMES)
    expected = classification_metrics(labels, p.astype(np.float64), NAMES, weights)
    found = tally_arrays(labels, p, NAMES).metrics(prevalence)
    np.testing.assert_allclose(flat(found), flat(expected), atol=1e-9)


@pytest.fixture
def stored(tmp_path):
    labels, p = predictions(3, (200_000, 300, 200))
    path = tmp_path / "predictions.parquet"
    ids = np.arange(len(labels)).astype(str).astype(object)
    hidden = np.where(np.arange(len(labels)) % 7 == 3, -1, labels)
    write_predictions(path, Predictions(ids, hidden, p, NAMES))
    return path, hidden, p


def test_a_file_in_parts_is_the_file_as_a_whole(stored):
    path, labels, p = stored
    assert count_rows(path) == (len(labels), NAMES)
    assert max(len(part) for part, _ in iterate_scores(path)) < len(labels) / 3
    known = labels >= 0
    found, whole = tally_file(path), tally_arrays(labels[known], p[known], NAMES)
    np.testing.assert_array_equal(found.confusion, whole.confusion)
    for a, b in zip(found.above, whole.above, strict=True):
        np.testing.assert_array_equal(a, b)


def test_prevalence_moves_precision_and_leaves_recall(stored):
    table = prevalence_table(tally_file(stored[0]), "protein", (1, 10, 100, 1000))
    assert table["ratio"].tolist() == [1, 10, 100, 1000]
    assert set(table["common"]) == {"protein"}
    assert table["silicone_oil/precision"].is_monotonic_decreasing
    assert table["silicone_oil/auprc"].is_monotonic_decreasing
    assert table["protein/precision"].is_monotonic_increasing
    assert np.ptp(table["silicone_oil/recall"]) < 1e-12


def test_wrong_input_is_refused(tmp_path):
    labels, p = predictions(0)
    with pytest.raises(DataError, match="air_bubble"):
        tally_arrays(labels[labels < 2], p[labels < 2], NAMES)
    with pytest.raises(SettingsError, match="dust"):
        tally_arrays(labels, p, NAMES).metrics({"dust": 1.0})
    with pytest.raises(ArtifactError, match="cannot be read"):
        tally_file(tmp_path / "nothing.parquet")
