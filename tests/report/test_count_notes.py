"""What a reader of the counts is informed of: volumes, dilutions, doubts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from svp_lightning.errors import SettingsError
from svp_lightning.evaluation.particle_counts import particles_of, samples_of
from svp_lightning.evaluation.reference import Reference
from svp_lightning.report.count_notes import (
    doubtful_sizes,
    notes,
    shares_counted_at,
    too_many_strangers,
    what_is_promised,
)
from tests.data.importers.made_runs import dilute, imported
from tests.data.importers.made_runs import write_flowcam as write_run
from tests.report.counted import NAMES, Volume, judged, predicted, reported, store_of, written


@pytest.mark.parametrize(
    ("facts", "made_by", "why"),
    [
        ({"volume_ml": 0.5, "withheld": "two volumes disagree"}, {}, "two volumes disagree"),
        ({"volume_ml": 0.5, "particles_lost": 3}, {}, "are missing"),
        ({"volume_ml": 0.5}, {"complete": False}, "are missing"),
        ({}, {}, "not known"),
    ],
)
def test_it_is_said_why_there_is_no_concentration(
    tmp_path: Path, facts: dict[str, Any], made_by: dict[str, Any], why: str
) -> None:
    said = reported(store_of(tmp_path / "store", ["r"] * 2, {"r": facts}, **made_by), tmp_path)
    assert "No concentration" in said
    assert why in said
    counts = written(tmp_path)
    assert counts["per_ml"].isna().all()
    assert counts["withheld"].str.contains(why, regex=False).all()


def test_dilution_is_applied_and_said(tmp_path: Path) -> None:
    runs = {"r": {"volume_ml": 0.05, "dilution": 10}}
    said = reported(store_of(tmp_path / "store", ["r"] * 2, runs), tmp_path)
    row = written(tmp_path).loc[("r", 0, "all")]
    assert row[["per_ml", "dilution"]].tolist() == [40, 10]
    assert "diluted 10 times" in said
    unknown = {"a": {"dilution": None, "volume_ml": 0.25}}
    store = store_of(tmp_path / "mfi", ["a"] * 2, unknown, source="mfi")
    assert "a diluted 10 times (stated)" in " ".join(
        notes(store, pd.read_csv(tmp_path / "counts.csv"), samples_of(store, 0.5, 10))
    )
    assert [samples_of(store, ml, 10)[0].per_particle for ml in (None, 0.5)] == [40, 20]


@pytest.mark.parametrize(("strange", "warned"), [(2, False), (12, True), (0, False)])
def test_more_unfamiliar_particles_than_mistakes_would_make_are_a_warning(
    tmp_path: Path, strange: int, warned: bool
) -> None:
    found = judged(predicted(store_of(tmp_path / "store", ["a"] * 100, {})))
    flagged = replace(found, unfamiliar=np.arange(100) < strange)
    assert bool(too_many_strangers(flagged, 0.02)) == warned


def test_particles_that_counts_at_a_size_miss_are_a_warning(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["a"] * 4 + ["b"] * 3, {})
    particles = particles_of(store, judged(predicted(store)))
    (cut,) = doubtful_sizes(store, particles, (2, 5))
    assert cut.startswith("Warning: the edge of the frame cuts 1 of 7 particles ")
    particles.loc[[0, 2], "size_um"] = np.nan
    unknown, _ = doubtful_sizes(store, particles, (2, 5))
    assert unknown.startswith("Warning: particles of unknown size (2 of 4 in a) are counted under")
    assert doubtful_sizes(store, particles, ()) == [cut]  # no counts at a size


def test_a_given_volume_makes_concentrations(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["a", "a", "b"], source="mfi")
    given: Volume = {"a": 0.5, "b": 0.1}
    reported(store, tmp_path, given)
    per_ml = written(tmp_path)["per_ml"].xs((0, "all"), level=("min_size_um", "class"))
    assert per_ml.to_dict() == pytest.approx({"a": 4, "b": 10, "all runs": 5})
    assert "stated (data.volume_ml): a 0.5 mL, b 0.1 mL." in reported(store, tmp_path, given)
    with pytest.raises(SettingsError, match="one volume for 2 runs"):
        samples_of(store, 0.5)
    with pytest.raises(SettingsError, match="'c', but the runs are a, b"):
        samples_of(store, {"c": 0.5})


@pytest.mark.parametrize(
    ("texts", "said", "withheld"),
    [
        ([], "run1 0.05 mL.", "not known"),
        (["Sample Volume Imaged ml,0.0174"], "run1 0.05 mL (its files: 0.0174 mL).", None),
        (
            ["Sample Volume Imaged ml,2.8961", "Sample Volume Imaged ml,289.6065"],
            "run1 0.05 mL (its files: run1_summary.csv says 2.8961 mL imaged, run1_run_summary.txt "
            "says 289.6065 mL imaged).",
            "289.6065 mL imaged; data.volume_ml=<mL> states it",
        ),
        (["Count,24\nSample Volume Imaged ml,0.0174"], "(its files: 0.0174 mL)", "counts 24"),
    ],
)
def test_a_stated_volume_of_a_flowcam_run_is_used_and_said(
    tmp_path: Path, texts: list[str], said: str, withheld: str | None
) -> None:
    write_run(tmp_path / "runs", "run1")
    (tmp_path / "runs" / "run1_run_summary.txt").unlink()
    for text, ending in zip(texts, ("_summary.csv", "_run_summary.txt"), strict=False):
        (tmp_path / "runs" / f"run1{ending}").write_text(text + "\n")
    store = imported("flowcam", tmp_path / "runs", labelled=False, volume_ml=0.05)
    reported(store, tmp_path)
    row = written(tmp_path).loc[("run1", 0, "all")]
    if withheld is not None:
        assert withheld in row["withheld"]
    printed = reported(store, tmp_path, 0.05)
    assert "The volume imaged is stated (data.volume_ml): run1 0.05 mL" in printed
    assert said in printed
    row = written(tmp_path).loc[("run1", 0, "all")]
    if withheld == "counts 24":  # no volume puts that right
        assert np.isnan(row["per_ml"])
    else:
        assert row[["per_ml", "volume_ml"]].tolist() == pytest.approx([6 / 0.05, 0.05])


@pytest.mark.parametrize(
    ("per_ml", "dilution", "found"),
    [
        (3448, None, 1200),  # 6 in 0.0174 mL, diluted 10 times: the files show the factor
        (None, None, None),  # nothing shows it
        (None, 10, 1200),
    ],
)
def test_a_stated_volume_is_that_of_the_diluted_sample(
    tmp_path: Path, per_ml: float | None, dilution: float | None, found: float | None
) -> None:
    write_run(tmp_path / "runs", "run1")
    dilute(tmp_path / "runs", 10, per_ml)
    if per_ml is None:
        for file in ("run1_summary.csv", "run1_run_summary.txt"):
            (tmp_path / "runs" / file).unlink()
    store = imported("flowcam", tmp_path / "runs", labelled=False, dilution=dilution)
    reported(store, tmp_path, 0.05)
    row = written(tmp_path).loc[("run1", 0, "all")]
    if found is None:
        assert "a dilution of 10 is set" in row["withheld"]
    else:
        assert row["per_ml"] == pytest.approx(found)


def test_class_shares_of_no_image_are_not_said() -> None:
    shares = dict.fromkeys(NAMES, 0.5)
    assert shares_counted_at(shares, "estimated", 0) == []
    assert "estimated from these images" in shares_counted_at(shares, "estimated", 1)[0]


def test_what_too_few_validation_images_cannot_promise_is_said() -> None:
    values = {name: np.linspace(0, 1, n) for name, n in zip(NAMES, (400, 18), strict=True)}
    said = " ".join(what_is_promised(Reference(values, values, {}), 0.95, 0.02, 1000))
    assert "here 20." in said
    assert "18 validation images of Silicone oil are too few" in said
    assert "94.7 %" in said  # 18 of 19
    assert "Protein" not in said
    assert "no reference" in what_is_promised(None, 0.95, 0.02, 1000)[0]
