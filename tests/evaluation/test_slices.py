import numpy as np
import pandas as pd
import pytest

from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.slices import recall_slices

NAMES = ("protein", "silicone_oil")


def called(labels, predicted):
    shares = dict.fromkeys(NAMES, 0.5)
    return Predictions(np.empty(0, object), labels, np.eye(2)[predicted], NAMES, shares)


def by(rows, column, name):
    return {row["slice"]: row for row in rows if (row["column"], row["class"]) == (column, name)}


def test_recall_by_size_and_shape():
    labels = np.array([0, 0, 0, 1, 1, 1])
    predicted = np.array([0, 1, 0, 1, 1, 0])
    table = pd.DataFrame(
        {
            "ecd_um": [3.0, 3.0, 30.0, 5.0, 9.99, np.nan],
            "defocus_um": [-6.0, 6.0, 0.0, 1.0, 1.0, 1.0],
            "morphology": ["film", "film", "chain", "sphere", "sphere", None],
        },
        index=[9, 8, 7, 6, 5, 4],
    )
    rows = recall_slices(called(labels, predicted), table)
    protein = by(rows, "ecd_um", "protein")
    assert set(protein) == {"2 to 5", "25 or more"}
    assert (protein["2 to 5"]["images"], protein["2 to 5"]["recall"]) == (2, 0.5)
    # An image of unknown size is in no bin; the edge of a bin is in the upper one.
    oil = by(rows, "ecd_um", "silicone_oil")
    assert set(oil) == {"5 to 10"}
    assert oil["5 to 10"]["images"] == 2
    assert by(rows, "defocus_um", "protein")["5 to 10"]["images"] == 2  # the sign is dropped
    assert by(rows, "morphology", "protein")["film"]["recall"] == 0.5
    low, high = protein["2 to 5"]["ci95"]
    assert 0 < low < 0.5 < high < 1


def test_what_the_store_does_not_know_is_left_out():
    table = pd.DataFrame({"ecd_um": [np.nan, np.nan]})
    assert recall_slices(called(np.array([0, 1]), np.array([0, 1])), table) == []


@pytest.mark.parametrize("column", ["ecd_um", "morphology"])
def test_slices_add_up_to_the_recall(column):
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 2, 300), rng.integers(0, 2, 300)
    values = rng.uniform(0, 40, 300) if column == "ecd_um" else rng.choice(["a", "b"], 300)
    rows = recall_slices(called(labels, predicted), pd.DataFrame({column: values}))
    for k, name in enumerate(NAMES):
        own = by(rows, column, name).values()
        assert sum(row["images"] for row in own) == (labels == k).sum()
        right = sum(row["recall"] * row["images"] for row in own)
        assert right == pytest.approx(((labels == k) & (predicted == k)).sum())
