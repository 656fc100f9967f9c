import numpy as np
import pandas as pd
import pytest

from svp_lightning.evaluation.size_counts import ALL_CLASSES, size_table

PARTICLES = pd.DataFrame(
    {
        "run": ["b", "a", "a", "a", "a"],
        "class": ["oil", "oil", "oil", "air", "air"],
        "ecd_um": [3.0, 2.0, 10.0, 4.9, np.nan],
    }
)
NO_VOLUMES = pd.Series(dtype=float)


def counted(thresholds: tuple[float, ...] = (2.0, 5.0), volumes: pd.Series = NO_VOLUMES):
    return size_table(PARTICLES, ["oil", "air", "uncertain"], thresholds, volumes)


def test_counts_are_cumulative_and_every_row_is_there() -> None:
    table = counted()
    assert len(table) == 2 * 4 * 3
    found = table.set_index(["run", "class", "min_ecd_um"])["count"].sort_index()
    assert found["a", "oil"].tolist() == [2, 2, 1]
    assert found["a", "air"].tolist() == [2, 1, 0]  # one of unknown size
    assert found["a", ALL_CLASSES].tolist() == [4, 3, 1]
    assert found["b", "uncertain"].tolist() == [0, 0, 0]
    assert "per_ml" not in table


def test_concentrations_where_the_volume_is_known() -> None:
    table = (
        counted(volumes=pd.Series({"a": 0.5}))
        .set_index(["run", "class", "min_ecd_um"])
        .sort_index()
    )
    row = table.loc[("a", ALL_CLASSES, 2.0)]
    assert (row["count"], row["ml_imaged"], row["per_ml"]) == (3, 0.5, 6)
    assert row["per_ml_low"] == pytest.approx(2 * row["count_low"])
    assert row["count_low"] < 3 < row["count_high"]
    assert table.loc["b", "per_ml"].isna().all()


def test_without_sizes_all_particles_are_counted_once() -> None:
    table = counted(thresholds=())
    assert table["min_ecd_um"].tolist() == [0.0] * 8
    assert table.loc[table["class"] == ALL_CLASSES, "count"].tolist() == [4, 1]


def test_a_threshold_above_all_particles_counts_none() -> None:
    assert counted(thresholds=(100.0,)).query("min_ecd_um > 0")["count"].eq(0).all()
