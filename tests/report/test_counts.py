"""What is written and said of a run's counts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from svp_lightning.data.importers.vials import ALONE
from svp_lightning.errors import DataError
from svp_lightning.evaluation.particle_counts import samples_of
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.report.counts import count_table, each_sample, readable
from tests.data.importers.made_runs import imported
from tests.data.importers.made_runs import write_flowcam as write_run
from tests.report.counted import ECD, judged, reported, store_of, written


@pytest.mark.parametrize("groups", [["all runs"] * 2, ["all runs", "b", "b"]])
def test_a_run_named_as_all_of_them_is_refused(tmp_path: Path, groups: list[str]) -> None:
    store = store_of(tmp_path / "store", groups, {"all runs": {"volume_ml": 0.5}})
    with pytest.raises(DataError, match="'all runs'"):
        samples_of(store)


def test_one_file_holds_runs_sizes_classes_and_concentrations(tmp_path: Path) -> None:
    runs = {"run1": {"volume_ml": 0.5}, "run2": {"volume_ml": 0.25}}
    store = store_of(tmp_path / "store", ["run1"] * 4 + ["run2"] * 2, runs)
    said = reported(store, tmp_path)
    counts = written(tmp_path)
    assert len(counts) == 3 * 5 * 5
    assert counts.loc[("run1", 0, "all"), "count"] == 4
    assert counts.loc[("all runs", 5, "all"), ["count", "per_ml"]].tolist() == pytest.approx(
        [4, 4 / 0.75], rel=1e-5
    )
    assert counts.loc[("run2", 0, "uncertain"), ["count", "volume_ml"]].tolist() == [1, 0.25]
    assert (counts["size_definition"] == ECD).all()
    assert {"count_low", "count_high", "per_ml_low", "per_ml_high", "dilution"} <= set(counts)
    assert "2 runs together: 6 particles in the 0.75 mL imaged" in said
    assert "All 6 2–14 100% 8 2.9–17 ≥ 2 µm" in said
    assert "All 1 0–6 100% 1.3 0.034–7.4 ≥ 25 µm Protein 0 0–4" in said
    assert "classifier's mistakes" in said
    assert ECD in said


def test_predictions_have_size_definition_and_edge(tmp_path: Path) -> None:
    reported(store_of(tmp_path / "store", ["run1"] * 3), tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert table["run"].tolist() == ["run1"] * 3
    assert table["size_um"].tolist() == [1, 3, 5]
    assert table["size_definition"].unique().tolist() == [ECD]
    assert table["edge_of_frame"].tolist() == [True, False, False]
    assert table["set"].tolist() == ["protein", "silicone_oil", "protein|silicone_oil"]
    assert table["uncertain"].tolist() == [False, False, True]
    assert table["unfamiliar"].tolist() == [False] * 3
    assert table["probability_protein"].tolist() == [0.9, 0.1, 0.5]


def test_a_water_blank_counts_0_with_an_interval(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", [], {"blank": {"volume_ml": 0.5, "particles": 0}})
    said = reported(store, tmp_path)
    row = written(tmp_path).loc[("blank", 0, "all")]
    assert row[["count", "count_low", "per_ml"]].tolist() == [0, 0, 0]
    assert row[["count_high", "per_ml_high"]].tolist() == pytest.approx([3.68888, 7.37776])
    assert "All 0 0–4 0 0–7.4" in said
    assert "0 to 3.69" in said
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 0


def test_a_blank_among_runs_has_rows_of_its_own(tmp_path: Path) -> None:
    runs = {"run": {"volume_ml": 0.5}, "blank": {"volume_ml": 0.5, "particles": 0}}
    said = reported(store_of(tmp_path / "store", ["run"] * 2, runs), tmp_path)
    counts = written(tmp_path)
    assert "blank 0 0–4 0 0–7.4 run 2 0–8 4 0.48–14" in said
    assert counts.loc[("blank", 0, "all"), "count"] == 0
    assert counts.loc[("all runs", 0, "all"), "per_ml"] == 2


def test_all_runs_together_are_without_the_blank_that_is_subtracted(tmp_path: Path) -> None:
    volumes = {"a": {"volume_ml": 0.5}, "b": {"volume_ml": 0.25}, "water": {"volume_ml": 1.0}}
    store = store_of(tmp_path / "store", ["a"] * 2 + ["b"] + ["water"] * 3, volumes)
    said = reported(store, tmp_path, blank="water")
    counts = written(tmp_path)
    whole = counts.loc[("all runs", 0, "all")]
    assert whole[["count", "volume_ml", "per_ml"]].tolist() == [3, 0.75, 4]
    assert counts.loc[("water", 0, "all"), "count"] == 3
    assert "2 runs together, without the blank water: 3 particles in the 0.75 mL imaged" in said


@pytest.mark.parametrize("litter", ["Thumbs.db", "notes.txt", "run1.cla", "run1_000002_bin.tif"])
def test_what_is_no_particle_leaves_the_concentration(tmp_path: Path, litter: str) -> None:
    write_run(tmp_path / "runs", "run1")
    (tmp_path / "runs" / litter).write_bytes(b"not what it should be")
    reported(imported("flowcam", tmp_path / "runs", labelled=False, unreadable="skip"), tmp_path)
    row = written(tmp_path).loc[("run1", 0, "all")]
    assert row[["count", "per_ml"]].tolist() == pytest.approx([6, 6 / 0.0174], rel=1e-5)


def test_images_of_a_folder_are_no_runs(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["1.png", "2.png", "3.png"], source="folder")
    store.particles["group"] = ALONE + store.particles["id"]
    said = reported(store, tmp_path, 0.5)
    counts = written(tmp_path, "image")
    assert set(counts.index.get_level_values("image")) == {"all images"}
    assert counts.loc[("all images", 0, "all"), "per_ml"] == 6
    assert "run" not in said
    assert "run" not in pd.read_csv(tmp_path / "predictions.csv")


def test_vials_of_a_folder_are_groups(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["vial 1", "vial 1", "vial 2"], source="folder")
    said = reported(store, tmp_path)
    assert written(tmp_path, "group").loc[("vial 1", 0, "all"), "count"] == 2
    assert "2 groups together" in said


def test_without_sizes_there_are_no_thresholds(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["r"] * 2)
    store.particles["ecd_um"] = np.nan
    assert "No sizes are known" in reported(store, tmp_path)
    assert written(tmp_path).index.get_level_values("min_size_um").unique().tolist() == [0]
    assert "size_um" not in pd.read_csv(tmp_path / "predictions.csv")


@pytest.mark.parametrize("classes", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 60_000])
def test_no_number_is_split_in_80_columns(tmp_path: Path, classes: int, count: int) -> None:
    runs = {f"run_of_a_long_name_{k}": {"volume_ml": 0.017, "particles": 0} for k in range(2)}
    store = store_of(tmp_path / "store", [], runs)
    names = tuple(f"glass_delamination_flake_{k}" for k in range(classes))
    none = np.empty((0, classes), np.float32)
    found, samples = (
        Predictions(np.empty(0, object), np.empty(0, int), none, names, dict.fromkeys(names, 1.0)),
        samples_of(store),
    )
    counts = count_table(judged(found), store, samples)
    for column in ("count", "count_low", "count_high"):
        counts[column] += count
        counts[column.replace("count", "per_ml")] = counts[column] / 0.034
    console = Console(width=80)
    with console.capture() as capture:
        console.print(readable(store, counts, samples), each_sample(store, counts, samples))
    shown = capture.get()
    assert all(len(line) <= 80 for line in shown.splitlines())
    ends = f"{count:,}–{count + 4:,}"
    assert shown.count(ends) == 5 * (classes + 3) + 2
    if count:
        assert shown.count("1,764,706–1,764,814") == 5 * (classes + 3) + 2
