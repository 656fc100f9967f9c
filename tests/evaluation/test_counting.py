import numpy as np
import pytest
from scipy.stats import poisson

from svp_lightning.errors import DataError
from svp_lightning.evaluation.counting import count_table, tally_classes

NAMES = ("protein", "silicone_oil", "air_bubble")


def test_every_image_counts_once_and_batches_add_up():
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 1000)
    whole = tally_classes(probabilities, 0.6)
    assert whole.sum() == 1000
    assert whole[-1] == (probabilities.max(1) < 0.6).sum() > 0
    parts = sum(tally_classes(part, 0.6) for part in np.array_split(probabilities, 7))
    np.testing.assert_array_equal(parts, whole)
    sure = probabilities[probabilities[:, 1] >= 0.6]
    np.testing.assert_array_equal(tally_classes(sure, 0.6), [0, len(sure), 0, 0])


def test_table_has_exact_poisson_bounds_and_wilson_shares():
    table = count_table(np.array([900, 0, 60, 40]), NAMES).set_index("class")
    assert list(table.index) == [*NAMES, "uncertain"]
    assert table["share"].sum() == pytest.approx(1)
    bubble = table.loc["air_bubble"]
    # At the ends of Garwood's interval the observed count is just at the 2.5 % tail.
    assert poisson.sf(59, bubble["count_low"]) == pytest.approx(0.025)
    assert poisson.cdf(60, bubble["count_high"]) == pytest.approx(0.025)
    none = table.loc["silicone_oil"]
    assert none["count_low"] == none["share_low"] == 0
    assert none["count_high"] == pytest.approx(-np.log(0.025))
    p, n, z = 0.06, 1000, 1.959964
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (bubble["share_low"], bubble["share_high"]) == pytest.approx(
        (centre - half, centre + half), rel=1e-5
    )


def test_an_empty_run_is_refused():
    with pytest.raises(DataError, match="no image"):
        count_table(np.zeros(4, dtype=int), NAMES)
