"""What is written and said of a run's counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from svp_lightning.data.importers.flowcam import plan_flowcam
from svp_lightning.data.importers.writer import write_plan
from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.errors import DataError, SettingsError
from svp_lightning.evaluation.particle_counts import samples_of
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.reference import Judged, Reference
from svp_lightning.report.count_notes import notes, too_many_strangers, what_is_promised
from svp_lightning.report.counts import count_table, each_sample, readable, write_counts
from tests import configured
from tests.data.importers.made_runs import dilute
from tests.data.importers.made_runs import write_flowcam as write_run

NAMES = ("protein", "silicone_oil")
SHARES = dict.fromkeys(NAMES, 0.5)
ECD = "equivalent circular diameter"
Volume = float | dict[str, float] | None


def store_of(
    folder: Path, groups: list[str], runs: dict[str, dict[str, Any]] | None = None, **made_by: Any
) -> Store:
    """One image per group name; sizes 1, 3, 5, … µm, the first cut by the frame."""
    n = len(groups)
    table = pd.DataFrame(
        {
            "id": [f"{group}/{k:06d}" for k, group in enumerate(groups)],
            "label": pd.Series([None] * n, dtype=object),
            "split": "",
            "group": pd.Series(groups, dtype=object),
            "origin": "real",
            "ecd_um": 1.0 + 2 * np.arange(n),
            "edge_of_frame": np.arange(n) == 0,
        }
    )
    writer = StoreWriter(folder, n, 16)
    writer.write(0, np.full((n, 16, 16), 170, np.uint8), table)
    facts = {"runs": runs} if runs else {}
    writer.finish((), 0.5, {"source": "flowcam", "size_definition": ECD, **facts, **made_by})
    return Store.open(folder)


def predicted(store: Store) -> Predictions:
    """Protein and oil in turn, the last one uncertain."""
    first = np.where(np.arange(len(store)) % 2 == 0, 0.9, 0.1).astype(np.float32)
    first[-1:] = 0.5
    ids = store.particles["id"].to_numpy(dtype=object)
    unknown = np.full(len(store), -1)
    return Predictions(ids, unknown, np.stack([first, 1 - first], axis=1), NAMES, SHARES)


def judged(found: Predictions) -> Judged:
    """Sets of what has 0.4 or more; nothing is unfamiliar."""
    held = found.probabilities >= 0.4
    return Judged(found, held, np.zeros(len(held), bool), np.ones(len(held)))


def reported(store: Store, folder: Path, volume_ml: Volume = None, blank: str = "") -> str:
    """Write the tables and give what is printed, spaces joined."""
    found, samples = judged(predicted(store)), samples_of(store, volume_ml)
    samples = [replace(one, blank=one.name == blank) for one in samples]
    counts = count_table(found, store, samples)
    write_counts(folder, store, found, counts)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(readable(store, counts, samples))
        console.print(each_sample(store, counts, samples))
    return " ".join([*capture.get().split(), *notes(store, counts, samples)])


def written(folder: Path, index: str = "run") -> pd.DataFrame:
    return pd.read_csv(folder / "counts.csv").set_index([index, "min_size_um", "class"])


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
    assert "Cut by the edge of the frame: 1 " in said


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


@pytest.mark.parametrize("litter", ["Thumbs.db", "notes.txt", "run1.cla", "run1_000002_bin.tif"])
def test_what_is_no_particle_leaves_the_concentration(tmp_path: Path, litter: str) -> None:
    write_run(tmp_path / "runs", "run1")
    (tmp_path / "runs" / litter).write_bytes(b"not what it should be")
    settings = configured.flowcam(root=tmp_path / "runs", labelled=False, unreadable="skip")
    write_plan(tmp_path / "store", plan_flowcam(settings), 1, lambda n: None)
    reported(Store.open(tmp_path / "store"), tmp_path)
    row = written(tmp_path).loc[("run1", 0, "all")]
    assert row[["count", "per_ml"]].tolist() == pytest.approx([6, 6 / 0.0174], rel=1e-5)


def test_dilution_is_applied_and_said(tmp_path: Path) -> None:
    runs = {"r": {"volume_ml": 0.05, "dilution": 10}}
    said = reported(store_of(tmp_path / "store", ["r"] * 2, runs), tmp_path)
    row = written(tmp_path).loc[("r", 0, "all")]
    assert row[["per_ml", "dilution"]].tolist() == [40, 10]
    assert "diluted 10 times" in said
    unknown = {"a": {"dilution": None, "volume_ml": 0.25}}
    store = store_of(tmp_path / "mfi", ["a"] * 2, unknown, source="mfi")
    assert [samples_of(store, ml, 10)[0].per_particle for ml in (None, 0.5)] == [40, 20]


@pytest.mark.parametrize(("strange", "warned"), [(2, False), (12, True), (0, False)])
def test_more_unfamiliar_particles_than_mistakes_would_make_are_a_warning(
    tmp_path: Path, strange: int, warned: bool
) -> None:
    found = judged(predicted(store_of(tmp_path / "store", ["a"] * 100, {})))
    flagged = replace(found, unfamiliar=np.arange(100) < strange)
    assert bool(too_many_strangers(flagged, 0.02)) == warned


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
    settings = configured.flowcam(root=tmp_path / "runs", labelled=False, volume_ml=0.05)
    write_plan(tmp_path / "store", plan_flowcam(settings), 1, lambda n: None)
    store = Store.open(tmp_path / "store")
    reported(store, tmp_path)
    row = written(tmp_path).loc[("run1", 0, "all")]
    if withheld is not None:
        assert withheld in row["withheld"]
    printed = reported(store, tmp_path, settings.volume_ml)
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
    settings = configured.flowcam(root=tmp_path / "runs", labelled=False, dilution=dilution)
    write_plan(tmp_path / "store", plan_flowcam(settings), 1, lambda n: None)
    reported(Store.open(tmp_path / "store"), tmp_path, 0.05)
    row = written(tmp_path).loc[("run1", 0, "all")]
    if found is None:
        assert "a dilution of 10 is set" in row["withheld"]
    else:
        assert row["per_ml"] == pytest.approx(found)


def test_images_of_a_folder_are_no_runs(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["1.png", "2.png", "3.png"], source="folder")
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


def test_what_too_few_validation_images_cannot_promise_is_said() -> None:
    values = {name: np.linspace(0, 1, n) for name, n in zip(NAMES, (400, 18), strict=True)}
    said = " ".join(what_is_promised(Reference(values, values, {}), 0.95, 0.02, 1000))
    assert "here 20." in said
    assert "18 validation images of Silicone oil are too few" in said
    assert "94.7 %" in said  # 18 of 19
    assert "Protein" not in said
    assert "no reference" in what_is_promised(None, 0.95, 0.02, 1000)[0]
