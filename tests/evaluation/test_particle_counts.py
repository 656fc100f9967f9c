"""Counts at size thresholds, concentrations and intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, poisson

from svp_lightning.evaluation.particle_counts import (
    Sample,
    count_particles,
    counted_as,
    poisson_interval,
    together,
)
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.reference import Judged

PARTICLES = pd.DataFrame(
    {
        "sample": ["b", "a", "a", "a", "a"],
        "class": ["oil", "oil", "oil", "air", "uncertain"],
        "size_um": [3.0, 2.0, 10.0, 4.9, np.nan],
    }
)
A, B = Sample("a", volume_ml=0.5), Sample("b", volume_ml=0.25)


def counted(*samples: Sample, thresholds: tuple[float, ...] = (2.0, 5.0)) -> pd.DataFrame:
    table = count_particles(PARTICLES, ("oil", "air"), samples or (A, B), "all runs", thresholds)
    return table.set_index(["sample", "min_size_um", "class"]).sort_index()


def test_counts_are_cumulative_and_every_row_is_there() -> None:
    table = counted()
    assert len(table) == 3 * 3 * 5
    count = table["count"].groupby(["sample", "class"]).agg(list)
    assert count.loc["a", "oil"] == [2, 2, 1]
    assert count.loc["a", "air"] == [1, 1, 0]
    assert count.loc["a", "uncertain"] == [1, 0, 0]  # of unknown size
    assert count.loc["a", "all"] == [4, 3, 1]
    assert count.loc["b", "all"] == [1, 1, 0]
    assert count.loc["all runs", "oil"] == [3, 3, 1]
    assert count.loc["all runs", "all"] == [5, 4, 1]


def test_concentrations_are_counts_over_the_volume_of_the_original_sample() -> None:
    table = counted(A, Sample("b", volume_ml=0.025, dilution=10))
    row = table.loc[("a", 2.0, "all")]
    assert (row["count"], row["volume_ml"], row["per_ml"]) == (3, 0.5, 6)
    assert (row["per_ml_low"], row["per_ml_high"]) == (2 * row["count_low"], 2 * row["count_high"])
    assert table.loc[("b", 0.0, "oil"), ["per_ml", "dilution"]].tolist() == [40, 10]
    whole = table.loc[("all runs", 0.0, "all")]
    assert whole["per_ml"] == pytest.approx(5 / 0.525)
    assert np.isnan(whole["dilution"])  # the runs were diluted differently


def test_runs_together_have_the_sum_of_their_volumes() -> None:
    table = counted()
    assert table.loc[("all runs", 0.0, "all"), "per_ml"] == pytest.approx(5 / 0.75)
    assert together([A, B], "all runs").volume_ml == 0.75


def test_a_withheld_concentration_is_withheld_of_the_sum_too() -> None:
    table = counted(A, Sample("b", volume_ml=0.25, withheld="volumes disagree"))
    assert table.loc["a", "per_ml"].notna().all()
    for name in ("b", "all runs"):
        assert table.loc[name, "per_ml"].isna().all()
        assert table.loc[name, "withheld"].eq("volumes disagree").all()
        assert table.loc[name, "count"].max() > 0


def test_a_blank_is_a_result() -> None:
    table = counted(A, B, Sample("blank", volume_ml=0.5))
    row = table.loc[("blank", 0.0, "all")]
    assert (row["count"], row["count_low"], row["per_ml"], row["per_ml_low"]) == (0, 0, 0, 0)
    assert row["count_high"] == pytest.approx(3.689, abs=5e-4)
    assert row["per_ml_high"] == pytest.approx(7.378, abs=5e-4)
    assert np.isnan(row["share"])


def test_an_import_of_a_blank_alone_is_counted() -> None:
    table = count_particles(PARTICLES[:0], ("oil", "air"), [A], "all runs", (2.0,))
    assert table["count"].tolist() == [0] * 20


def test_intervals_are_exact_poisson_and_wilson() -> None:
    low, high = poisson_interval(np.array([0, 60]))
    # At the ends of Garwood's interval the observed count is just at the 2.5 % tail.
    assert poisson.sf(59, low[1]) == pytest.approx(0.025)
    assert poisson.cdf([0, 60], high) == pytest.approx(0.025)
    row = counted().loc[("a", 0.0, "oil")]
    wilson = binomtest(2, 4).proportion_ci(method="wilson")
    assert row[["share", "share_low", "share_high"]].tolist() == pytest.approx(
        [0.5, wilson.low, wilson.high]
    )


@pytest.mark.parametrize("name", ["All", "uncertain", "Unfamiliar"])
def test_a_class_named_as_a_row_is_kept_apart_from_it(name: str) -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.5, 0.5]], np.float32)
    ids, shares = np.arange(4).astype(object), {name: 0.5, "oil": 0.5}
    found = Predictions(ids, np.full(4, -1), probabilities, (name, "oil"), shares)
    classes = counted_as(Judged(found, probabilities > 0.3, np.zeros(4, bool), None))
    particles = pd.DataFrame({"sample": "a", "class": classes, "size_um": np.nan})
    table = count_particles(particles, found.class_names, [A])
    whole = table[table["sample"] == "all runs"].set_index("class")["count"]
    assert whole.to_dict() == {
        f"{name} (class)": 2, "oil": 1, "uncertain": 1, "unfamiliar": 0, "all": 4,
    }  # fmt: skip


def test_every_image_counts_once() -> None:
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 1000).astype(np.float32)
    ids = np.arange(1000).astype(object)
    names = ("a", "b", "c")
    found = Predictions(ids, np.full(1000, -1), probabilities, names, dict.fromkeys(names, 1 / 3))
    sets, strange = probabilities >= 0.4, np.arange(1000) % 50 == 0
    sets[np.arange(1000), probabilities.argmax(axis=1)] = True
    kinds = counted_as(Judged(found, sets, strange, None))
    assert (kinds == "unfamiliar").tolist() == strange.tolist()
    several = (sets.sum(axis=1) > 1) & ~strange
    assert (kinds == "uncertain").sum() == several.sum() > 0
    sure = ~several & ~strange
    likeliest = np.array(names)[probabilities.argmax(axis=1)]
    assert (kinds[sure] == likeliest[sure]).all()
