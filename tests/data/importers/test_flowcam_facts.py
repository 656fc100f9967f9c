"""What the files of a FlowCam run say: labels, volumes, counts, dilution."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svp_lightning.data.importers.flowcam_facts import agreed, read_summary
from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.data.importers.writer import Plan
from svp_lightning.errors import DataError
from tests.data.importers.made_runs import (
    FIELDS,
    dilute,
    edit,
    export_csv,
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
    return IngestSummary(imported("flowcam", folder, **options))


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

SEVERAL = {
    "auto": {"oil": [1, 2], "junk": [3]},
    "expert": {"protein": [2], "Junk": [3], "Air Bubble": [6]},
}
OF_EXPERT = [None, "protein", "junk", None, None, "air_bubble"]


@pytest.mark.parametrize(
    ("choice", "found", "notes"),
    [
        (
            None,
            ["oil", None, "junk", None, None, "air_bubble"],
            ["'auto' (labels: 3), 'expert' (labels: 3)", "1 particles have different labels"],
        ),
        *((choice, OF_EXPERT, ["'expert' is used"]) for choice in ("expert", 2, "2")),
    ],
)
def test_all_classifications_are_used_or_the_one_chosen(folder, choice, found, notes) -> None:
    classify(folder, **SEVERAL)
    made = plan("flowcam", folder, classification=choice)
    assert labels(made) == found
    for note, expected in zip(notes_of(made), notes, strict=True):
        assert expected in note


@pytest.mark.parametrize("choice", ["other", 0, 3])
def test_a_classification_that_is_not_there_is_refused_with_those_that_are(folder, choice) -> None:
    classify(folder, **SEVERAL)
    with pytest.raises(DataError, match=r"has no classification .*'auto' \(labels: 3\), 'expert'"):
        plan("flowcam", folder, classification=choice)


def test_within_one_classification_a_particle_has_one_label(folder) -> None:
    classify(folder, mine={"oil": [1, 2], "protein": [2, 3]})
    with pytest.raises(DataError, match="particle 2 is in oil and protein"):
        plan("flowcam", folder)
    found = plan("flowcam", folder, unreadable="skip")
    assert labels(found) == ["oil", None, "protein", None, None, None]
    assert found.skipped["file"].tolist() == ["run1/000002"]
    assert not found.skipped["particle_lost"].any()


@pytest.mark.parametrize(
    ("keep", "ids", "summary", "message"),
    [
        ([2, 4, 6], [4], "", r"classifies particle 4.*has particles up to 3"),
        ([4, 5, 6], [1], "Count,6\n", r"list has 3, run1_summary.csv counts 6.*renumbered"),
        ([4, 5, 6], [0], "", r"classifies particle 0.*begins at 1"),
    ],
)
def test_labels_of_a_list_that_was_renumbered_are_refused(
    folder, keep, ids, summary, message
) -> None:
    classify(folder, mine={"oil": ids, "protein": [2]})
    cut_list(folder, keep, renumber=True)
    summarised(folder, summary or "PPI,1\n")
    with pytest.raises(DataError, match=message):
        plan("flowcam", folder)
    assert labels(plan("flowcam", folder, unreadable="skip")) == [None] * 3


def test_labels_fit_a_list_whose_numbers_were_kept(folder) -> None:
    cut_list(folder, keep=[2, 4, 6])
    summarised(folder, "Count,6\n")
    found = plan("flowcam", folder)
    assert labels(found) == ["protein", "oil_drop", None]
    assert any("2 particles that are not imported" in note for note in notes_of(found))


# Counts and volumes


@pytest.mark.parametrize(
    ("count", "number"),
    [
        ("Count,24", 24),
        ("Particle Count: 24", 24),
        ('"Count";"24"', 24),
        *((f'"Count","1{mark}677"', 1677) for mark in ",.'"),
    ],
)
def test_a_list_with_other_counts_than_its_summary_has_no_concentration(
    folder, count, number
) -> None:
    (folder / "run1.cla").unlink()
    summarised(folder, f"{count}\nSphere Count,0.00,0.00\nSample Volume Imaged ml,0.0174\n")
    found = facts(folder)
    assert (found["particles"], found["volume_ml"]) == (6, None)
    said = f"the list has 6 particles, run1_summary.csv counts {number:,}"
    assert said in found["withheld"]
    summarised(folder, "Count,6\nSample Volume Imaged ml,0.0174\n")
    assert (facts(folder)["withheld"], facts(folder)["volume_ml"]) == (None, 0.0174)


def export(folder: Path, ids: Callable[[int], int] = int) -> None:
    names = {"particle_id": "Particle ID", "x": "Image X", "collage_file": "Image File"}
    table = export_csv(folder / "run1.lst", folder / "run1.csv", names=names)
    table["Particle ID"] = table["Particle ID"].map(ids)
    table.to_csv(folder / "run1.csv", index=False)


def test_what_shows_that_a_list_was_cut_withholds_the_concentration(folder) -> None:
    export(folder)
    assert facts(folder)["withheld"] is None
    cut_list(folder, keep=[1, 2, 3, 6])
    assert "its export as .csv lists 6" in facts(folder)["withheld"]
    (folder / "run1.csv").unlink()
    assert "its ids reach 6" in facts(folder)["withheld"]


def test_an_export_that_contradicts_its_list_is_refused(folder) -> None:
    export(folder)
    edit(folder / "run1.csv", "run1_", "C:\\runs\\RUN1_")
    assert facts(folder)["withheld"] is None
    export(folder, lambda number: 1 + number % 6)
    with pytest.raises(DataError, match=r"run1.lst and .*run1.csv disagree on particle \d"):
        plan("flowcam", folder)


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
    assert "run1: no concentration is given" in "\n".join(summary_of(folder).lines())


@pytest.mark.parametrize(
    ("line", "ml"),
    [
        ("Fluid Volume Imaged: 1.74e-02 ml", 0.0174),
        ("\tFluid Volume Imaged: 17.4 ul", 0.0174),
        ("Fluid Volume Imaged: 17,4 \u00b5l", 0.0174),
        ("Sample Volume Imaged ml,1.74e-02", 0.0174),
        ("Sample Volume Imaged ml;0,0174", 0.0174),
        ('"Sample Volume Imaged ml","0.0174"', 0.0174),
        ("Sample Volume Imaged (ml) \t  0.0174", 0.0174),
        ("Fluid Volume Imaged,0.0174 mL", 0.0174),
        ("Fluid Volume Imaged: n/a", None),
    ],
)
def test_volumes_are_read_with_their_unit(tmp_path, line, ml) -> None:
    (tmp_path / "s.csv").write_text(f"Count,1000\n{line}\nParticles / ml;96.379\n")
    summary = read_summary(tmp_path / "s.csv")
    found, _ = agreed(summary.get("volume_imaged_ml", []), "mL")
    assert (found and found.value) == (None if ml is None else pytest.approx(ml))
    assert found is None or found.step == pytest.approx(1e-4)
    assert [one.value for one in (*summary["count"], *summary["per_ml"])] == [1000, 96379]


MANY = 100_000
"""A pattern whose steps grow with the square of the length takes minutes, one of more hours."""


@pytest.mark.parametrize(
    "value",
    [
        "1,234.5 ml",
        "0.0174 gal",
        "0.0174 ml 3",
        "about 2",
        " " * MANY + "x 1",
        "1" + " ," * MANY + "x",
    ],
)
def test_volumes_that_are_not_understood_are_refused(tmp_path, value) -> None:
    (tmp_path / "s.txt").write_text(f"Fluid Volume Imaged: {value}\n")
    with pytest.raises(DataError, match="not understood as a volume"):
        read_summary(tmp_path / "s.txt")


def test_a_line_of_many_tabs_says_nothing(tmp_path) -> None:
    (tmp_path / "s.txt").write_text("Count:1,234" + "\t" * MANY + "x\n")
    assert read_summary(tmp_path / "s.txt") == {}


# Dilution


def test_a_dilution_that_the_printed_concentration_includes_is_applied(folder) -> None:
    dilute(folder, 10, per_ml=10 * 6 / 0.0174)
    found = facts(folder)
    assert (found["dilution"], found["withheld"]) == (10, None)
    assert 6 / found["volume_ml"] == pytest.approx(10 * 6 / 0.0174)
    summary = summary_of(folder)
    assert summary.groups["per mL"].tolist() == pytest.approx([10 * 6 / 0.0174])
    assert "run1: concentrations include a dilution of 10." in summary.lines()
    edit(folder / "run1.ctx", "UseDilutionCalculation=1", "UseDilutionCalculation=0")
    dilute_off = facts(folder)
    assert (dilute_off["dilution"], dilute_off["volume_ml"]) == (1, None)
    assert "says 3,448 particles/mL, and 6 in 0.0174 mL are 345" in dilute_off["withheld"]


@pytest.mark.parametrize("per_ml", [None, 6 / 0.0174])
def test_a_dilution_that_no_printed_number_shows_withholds(folder, per_ml) -> None:
    dilute(folder, 10, per_ml)
    found = facts(folder)
    assert (found["dilution"], found["volume_ml"]) == (10, None)
    assert "data.dilution" in found["withheld"]
    for stated in (1.0, 10.0):
        found = facts(folder, dilution=stated)
        assert (found["dilution"], found["withheld"]) == (stated, None)
        assert 6 / found["volume_ml"] == pytest.approx(stated * 6 / 0.0174)


# Blanks


def test_a_run_without_particles_is_a_result(folder) -> None:
    write_blank(folder / "blank")
    store = imported("flowcam", folder)
    assert len(store) == 6
    blank = store.manifest.made_by["runs"]["water"]
    assert (blank["particles"], blank["volume_ml"], blank["withheld"]) == (0, 0.0174, None)
    groups = IngestSummary(store).groups
    assert groups["images"].to_dict() == {"run1": 6, "water": 0}
    assert groups["per mL"].to_dict() == pytest.approx({"run1": 6 / 0.0174, "water": 0})


def test_water_alone_is_a_store_without_images(tmp_path) -> None:
    write_blank(tmp_path / "in")
    store = imported("flowcam", tmp_path / "in", labelled=False)
    assert (len(store), store.image_size) == (0, 16)
    summary = IngestSummary(store)
    assert summary.lines()[0].startswith("0 images of 16 × 16 px")
    assert summary.groups["per mL"].to_dict() == {"water": 0}
