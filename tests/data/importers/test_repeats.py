"""A run that is there twice, as a copy or as a second table, comes in once."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from svp_lightning.data.importers.repeats import without_repeats
from svp_lightning.data.importers.runs import run_names
from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.writer import Plan
from svp_lightning.errors import DataError
from tests.data.importers.made_runs import (
    draw_collage,
    export_csv,
    imported,
    plan,
    save,
    skipped,
    write_flowcam,
    write_mfi,
)


def unlabelled(source: str, root: Path, **options: object) -> Plan:
    return plan(source, root, labelled=False, **options)


def write_collage(folder: Path, run: str) -> None:
    save(draw_collage(sum(map(ord, run)), tiles=6)[0], folder / f"{run}_000001.png")


@pytest.mark.parametrize(
    ("write", "source", "file"),
    [
        (write_flowcam, "flowcam", "r1.lst"),
        (write_mfi, "mfi", "r1.csv"),
        (write_collage, "collage", "r1_000001.png"),
    ],
)
def test_a_copied_run_is_refused_or_left_out(tmp_path, write, source, file) -> None:
    for run in ("r1", "r2"):
        write(tmp_path / run, run)
    assert skipped(unlabelled(source, tmp_path)) == []
    for place in ("r3", "s/old"):
        shutil.copytree(tmp_path / "r1", tmp_path / place)
    with pytest.raises(DataError, match=rf"r3/{file} is a copy of .*/r1/{file} \(6 of its 6") as e:
        unlabelled(source, tmp_path)
    assert "data.unreadable=skip" in e.value.remedy
    found = unlabelled(source, tmp_path, unreadable="skip")
    assert len(found.particles) == 12
    assert [name for name, _ in skipped(found)] == [f"r3/{file}", f"s/old/{file}"]
    assert {reason for _, reason in skipped(found)} == {"copy of another run"}


def test_a_copy_is_known_though_its_table_is_another(tmp_path) -> None:
    """Renamed, and less of it, in another format."""
    write_flowcam(tmp_path / "r1", "r1")
    shutil.copytree(tmp_path / "r1", tmp_path / "r2")
    export_csv(tmp_path / "r2" / "r1.lst", tmp_path / "r2" / "mine.csv", [2, 4, 6])
    (tmp_path / "r2" / "r1.lst").unlink()
    with pytest.raises(DataError, match=r"r2/mine\.csv is a copy of .*r1/r1\.lst \(3 of its 3"):
        unlabelled("flowcam", tmp_path)


def test_a_collage_saved_in_another_format_is_a_copy(tmp_path) -> None:
    save(draw_collage(0)[0], tmp_path / "a.png")
    save(draw_collage(1)[0], tmp_path / "b.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "c.tif")
    with pytest.raises(DataError, match=r"c\.tif is a copy of .*a\.png"):
        unlabelled("collage", tmp_path)


def as_table(picture: Path, boxes: int) -> pd.DataFrame:
    table = pd.DataFrame({"x": range(boxes), "y": 0, "w": 5, "h": 5})
    return table.assign(picture=str(picture), group=picture.name[0])


def test_a_picture_that_is_equal_by_chance_makes_no_copy(tmp_path) -> None:
    for name in ("a1", "a2", "b1"):
        (tmp_path / name).write_bytes(b"blank")
    (tmp_path / "b2").write_bytes(b"other")
    first = pd.concat([as_table(tmp_path / "a1", 1), as_table(tmp_path / "a2", 3)])
    second = pd.concat([as_table(tmp_path / "b1", 1), as_table(tmp_path / "b2", 3)])
    tables = {tmp_path / "a.csv": first, tmp_path / "b.csv": second}
    assert without_repeats(tables, tmp_path, 1, Skips()) == tables
    second["picture"] = str(tmp_path / "b1")
    with pytest.raises(DataError, match=r"b\.csv is a copy of .*a\.csv \(3 of its 3"):
        without_repeats(tables, tmp_path, 1, Skips())


@pytest.mark.parametrize(("name", "with_list"), [("a_filtered.csv", True), ("z.csv", False)])
def test_an_export_next_to_its_run_doubles_nothing(tmp_path, name, with_list) -> None:
    root = tmp_path / "runs"
    write_flowcam(root, "run1")
    export_csv(root / "run1.lst", root / name, [2, 3])
    if not with_list:
        export_csv(root / "run1.lst", root / "run1.csv", [1, 2, 3, 4, 5, 6])
        (root / "run1.lst").unlink()
    store = imported("flowcam", root, labelled=False)
    assert store.particles["id"].tolist() == [f"run1/{n:06d}" for n in range(1, 7)]
    found = IngestSummary(store)
    assert found.skipped == {"table of particles that another table lists": 1}
    assert name in (store.path / "skipped.csv").read_text()
    assert found.groups["per mL"].tolist() == pytest.approx([6 / 0.0174])


def test_tables_that_overlap_are_one_run_and_no_particle_is_lost(tmp_path) -> None:
    root = tmp_path / "runs"
    write_flowcam(root, "run1")
    export_csv(root / "run1.lst", root / "oil.csv", [4, 5, 6])
    export_csv(root / "run1.lst", root / "run1.csv", [1, 2, 3, 4])
    (root / "run1.lst").unlink()
    store = imported("flowcam", root, labelled=False)
    table = store.particles
    assert table["particle_id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert set(table["group"]) == {"run1"}
    assert IngestSummary(store).groups["per mL"].tolist() == pytest.approx([6 / 0.0174])


def test_one_table_per_class_is_one_run(tmp_path) -> None:
    write_mfi(tmp_path / "vial", "vial")
    header, *lines = (tmp_path / "vial" / "vial.csv").read_text().splitlines()
    for name, part in {"oil": lines[:2], "other": lines[2:]}.items():
        (tmp_path / "vial" / f"{name}.csv").write_text("\n".join([header, *part]))
    (tmp_path / "vial" / "vial.csv").unlink()
    found = unlabelled("mfi", tmp_path)
    assert len(found.particles) == 6
    assert set(found.particles["group"]) == {"other"}
    assert skipped(found) == []


def test_a_second_table_of_mfi_frames_doubles_nothing(tmp_path) -> None:
    write_mfi(tmp_path / "vial", "vial")
    lines = (tmp_path / "vial" / "vial.csv").read_text().splitlines()
    (tmp_path / "vial" / "a_selection.csv").write_text("\n".join(lines[:4]))
    found = unlabelled("mfi", tmp_path)
    assert set(found.particles["group"]) == {"vial"}
    assert len(found.particles) == 6
    assert [name for name, _ in skipped(found)] == ["vial/a_selection.csv"]


def test_two_runs_in_one_folder_both_come_in(tmp_path) -> None:
    for source, write in {"flowcam": write_flowcam, "mfi": write_mfi}.items():
        write(tmp_path / source, "run1")
    write_flowcam(tmp_path / "flowcam", "run2")
    write_mfi(tmp_path / "mfi", "run2", frames=(4, 8))
    for source in ("flowcam", "mfi"):
        found = unlabelled(source, tmp_path / source)
        assert found.particles["group"].value_counts().to_dict() == {"run1": 6, "run2": 6}
        assert skipped(found) == []


def test_names_are_as_short_as_they_can_be_and_never_equal() -> None:
    root = Path("runs")
    files = ["a/run.csv", "a/run.txt", "b/run.csv", "b/one.csv", "c/run.csv.txt"]
    assert run_names(root, [root / file for file in files]) == [
        *("a/run.csv", "a/run.txt", "b/run", "one", "run.csv"),
    ]
    top = [root / file for file in ("run.csv", "run.txt", "run.csv.txt")]
    assert run_names(root, top) == ["run.csv", "run.txt", "run.csv.txt"]


def test_runs_whose_names_differ_in_suffix_alone_have_ids_of_their_own(tmp_path) -> None:
    write_mfi(tmp_path, "run")
    (tmp_path / "run.csv").rename(tmp_path / "run.txt")
    for frame in tmp_path.glob("run_frame_*.png"):
        frame.rename(tmp_path / f"x{frame.name}")
    write_mfi(tmp_path, "run", frames=(4, 8))
    found = unlabelled("mfi", tmp_path)
    assert found.particles["id"].is_unique
    assert set(found.particles["group"]) == {"run.csv", "run.txt"}


def test_pages_of_one_run_stay_together_whatever_their_names(tmp_path) -> None:
    """Though page 1 has a namesake, the run is one group."""
    pages = ["x/run_000001.png", "x/run_000002.png", "x/run_000002.tif", "y/run_000001.png"]
    for k, name in enumerate(pages):
        save(draw_collage(k, tiles=6)[0], tmp_path / name)
    table = unlabelled("collage", tmp_path).particles
    assert table["id"].is_unique
    assert table["group"].value_counts().to_dict() == {"x/run": 18, "y/run": 6}
