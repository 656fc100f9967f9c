"""Counts of MFI runs whose particles are larger than the classifier's images."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.conftest import Program
from tests.data.importers.made_runs import write_discs

VOLUMES = {"vial1": 0.5, "vial2": 0.02}


@pytest.mark.parametrize("fit", ["cut", "shrink"])
def test_particles_larger_than_the_window_are_counted_at_their_size(
    svp: Program, tmp_path: Path, fit: str
) -> None:
    svp("augmentation=none")
    run = svp.run
    sizes = {}
    for seed, name in enumerate(VOLUMES):
        folder = tmp_path / "runs" / name
        write_discs(folder, seed, n=24)
        (folder / "table.csv").rename(folder / f"{name}.csv")
        table = (folder / f"{name}.csv").read_text()
        (folder / f"{name}.csv").write_text(table[:-2] + "1\n")  # the last one is cut by the frame
        sizes[name] = pd.read_csv(folder / f"{name}.csv", skipinitialspace=True)["ECD(um)"]
    svp.said()
    svp(
        "task=predict",
        f"predict.run={run}",
        "data=mfi",
        f"data.root={tmp_path / 'runs'}",
        f"data.fit={fit}",
        "data.volume_ml={vial1: 0.5, vial2: 0.02}",
        "predict.blank=vial1",
        "predict.container_ml=5",
        "study=new",
    )
    said = svp.said()
    large = sum(int((size >= 10).sum()) for size in sizes.values())
    done = "the window of 16 px cuts" if fit == "cut" else "Scaled down to fit the window"
    assert done in said
    assert f"of the {large} particles ≥ 10 µm" in said
    assert "The volume imaged is stated (data.volume_ml): vial1 0.5 mL, vial2 0.02 mL." in said
    (file,) = tmp_path.glob("outputs/new/*/counts.csv")
    counts = pd.read_csv(file)
    counts = counts[counts["class"] == "all"].set_index(["run", "min_size_um"])
    for least in (2, 5, 10, 25):
        found = {name: int((size >= least).sum()) for name, size in sizes.items()}
        assert 0 < found["vial1"] <= 24
        for name, count in found.items():
            row = counts.loc[(name, least)]
            assert (row["count"], row["per_ml"]) == pytest.approx((count, count / VOLUMES[name]))
        whole = counts.loc[("all runs", least)]
        # Without the blank.
        assert whole[["count", "per_ml"]].tolist() == pytest.approx(
            counts.loc[("vial2", least), ["count", "per_ml"]].tolist()
        )
    particles = pd.read_csv(file.with_name("predictions.csv"))
    assert particles["size_um"].max() == pytest.approx(max(size.max() for size in sizes.values()))
    assert particles["size_um"].max() > 25
    report = pd.read_csv(file.with_name("quality_report.csv"))
    whole = report[report["class"] == "all"].set_index(["quantity", "sample", "min_size_um"])
    row = whole.loc[("single", "vial2", 5)]
    assert row["called"] == counts.loc[("vial2", 5), "count"]
    assert row["per_container"] == pytest.approx(5 * counts.loc[("vial2", 5), "per_ml"], rel=1e-4)
    less = counts.loc[("vial2", 5), "per_ml"] - counts.loc[("vial1", 5), "per_ml"]
    assert whole.loc[("less blank", "vial2", 5), "per_ml"] == pytest.approx(less, rel=1e-4)
    page = file.with_name("quality_report.html").read_text()
    cut = "the edge of the frame cuts 2 of 48 particles"
    assert cut[1:] in page
    assert f"Warning: {cut}" in said
    assert "What the correction knows" in page  # from the run's test predictions
    assert "USP &lt;787&gt;/&lt;788&gt;" in page
    if fit == "shrink":
        return
    again = (
        "task=predict",
        f"predict.run={run}",
        "data=mfi",
        f"data.root={tmp_path / 'runs' / 'vial2'}",
        "data.volume_ml=0.04",
    )
    torch.set_num_threads(3)  # as many as PyTorch finds cores, where nothing limits them
    try:
        svp(*again, f"predict.compare={file.parent}", "study=later")
    finally:
        torch.set_num_threads(1)
    assert "images/s (CPU, 3 threads)" in svp.said()
    (later,) = tmp_path.glob("outputs/later/*/quality_report.csv")
    report = pd.read_csv(later)
    found = report[report["class"] == "all"].set_index(["quantity", "sample", "min_size_um"])
    first, named = counts.loc[("vial2", 5), "per_ml"], f"{file.parent.name}: vial2"
    assert report["verdict"].isna().all()  # this prediction has no blank
    row = found.loc[("difference", "vial2", 5)]
    assert row["other"] == named  # its blank, vial1, is no run to compare with
    assert row["per_ml"] == pytest.approx(first / 2 - less, rel=1e-4)
    assert found.loc[("single", named, 5), "per_ml"] == pytest.approx(first, rel=1e-4)
    assert found.loc["less blank"].index.get_level_values("sample").unique().tolist() == [named]
    assert found.loc[("less blank", named, 5), "per_ml"] == pytest.approx(less, rel=1e-4)
    table = file.read_text()
    file.write_text(table.replace("ECD (vendor)", "ABD diameter (vendor)"))
    said = svp.fails(*again, f"predict.compare={file.parent}", "study=none")
    assert "counts particles by ABD diameter (vendor), these are counted by ECD (vendor)" in said
    assert "is no prediction" in svp.fails(*again, f"predict.compare={tmp_path}", "study=none")
