"""Sizes of FlowCam particles: which diameter, and by which calibration."""

import pytest

from svp_lightning.errors import DataError
from svp_lightning.evaluation.particle_counts import samples_of
from tests.data.importers.made_runs import CAL, FIELDS, imported, plan, write_flowcam


def test_a_contradicted_calibration_is_refused_unless_the_user_states_it(tmp_path) -> None:
    write_flowcam(tmp_path)
    before = plan("flowcam", tmp_path).particles
    (tmp_path / "run1_run_summary.txt").write_text("\tCalibration Factor: 0.27\n")
    with pytest.raises(DataError, match=r"run1_run_summary.txt says 0.27 µm/px"):
        plan("flowcam", tmp_path)
    (tmp_path / "run1_run_summary.txt").unlink()
    with (tmp_path / "run1.ctx").open("a") as file:
        file.write("CalibrationConstant=1.1\n")
    with pytest.raises(DataError, match=r"run1.ctx says 1.1 µm/px, and run1.lst 0.55 µm/px"):
        plan("flowcam", tmp_path)
    kept = plan("flowcam", tmp_path, pixel_size_um=CAL)
    assert kept.particles["ecd_um"].equals(before["ecd_um"])
    doubled = plan("flowcam", tmp_path, pixel_size_um=1.1)
    assert doubled.particles["ecd_um"].tolist() == pytest.approx((2 * before["ecd_um"]).tolist())
    assert doubled.particles["abd_diameter_vendor_um"].equals(before["abd_diameter_vendor_um"])
    assert (doubled.particles["pixel_size_um"] == 1.1).all()
    assert "scaled" in doubled.made_by["size_definition"]


@pytest.mark.parametrize(("given", "ml"), [(CAL, 0.0174), (CAL * 1.004, 0.0174), (1.1, None)])
def test_the_volume_of_another_pixel_size_is_withheld(tmp_path, given, ml) -> None:
    """Twice the pixel is four times the area of a frame."""
    write_flowcam(tmp_path / "runs")
    store = imported("flowcam", tmp_path / "runs", labelled=False, pixel_size_um=given)
    (run,) = samples_of(store)
    assert run.volume_ml == ml
    assert ("at 1.1 µm/px it is 0.0696 mL, which data.volume_ml states" in run.withheld) == (
        ml is None
    )
    (run,) = samples_of(store, 0.0696)
    assert (run.volume_ml, run.withheld) == (0.0696, "")
    (tmp_path / "runs" / "run1_summary.csv").write_text("Calibration Factor,0.6\n")
    found = plan("flowcam", tmp_path / "runs", pixel_size_um=0.6).made_by["runs"]["run1"]
    assert "data.volume_ml=<mL> states it" in found["withheld"]  # of which the files' volume is


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


def test_one_run_may_have_several_calibrations(tmp_path) -> None:
    """The 10X and the 20X optics of one day; a run of both has none of its own."""
    write_flowcam(tmp_path / "a", "run1")
    write_flowcam(tmp_path / "b", "run2")
    lst = tmp_path / "b" / "run2.lst"
    lst.write_text(lst.read_text().replace(f"|{CAL}|", "|0.27|", 3))
    runs = plan("flowcam", tmp_path, labelled=False).made_by["runs"]
    assert {run: of["pixel_size_um"] for run, of in runs.items()} == {"run1": CAL, "run2": None}


@pytest.mark.parametrize("size", ["abd", "esd"])
def test_size_names_the_diameter_that_sizes_are(tmp_path, size) -> None:
    write_flowcam(tmp_path)
    found = plan("flowcam", tmp_path, size=size)
    assert found.particles["ecd_um"].equals(found.particles[f"{size}_diameter_vendor_um"])
    assert found.made_by["size_definition"] == f"{size.upper()} diameter (vendor)"


def test_a_size_that_the_list_lacks_is_refused_with_the_other(tmp_path) -> None:
    write_flowcam(tmp_path, "run1", fields=[f for f in FIELDS if not f.startswith("esd")])
    with pytest.raises(DataError, match=r"run1.lst has no Diameter \(ESD\).*data.size=abd"):
        plan("flowcam", tmp_path, size="esd")
