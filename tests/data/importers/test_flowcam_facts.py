"""What the files of a FlowCam run say: labels, volumes, counts, calibration, dilution, size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svp_lightning.data.importers.flowcam_facts import agreed, read_summary
from svp_lightning.data.importers.summary import IngestSummary, summarise
from svp_lightning.data.importers.writer import Plan
from svp_lightning.errors import DataError
from tests.data.importers.made_runs import (
    CAL,
    FIELDS,
    dilute,
    edit,
    imported,
    plan,
    write_blank,
    write_flowcam,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One run of six particles, 0.0174 mL."""
    write_flowcam(tmp_path / "runs", "run1")
    return tmp_path / "runs"


def facts(folder: Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = plan("flowcam", folder, **options).made_by["runs"]["run1"]
    return found


def summary_of(folder: Path, **options: Any) -> IngestSummary:
    return summarise(imported("flowcam", folder, **options))


def labels(found: Plan) -> list[str | None]:
    table = found.particles.sort_values("particle_id")
    return [label if isinstance(label, str) else None for label in table["label"]]


def notes_of(found: Plan) -> list[str]:
    notes: list[str] = found.made_by["runs"]["run1"]["notes"]
    return notes


def classify(folder: Path, **classifications: dict[str, list[int]]) -> None:
    lines = ["v3", str(len(classifications))]
    for name, classes in classifications.items():
        lines += [name, str(len(classes))]
        for spelled, ids in classes.items():
            lines += [spelled, "OR", "0", str(len(ids)), *map(str, ids)]
    (folder / "run1.cla").write_text("\n".join(lines) + "\n")


def summarised(folder: Path, text: str, ending: str = "_summary.csv") -> None:
    (folder / f"run1{ending}").write_text(text)


def cut_list(folder: Path, keep: list[int], renumber: bool = False) -> None:
    lines = (folder / "run1.lst").read_text().splitlines()
    head = 2 + len(FIELDS)
    rows = [line for line in lines[head:] if int(line.split("|")[0]) in keep]
    if renumber:
        rows = [f"{k}|{row.split('|', 1)[1]}" for k, row in enumerate(rows, start=1)]
    (folder / "run1.lst").write_text("\n".join(lines[:head] + rows) + "\n")


# Labels


def test_all_classifications_of_a_file_are_read(folder) -> None:
    classify(folder, auto={"oil": [1]}, expert={"protein": [2, 3, 4], "Air Bubble": [6]})
    found = plan("flowcam", folder)
    assert labels(found) == ["oil", "protein", "protein", "protein", None, "air_bubble"]
    (note,) = found.made_by["runs"]["run1"]["notes"]
    assert "'auto' (labels: 1), 'expert' (labels: 4)" in note


@pytest.mark.parametrize("choice", ["expert", 2, "2"])
def test_one_classification_can_be_chosen(folder, choice) -> None:
    classify(folder, auto={"oil": [1, 2]}, expert={"protein": [2, 3]})
    found = plan("flowcam", folder, classification=choice)
    assert labels(found) == [None, "protein", "protein", None, None, None]
    assert "'expert' is used" in found.made_by["runs"]["run1"]["notes"][0]


def test_particles_with_different_labels_are_reported_and_stay_without(folder) -> None:
    classify(folder, auto={"oil": [1, 2], "junk": [3]}, expert={"protein": [2], "Junk": [3]})
    found = plan("flowcam", folder)
    assert labels(found) == ["oil", None, "junk", None, None, None]
    notes = found.made_by["runs"]["run1"]["notes"]
    assert any(note.startswith("1 particles have different labels") for note in notes)


@pytest.mark.parametrize("choice", ["other", 0, 3])
def test_a_classification_that_is_not_there_is_refused_with_those_that_are(folder, choice) -> None:
    classify(folder, auto={"oil": [1]}, expert={"protein": [2]})
    with pytest.raises(DataError, match=r"has no classification .*'auto' \(labels: 1\), 'expert'"):
        plan("flowcam", folder, classification=choice)


def test_within_one_classification_a_particle_has_one_label(folder) -> None:
    classify(folder, mine={"oil": [1, 2], "protein": [2, 3]})
    with pytest.raises(DataError, match="particle 2 is in oil and protein"):
        plan("flowcam", folder)
    found = plan("flowcam", folder, unreadable="skip")
    assert labels(found) == ["oil", None, "protein", None, None, None]
    assert found.skipped["file"].tolist() == ["run1/000002"]
    assert not found.skipped["particle_lost"].any()


def test_labels_of_a_longer_list_are_refused(folder) -> None:
    cut_list(folder, keep=[2, 4, 6], renumber=True)
    with pytest.raises(DataError, match=r"classifies particle 4.*has particles up to 3"):
        plan("flowcam", folder)
    found = plan("flowcam", folder, unreadable="skip")
    assert labels(found) == [None, None, None]
    assert len(found.particles) == 3


def test_labels_fit_a_list_whose_numbers_were_kept(folder) -> None:
    cut_list(folder, keep=[2, 4, 6])
    summarised(folder, "Count,6\n")
    found = plan("flowcam", folder)
    assert labels(found) == ["protein", "oil_drop", None]
    assert any("2 particles that are not imported" in n for n in notes_of(found))


def test_labels_of_a_list_that_may_be_renumbered_are_refused(folder) -> None:
    classify(folder, mine={"oil": [1, 2], "protein": [3]})
    cut_list(folder, keep=[4, 5, 6], renumber=True)
    assert labels(plan("flowcam", folder)) == [
        "oil",
        "oil",
        "protein",
    ]  # nothing shows that it was cut
    summarised(folder, "Count,6\n")
    with pytest.raises(DataError, match=r"list has 3, run1_summary.csv counts 6.*renumbered"):
        plan("flowcam", folder)
    found = plan("flowcam", folder, unreadable="skip")
    assert labels(found) == [None, None, None]


def test_labels_that_count_from_0_are_refused(folder) -> None:
    classify(folder, mine={"oil": [0, 1], "protein": [5]})
    with pytest.raises(DataError, match=r"classifies particle 0.*begins at 1"):
        plan("flowcam", folder)


# Counts and volumes


@pytest.mark.parametrize("line", ["Count,24", "Particle Count: 24", '"Count";"24"'])
def test_a_list_with_other_counts_than_its_summary_has_no_concentration(folder, line) -> None:
    (folder / "run1.cla").unlink()
    summarised(folder, f"{line}\nSphere Count,0.00,0.00\nSample Volume Imaged ml,0.0174\n")
    found = facts(folder)
    assert (found["particles"], found["volume_ml"]) == (6, None)
    assert "the list has 6 particles, run1_summary.csv counts 24" in found["withheld"]
    summarised(folder, "Count,6\nSample Volume Imaged ml,0.0174\n")
    assert (facts(folder)["withheld"], facts(folder)["volume_ml"]) == (None, 0.0174)


@pytest.mark.parametrize("comma", [",", ".", "'"])
def test_counts_may_be_printed_with_separators_of_thousands(folder, comma) -> None:
    text = f'"Count","1{comma}677"\nParticles / ml;"96{comma}379"\nSample Volume Imaged ml,0.0174\n'
    summarised(folder, text)
    (folder / "run1.cla").unlink()
    found = read_summary(folder / "run1_summary.csv")
    assert [one.value for one in (*found["count"], *found["per_ml"])] == [1677, 96379]
    assert found["volume_imaged_ml"][0].value == 0.0174
    assert "run1_summary.csv counts 1,677" in facts(folder)["withheld"]


def test_missing_numbers_show_that_a_list_was_cut(folder) -> None:
    cut_list(folder, keep=[2, 4, 6])
    assert "its ids reach 6" in facts(folder)["withheld"]


def export(folder: Path, change_ids: Callable[[int], int] = int) -> None:
    lines = (folder / "run1.lst").read_text().splitlines()[2 + len(FIELDS) :]
    rows = [line.split("|") for line in lines]
    names = [field.split("|")[0] for field in FIELDS]
    wanted = {"id": "Particle ID", "image_x": "Image X", "collage_file": "Image File"}
    text = [",".join(wanted.values())]
    for row in rows:
        values = dict(zip(names, row, strict=True))
        values["id"] = str(change_ids(int(values["id"])))
        text.append(",".join(values[name] for name in wanted))
    (folder / "run1.csv").write_text("\n".join(text) + "\n")


def test_an_export_that_contradicts_its_list_is_refused(folder) -> None:
    export(folder)
    assert facts(folder)["withheld"] is None
    edit(folder / "run1.csv", "run1_", "C:\\runs\\RUN1_")
    assert facts(folder)["withheld"] is None
    export(folder, lambda number: 1 + number % 6)
    with pytest.raises(DataError, match=r"run1.lst and .*run1.csv disagree on particle \d"):
        plan("flowcam", folder)


def test_an_export_of_more_particles_shows_that_the_list_was_cut(folder) -> None:
    export(folder)
    cut_list(folder, keep=[1, 2, 3])
    classify(folder, mine={"oil": [1]})
    assert "its export as .csv lists 6" in facts(folder)["withheld"]


def test_the_finer_of_two_volumes_is_taken_and_the_other_completes_it(folder) -> None:
    aspirated = "\tSample Volume Aspirated: 0.0829 ml\n"
    summarised(folder, f"{aspirated}\tFluid Volume Imaged: 0.0174 ml\n", "_run_summary.txt")
    assert facts(folder)["volume_ml"] == 0.0174
    summarised(folder, "Sample Volume Imaged ml,0.01737\n")
    found = facts(folder)
    assert (found["volume_ml"], found["volume_imaged_ml"]) == (0.01737, 0.01737)
    assert found["volume_aspirated_ml"] == 0.0829


def test_volumes_that_disagree_are_both_named_and_neither_is_used(folder) -> None:
    summarised(folder, "Sample Volume Imaged ml,2.8961\n")
    summarised(folder, "\tFluid Volume Imaged: 289.6065 ml\n", "_run_summary.txt")
    found = facts(folder)
    assert found["volume_ml"] is None
    assert "volume_imaged_ml" not in found
    assert {"2.8961", "289.6065"} <= set(found["withheld"].split())
    text = "\n".join(summary_of(folder).lines())
    assert "run1: no concentration is given: run1_summary.csv says 2.8961 mL" in text


@pytest.mark.parametrize(
    ("line", "ml"),
    [
        ("Fluid Volume Imaged: 1.74e-02 ml", 0.0174),
        ("\tFluid Volume Imaged: 17.4 ul", 0.0174),
        ("Fluid Volume Imaged: 17,4 \u00b5l", 0.0174),
        ("Sample Volume Imaged ml,1.74e-02", 0.0174),
        ("Sample Volume Imaged ml;0,0174", 0.0174),
        ('"Sample Volume Imaged ml","0.0174"', 0.0174),
        ("Sample Volume Imaged (ml)\t0.0174", 0.0174),
        ("Fluid Volume Imaged,0.0174 mL", 0.0174),
        ("Fluid Volume Imaged: n/a", None),
    ],
)
def test_volumes_are_read_with_their_unit(tmp_path, line, ml) -> None:
    (tmp_path / "s.csv").write_text(f"Count,1000\n{line}\nPPI,1.88\n")
    found, _ = agreed(read_summary(tmp_path / "s.csv").get("volume_imaged_ml", []), "mL")
    assert (found and found.value) == (None if ml is None else pytest.approx(ml))
    assert found is None or found.step == pytest.approx(1e-4)


@pytest.mark.parametrize("value", ["1,234.5 ml", "0.0174 gal", "0.0174 ml 3", "about 2"])
def test_volumes_that_are_not_understood_are_refused(tmp_path, value) -> None:
    (tmp_path / "s.txt").write_text(f"Fluid Volume Imaged: {value}\n")
    with pytest.raises(DataError, match="not understood as a volume"):
        read_summary(tmp_path / "s.txt")


# Dilution


def test_a_dilution_that_the_printed_concentration_includes_is_applied(folder) -> None:
    dilute(folder, 10, per_ml=10 * 6 / 0.0174)
    found = facts(folder)
    assert (found["dilution"], found["withheld"]) == (10, None)
    assert 6 / found["volume_ml"] == pytest.approx(10 * 6 / 0.0174)
    summary = summary_of(folder)
    assert summary.groups["per mL"].tolist() == pytest.approx([10 * 6 / 0.0174])
    assert "run1: concentrations include a dilution of 10." in summary.lines()


@pytest.mark.parametrize("per_ml", [None, 6 / 0.0174])
def test_a_dilution_that_no_printed_number_shows_withholds(folder, per_ml) -> None:
    dilute(folder, 10, per_ml)
    found = facts(folder)
    assert (found["dilution"], found["volume_ml"]) == (10, None)
    assert "10" in found["withheld"]
    assert "data.dilution" in found["withheld"]
    for stated in (1.0, 10.0):
        found = facts(folder, dilution=stated)
        assert (found["dilution"], found["withheld"]) == (stated, None)
        assert 6 / found["volume_ml"] == pytest.approx(stated * 6 / 0.0174)


def test_a_dilution_that_is_switched_off_does_not_count(folder) -> None:
    dilute(folder, 10, 6 / 0.0174)
    edit(folder / "run1.ctx", "UseDilutionCalculation=1", "UseDilutionCalculation=0")
    assert (facts(folder)["dilution"], facts(folder)["volume_ml"]) == (1, 0.0174)


def test_a_printed_concentration_of_another_volume_withholds(folder) -> None:
    summarised(folder, "Count,6\nParticles / ml,1000\nSample Volume Imaged ml,0.0174\n")
    assert "says 1,000 particles/mL, and 6 in 0.0174 mL are 345" in facts(folder)["withheld"]


# Calibration and size


def test_a_contradicted_calibration_is_refused_unless_the_user_states_it(folder) -> None:
    before = plan("flowcam", folder).particles
    with (folder / "run1.ctx").open("a") as file:
        file.write("CalibrationConstant=1.1\n")
    with pytest.raises(DataError, match=r"run1.ctx says 1.1 µm/px, and run1.lst 0.55 µm/px"):
        plan("flowcam", folder)
    kept = plan("flowcam", folder, pixel_size_um=CAL)
    assert kept.particles["ecd_um"].equals(before["ecd_um"])
    doubled = plan("flowcam", folder, pixel_size_um=1.1)
    assert doubled.particles["ecd_um"].tolist() == pytest.approx((2 * before["ecd_um"]).tolist())
    assert doubled.particles["abd_diameter_vendor_um"].equals(before["abd_diameter_vendor_um"])
    assert (doubled.particles["pixel_size_um"] == 1.1).all()
    assert "scaled" in doubled.made_by["size_definition"]


def test_the_calibration_of_the_summary_counts_too(folder) -> None:
    summarised(folder, "\tCalibration Factor: 0.27\n", "_run_summary.txt")
    with pytest.raises(DataError, match=r"run1_run_summary.txt says 0.27 µm/px"):
        plan("flowcam", folder)


def test_the_context_gives_the_calibration_that_a_table_lacks(tmp_path) -> None:
    fields = [f for f in FIELDS if not f.startswith(("cal_const", "fringe"))]
    write_flowcam(tmp_path, "run1", fields=fields)
    with pytest.raises(DataError, match=r"has no calibration, and no \.ctx"):
        plan("flowcam", tmp_path)
    assert (plan("flowcam", tmp_path, pixel_size_um=0.6).particles["pixel_size_um"] == 0.6).all()
    with (tmp_path / "run1.ctx").open("a") as file:
        file.write(f"CalibrationConstant={CAL}\n")
    found = plan("flowcam", tmp_path).particles
    assert (found["pixel_size_um"] == CAL).all()
    assert (found["fringe_size_px"] == 4.5).all()


@pytest.mark.parametrize("size", ["abd", "esd"])
def test_size_names_the_diameter_that_sizes_are(folder, size) -> None:
    found = plan("flowcam", folder, size=size)
    assert found.particles["ecd_um"].equals(found.particles[f"{size}_diameter_vendor_um"])
    assert found.made_by["size_definition"] == f"{size.upper()} diameter (vendor)"
    assert (
        f"Sizes (ecd_um): {size.upper()} diameter (vendor)."
        in summary_of(folder, size=size).lines()
    )


def test_a_size_that_the_list_lacks_is_refused_with_the_other(tmp_path) -> None:
    write_flowcam(tmp_path, "run1", fields=[f for f in FIELDS if not f.startswith("esd")])
    with pytest.raises(DataError, match=r"run1.lst has no Diameter \(ESD\).*data.size=abd"):
        plan("flowcam", tmp_path, size="esd")


# Blanks


def test_a_run_without_particles_is_a_result(folder) -> None:
    write_blank(folder / "blank")
    found = plan("flowcam", folder)
    assert len(found.particles) == 6
    blank = found.made_by["runs"]["water"]
    assert (blank["particles"], blank["volume_ml"], blank["withheld"]) == (0, 0.0174, None)
    groups = summary_of(folder).groups
    assert groups["images"].to_dict() == {"run1": 6, "water": 0}
    assert groups["per mL"].to_dict() == pytest.approx({"run1": 6 / 0.0174, "water": 0})


def test_water_alone_is_a_store_without_images(tmp_path) -> None:
    write_blank(tmp_path / "in")
    store = imported("flowcam", tmp_path / "in", labelled=False)
    assert (len(store), store.image_size) == (0, 16)
    assert store.manifest.made_by["runs"]["water"]["volume_ml"] == 0.0174
    summary = summarise(store)
    assert summary.lines()[0].startswith("0 images of 16 × 16 px")
    assert summary.groups["per mL"].to_dict() == {"water": 0}


def test_one_run_may_have_several_calibrations(tmp_path) -> None:
    """The 10X and the 20X optics of one day; a run of both has none of its own."""
    write_flowcam(tmp_path / "in" / "a", "run1")
    write_flowcam(tmp_path / "in" / "b", "run2")
    lst = tmp_path / "in" / "b" / "run2.lst"
    lst.write_text(lst.read_text().replace(f"|{CAL}|", "|0.27|", 3))
    store = imported("flowcam", tmp_path / "in", labelled=False)
    sizes = {run: of["pixel_size_um"] for run, of in store.manifest.made_by["runs"].items()}
    assert sizes == {"run1": CAL, "run2": None}
