"""The pixel size of MFI runs is that of their sizes, whatever these are."""

from functools import partial
from pathlib import Path

import pytest

from tests.data.importers.made_runs import OFFSET, SLOPE, plan, write_discs

mfi_plan = partial(plan, "mfi", labelled=False)


def test_the_pixel_size_is_the_slope_of_the_sizes_whatever_the_sizes_are(tmp_path) -> None:
    """The ratio ECD / d of these runs is 0.4 to 1.1 µm/px."""
    for k, radii in enumerate([(3, 5), (4, 9), (8, 20)]):
        write_discs(tmp_path / f"run{k}", k, radii=radii)
    found = mfi_plan(tmp_path)
    assert found.pixel_size_um == pytest.approx(SLOPE, rel=0.005)
    for fact in found.made_by["runs"].values():
        assert fact["pixel_size_um"] == pytest.approx(SLOPE, rel=0.005)
        assert fact["ecd_offset_um"] == pytest.approx(OFFSET, abs=0.05)
        assert fact["pixel_size_from"] == "its sizes"


@pytest.mark.parametrize("ecd", ["0", "7.5"])
def test_a_table_of_one_diameter_for_all_areas_tells_no_pixel_size(tmp_path, ecd) -> None:
    write_discs(tmp_path, 1)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    same = [",".join([*row[:4], ecd, *row[5:]]) for row in rows]
    (tmp_path / "table.csv").write_text("\n".join([lines[0], *same]))
    found = mfi_plan(tmp_path)
    assert found.pixel_size_um is None
    assert found.made_by["runs"]["table"]["pixel_size_from"] == "not known"


def test_a_pixel_size_that_the_sizes_contradict_is_used_and_said(tmp_path) -> None:
    write_discs(tmp_path, 1)
    for given, said in ((1.36, []), (2.0, ["data.pixel_size_um is 2, and its sizes follow 1.35"])):
        found = mfi_plan(tmp_path, pixel_size_um=given)
        (facts,) = found.made_by["runs"].values()
        assert (found.pixel_size_um, facts["pixel_size_um"]) == (given, given)
        assert [note.split(" µm/px")[0] for note in facts["notes"]] == said


def test_another_magnification_is_found(tmp_path) -> None:
    write_discs(tmp_path / "a", 1)
    write_discs(tmp_path / "b", 2, slope=1.6)
    found = mfi_plan(tmp_path)
    assert found.pixel_size_um is None
    sizes = found.particles.groupby("group")["pixel_size_um"].first()
    assert sizes.tolist() == pytest.approx([SLOPE, 1.6], rel=0.005)


def of_one_size(folder: Path) -> None:
    """All areas and diameters of a run become 113 px and 9.5 µm."""
    lines = (folder / "table.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    kept = [",".join([*row[:4], "9.5", "113", *row[6:]]) for row in rows]
    (folder / "table.csv").write_text("\n".join([lines[0], *kept]))


def test_a_run_of_one_size_has_the_pixel_size_of_the_others_or_none(tmp_path) -> None:
    for k in range(2):
        write_discs(tmp_path / f"run{k}", k)
    of_one_size(tmp_path / "run1")
    facts = mfi_plan(tmp_path).made_by["runs"]
    assert facts["run1/table"]["pixel_size_from"] == "that of the other runs"
    assert facts["run1/table"]["pixel_size_um"] == facts["run0/table"]["pixel_size_um"]
    of_one_size(tmp_path / "run0")
    found = mfi_plan(tmp_path)
    assert found.pixel_size_um is None
    assert {f["pixel_size_from"] for f in found.made_by["runs"].values()} == {"not known"}
    assert mfi_plan(tmp_path, pixel_size_um=1.35).pixel_size_um == 1.35
