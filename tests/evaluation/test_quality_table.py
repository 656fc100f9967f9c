"""The numbers of a quality report: corrected, without the blank, per container, and compared."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from svp_lightning.errors import SettingsError
from svp_lightning.evaluation.particle_counts import Sample, poisson_interval
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.quality_table import (
    _verdicts,
    calls_of,
    quality_table,
    reference,
    with_blank,
)

NAMES = ("protein", "silicone_oil")
SHARES = dict.fromkeys(NAMES, 0.5)
RUNS = [Sample("a", 0.5), Sample("b", 0.25), Sample("water", 1.0)]


def said(called: np.ndarray, labels: np.ndarray | None = None, size: float = 3.0) -> Predictions:
    """Predictions without doubt, all of one size."""
    n = len(called)
    labels = np.full(n, -1) if labels is None else labels
    p = np.eye(2)[called] * 0.98 + 0.01
    return Predictions(np.arange(n).astype(object), labels, p, NAMES, SHARES, np.full(n, size))


def table_of(samples=RUNS, blank=None, container_ml=None, test=None) -> pd.DataFrame:
    """100 + 20 particles in ``a``, 30 + 30 in ``b``, 10 + 0 in ``water``."""
    counts = {"a": (100, 20), "b": (30, 30), "water": (10, 0)}
    names = np.repeat(list(counts), [sum(n) for n in counts.values()])
    called = np.concatenate([np.repeat([0, 1], n) for n in counts.values()])
    kinds = np.where(np.arange(190) < 12, "uncertain", "oil")
    particles = pd.DataFrame({"sample": names, "size_um": 3.0, "class": kinds})
    samples = with_blank(samples, blank)
    calls = calls_of(samples, particles, (2.0, 5.0), said(called), test, SHARES, None)
    table = quality_table(calls, container_ml)
    return table.set_index(["quantity", "sample", "min_size_um", "class"]).sort_index()


def test_concentrations_and_their_parts() -> None:
    table = table_of(container_ml=2.0)
    row = table.loc[("single", "a", 2.0, "protein")]
    low, high = poisson_interval(np.array(100))
    assert row[["called", "corrected", "per_ml", "per_container"]].tolist() == [100, 100, 200, 400]
    assert row[["per_ml_low", "per_ml_high"]].tolist() == pytest.approx([2 * low, 2 * high])
    assert table.loc[("single", "a", 5.0, "all"), "called"] == 0
    assert table.loc[("single", "a", 0.0, "uncertain"), "per_ml"] == 24


def test_mistakes_of_the_test_images_are_corrected() -> None:
    """A tenth of the protein is taken for oil: of 120 particles 20 called oil, 100 protein."""
    labels = np.repeat([0, 1], [10_000, 10_000])
    called = np.where(np.arange(20_000) < 1000, 1, labels)
    row = table_of(test=said(called, labels)).loc[("single", "a", 2.0, "protein")]
    assert row["corrected"] == pytest.approx(100 / 0.9)
    assert row["corrected_low"] < 100 < row["corrected_high"]


def test_a_blank_is_subtracted_with_its_error() -> None:
    table = table_of(blank="water")
    row = table.loc[("less blank", "a", 2.0, "all")]
    assert row["per_ml"] == pytest.approx(240 - 10)
    half = 1.96 * np.sqrt(120 / 0.5**2 + 10)
    assert row["per_ml_low"] == pytest.approx(230 - half, abs=5)
    assert row["per_ml_high"] == pytest.approx(230 + half, abs=8)
    assert (table.loc["less blank", "other"] == "water").all()
    assert set(table.loc["difference"].index.get_level_values("sample")) == {"b"}


def test_each_predictions_blank_is_subtracted_from_its_own_runs() -> None:
    """``a`` is of an earlier one, with a blank of its own or without."""
    earlier = [replace(RUNS[0], earlier=True)]
    table = table_of([*earlier, *RUNS[1:]], blank="water")
    assert set(table.loc["less blank"].index.get_level_values("sample")) == {"b"}
    assert table.loc[("difference", "b", 2.0, "all"), "other"] == "a"
    own = [*earlier, *RUNS[1:2], replace(RUNS[2], earlier=True)]
    table = table_of(own, blank="water")
    assert set(table.loc["less blank"].index.get_level_values("sample")) == {"a"}


def test_a_difference_is_of_what_is_left_without_the_blanks() -> None:
    """120 − 105 and 60 − 45 particles/mL are as many, though there are more before."""
    counts = {"a": 120, "its blank": 105, "b": 60, "its own": 45}
    particles = pd.DataFrame(
        {"sample": np.repeat(list(counts), list(counts.values())), "size_um": 3.0, "class": ""}
    )
    raw = said(np.zeros(len(particles), int))

    def compared(blanks: tuple[str, ...]) -> pd.Series:
        samples = [Sample(n, 1.0, blank=n in blanks, earlier=n in list(counts)[:2]) for n in counts]
        table = quality_table(calls_of(samples, particles, (2.0,), raw, None, SHARES, None))
        table = table.set_index(["quantity", "sample", "min_size_um", "class"])
        return table.loc[("difference", "b", 2.0, "all")]

    gross, net = compared(()), compared(("its blank", "its own"))
    assert (gross["per_ml"], gross["verdict"]) == (-60, "fewer")
    assert (net["per_ml"], net["verdict"]) == (0, "")
    assert net["per_ml_high"] == pytest.approx(1.96 * np.sqrt(sum(counts.values())), abs=4)
    mixed = compared(("its own",))
    assert (mixed["per_ml"], mixed["verdict"]) == (-105, "")  # a blank is missing
    shared, without = (table_of(blank=blank).loc["difference"] for blank in ("water", None))
    assert shared.equals(without.loc[["b"]])  # a blank of both runs cancels


def test_runs_are_compared_with_the_first() -> None:
    row = table_of().loc[("difference", "b", 2.0, "silicone_oil")]
    assert row["per_ml"] == pytest.approx(30 / 0.25 - 20 / 0.5)
    assert row["per_ml_low"] < 80 - np.sqrt(30 / 0.25**2 + 20 / 0.5**2)
    assert row["other"] == "a"


@pytest.mark.parametrize(("unsized", "said_of_c"), [(0, "more"), (1, "")])
def test_verdicts_allow_for_the_number_of_differences(unsized: int, said_of_c: str) -> None:
    """8 particles and 21 differ at 5 % alone (p = 0.02), not among 24 comparisons; 8 and 60 do.

    Where sizes are unknown, a run lacks particles at every size.
    """
    samples = [Sample(name, 1.0) for name in "abcd"]
    counts = (8, 21, 60, 8)
    particles = pd.DataFrame({"sample": np.repeat([*"abcd"], counts), "size_um": 3.0, "class": ""})
    particles.loc[particles.index[-9 : -9 + unsized], "size_um"] = np.nan  # of c
    raw = said(np.ones(sum(counts), int))
    table = quality_table(calls_of(samples, particles, (2.0,), raw, None, SHARES, None))
    rows = table[(table["class"] == "silicone_oil") & (table["min_size_um"] == 2)]
    of = rows[rows["quantity"] == "difference"].set_index("sample")
    assert of["per_ml_low"].loc["b"] > 0
    assert of["verdict"].to_dict() == {"b": "", "c": said_of_c, "d": ""}
    assert (table.loc[table["quantity"] == "single", "verdict"] == "").all()


def test_an_end_that_was_drawn_to_the_value_is_no_verdict() -> None:
    """As an estimate of 0 draws it, however wide the rest of the interval is."""
    rows = pd.DataFrame(
        {"per_ml": [-13.0, 13.0, -18.0], "per_ml_low": [-34.0, 13.0, -19.0],
         "per_ml_high": [-13.0, 34.0, -17.0]}
    )  # fmt: skip
    assert _verdicts(rows).tolist() == ["fewer", "more", "fewer"]
    others = pd.DataFrame({"per_ml": 0.0, "per_ml_low": -1.0, "per_ml_high": 1.0}, range(1000))
    assert _verdicts(pd.concat([rows, others]))[:3].tolist() == ["", "", "fewer"]
    around = rows.assign(per_ml_low=[-34.0, -0.1, -19.0])
    assert _verdicts(around).tolist() == ["fewer", "", "fewer"]


def test_without_a_volume_nothing_is_compared_and_a_blank_is_refused() -> None:
    samples = [Sample("a", withheld="unknown"), *RUNS[1:2], Sample("water", withheld="unknown")]
    table = table_of(samples)
    assert table.loc[("single", "a")]["per_ml"].isna().all()
    assert "difference" not in table.index.get_level_values("quantity")
    with pytest.raises(SettingsError, match=r"water is no run with a concentration: unknown\."):
        table_of(samples, blank="water")


def test_limits_are_per_container_up_to_100_ml_and_per_ml_above() -> None:
    small, large = reference("injection", 100.0), reference("injection", 250.0)
    assert small is not None
    assert large is not None
    assert small.per_container == {10.0: 6000, 25.0: 600}
    assert small.per_ml == {10.0: 60, 25.0: 6}
    assert (large.per_container, large.per_ml) == ({}, {10.0: 25, 25.0: 3})
    assert reference("injection", None) is None
    eye = reference("ophthalmic", None)
    assert eye is not None
    assert eye.per_ml == {10.0: 50, 25.0: 5}
