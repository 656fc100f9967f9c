import numpy as np
import pytest

from svp_lightning.errors import DataError
from svp_lightning.evaluation.label_issues import find_label_issues

NAMES = ("protein", "silicone_oil", "air_bubble")


def confident(true, seed=0, sharpness=20):
    rng = np.random.default_rng(seed)
    return np.stack([rng.dirichlet(1 + sharpness * np.eye(3)[k]) for k in true])


def test_planted_flips_are_found_and_rank_first():
    true = np.repeat([0, 1, 2], [2000, 100, 100])
    probabilities = confident(true)
    flipped = np.array([5, 50, 500, 2010, 2050, 2150])
    labels = true.copy()
    labels[flipped] = [1, 2, 1, 0, 0, 0]
    issues = find_label_issues(labels, probabilities, NAMES)
    assert set(flipped) <= set(issues["row"][: len(flipped) + 3])
    assert list(issues["rank"]) == list(range(1, len(issues) + 1))
    assert issues["self_confidence"].is_monotonic_increasing
    oil_as_protein = issues.set_index("row").loc[2010]
    assert (oil_as_protein["given"], oil_as_protein["suggested"]) == ("protein", "silicone_oil")
    given, suggested = (
        probabilities[issues["row"], [NAMES.index(name) for name in issues[column]]]
        for column in ("given", "suggested")
    )
    np.testing.assert_array_equal(issues["self_confidence"], given)
    np.testing.assert_array_equal(issues["suggested_probability"], suggested)


def test_clean_labels_give_an_empty_table_of_the_same_columns():
    labels = np.repeat([0, 1, 2], 50)
    issues = find_label_issues(labels, 0.01 + 0.97 * np.eye(3)[labels], NAMES)
    assert len(issues) == 0
    assert list(issues) == [
        "row", "given", "suggested", "self_confidence", "suggested_probability", "rank",
    ]  # fmt: skip


def test_unlabelled_images_are_refused():
    with pytest.raises(DataError, match="-1"):
        find_label_issues(np.array([0, 1, 2, -1]), np.full((4, 3), 1 / 3), NAMES)
