import numpy as np
import pytest
from numpy.typing import NDArray

from svp_lightning.errors import DataError
from svp_lightning.evaluation.label_issues import Evidence, rank_labels

NAMES = ("protein", "silicone_oil", "air_bubble")
TRUE = np.repeat([0, 1, 2], [600, 100, 100])
FLIPPED = np.array([5, 50, 500, 610, 650, 750])


def evidence(
    label: NDArray[np.int64], sharpness: float = 20, neighbours: NDArray[np.int64] | None = None
) -> Evidence:
    """Of a classifier and neighbours that know the truth, but for some noise."""
    rng = np.random.default_rng(0)
    probability = np.stack([rng.dirichlet(1 + sharpness * np.eye(3)[k]) for k in TRUE])
    if neighbours is None:
        alike = [np.flatnonzero(k == TRUE) for k in TRUE]
        neighbours = np.stack([rng.choice(rows, 10) for rows in alike])
    return Evidence(label, probability, neighbours, rng.uniform(0, 1, len(label)))


@pytest.fixture
def flipped() -> NDArray[np.int64]:
    label = TRUE.copy()
    label[FLIPPED] = [1, 2, 1, 0, 0, 0]
    return label


def test_planted_flips_rank_first_of_all_images(flipped: NDArray[np.int64]) -> None:
    given = evidence(flipped)
    table = rank_labels(given, NAMES)
    assert set(table["row"][: len(FLIPPED)]) == set(FLIPPED)
    assert sorted(table["row"]) == list(range(len(TRUE)))
    assert table["rank"].tolist() == list(range(1, len(TRUE) + 1))
    assert table["score"].is_monotonic_decreasing
    assert table["score"].between(0, 1).all()
    assert (table["given"] != table["suggested"]).all()
    assert set(FLIPPED) <= set(table.loc[table["confident"], "row"])
    oil_as_protein = table.set_index("row").loc[610]
    assert (oil_as_protein["given"], oil_as_protein["suggested"]) == NAMES[:2]
    for column, share in (("given", "self_confidence"), ("suggested", "suggested_probability")):
        names = [NAMES.index(name) for name in table[column]]
        np.testing.assert_array_equal(table[share], given.probability[table["row"], names])


def test_neighbours_find_what_an_unsure_classifier_does_not(flipped: NDArray[np.int64]) -> None:
    table = rank_labels(evidence(flipped, sharpness=0), NAMES)
    assert np.isin(FLIPPED, table["row"][: 5 * len(FLIPPED)]).all()
    assert table.set_index("row").loc[FLIPPED, "neighbours_agree"].max() <= 0.2


def test_a_reason_names_the_neighbours_the_probability_and_the_odd_one() -> None:
    label = np.repeat([0, 1, 2], [20, 20, 1])
    probability = np.tile([0.25, 0.7, 0.05], (41, 1))
    neighbours = np.tile(np.arange(20, 30), (41, 1))
    neighbours[3, :4] = 0
    own = np.where(np.arange(41) == 3, 9.0, 1.0)
    table = rank_labels(Evidence(label, probability, neighbours, own), NAMES).set_index("row")
    assert table.loc[3, "reason"] == (
        "6 of its 10 nearest images are Silicone oil. The classifier gives Silicone oil 70%, "
        "Protein 25%. It looks unlike all Protein."
    )
    assert "unlike" not in table.loc[4, "reason"]


def test_unlabelled_images_are_refused(flipped: NDArray[np.int64]) -> None:
    flipped[3] = -1
    with pytest.raises(DataError, match="-1"):
        rank_labels(evidence(flipped), NAMES)
