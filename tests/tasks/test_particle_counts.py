"""What is written of a run's predictions, and what is said of particles that are missing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from svp_lightning.data.importers.flowcam import ingest_flowcam
from svp_lightning.data.importers.folder import ingest_folder
from svp_lightning.data.settings import FlowCamSettings, FolderSettings
from svp_lightning.data.store import Store
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.tasks.particle_counts import report_counts
from tests.data.test_flowcam import write_run

NAMES = ("protein", "silicone_oil")


def store_of(root: Path, unreadable: str = "refuse") -> Store:
    settings = FlowCamSettings.model_validate(
        {"root": root, "labelled": False, "unreadable": unreadable}
    )
    ingest_flowcam(root.parent / "store", settings, lambda n: None)
    return Store.open(root.parent / "store")


def predicted(store: Store) -> Predictions:
    """Protein and oil in turn, the first of all uncertain."""
    first = np.where(np.arange(len(store)) % 2 == 0, 0.9, 0.1)
    first[0] = 0.5
    ids = store.particles["id"].to_numpy(dtype=object)
    unknown = np.full(len(store), -1)
    return Predictions(ids, unknown, np.stack([first, 1 - first], axis=1), NAMES)


def test_counts_of_each_run_add_up_and_have_concentrations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in ("run1", "run2"):
        write_run(tmp_path / "runs", run)
    store = store_of(tmp_path / "runs")
    report_counts(predicted(store), store, 0.6, tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    counts = pd.read_csv(tmp_path / "counts.csv").set_index("class")["count"]
    by_run = pd.read_csv(tmp_path / "counts_by_run.csv")
    everything = by_run[by_run["min_ecd_um"] == 0]
    for name, total in everything.groupby("class")["count"].sum().items():
        assert total == (12 if name == "all" else counts[name])
    row = everything.set_index(["run", "class"]).loc[("run1", "all")]
    assert (row["count"], row["ml_imaged"]) == (6, 0.0174)
    assert row["per_ml"] == pytest.approx(6 / 0.0174, rel=1e-5)
    large = (store.particles["ecd_um"] >= 2).sum()
    assert by_run.query("min_ecd_um == 2 and `class` == 'all'")["count"].sum() == large > 0
    assert f"{counts['protein'] / (2 * 0.0174):.0f}" in out.replace(",", "")
    assert "All 2 runs together" in out
    readable = pd.read_csv(tmp_path / "predictions.csv")
    assert readable["run"].value_counts().to_dict() == {"run1": 6, "run2": 6}
    assert readable["ecd_um"].tolist() == pytest.approx(
        store.particles["ecd_um"].tolist(), rel=1e-5
    )
    assert not (tmp_path / "skipped.csv").exists()


def test_particles_left_out_are_told_and_no_concentration_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "runs", "run1")
    page = tmp_path / "runs" / "run1_000002.tif"
    page.write_bytes(page.read_bytes()[:300])
    store = store_of(tmp_path / "runs", "skip")
    report_counts(predicted(store), store, 0.6, tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    assert "Left out: 3" in out
    assert "Warning: the counts lack" in out
    assert "per mL" not in out
    assert "per_ml" not in pd.read_csv(tmp_path / "counts_by_run.csv")
    assert len(pd.read_csv(tmp_path / "skipped.csv")) >= 3


@pytest.mark.parametrize("litter", ["Thumbs.db", "notes.txt", "run1.cla", "run1_000002_bin.tif"])
def test_what_is_no_particle_leaves_the_concentration(tmp_path: Path, litter: str) -> None:
    write_run(tmp_path / "runs", "run1")
    (tmp_path / "runs" / litter).write_bytes(b"not what it should be")
    store = store_of(tmp_path / "runs", "skip")
    report_counts(predicted(store), store, 0.6, tmp_path)
    by_run = pd.read_csv(tmp_path / "counts_by_run.csv")
    row = by_run[by_run["min_ecd_um"] == 0].set_index("class").loc["all"]
    assert (row["count"], row["per_ml"]) == (6, pytest.approx(6 / 0.0174, rel=1e-5))


def test_images_without_runs_are_counted_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for n in range(5):
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(
            tmp_path / "images" / f"{n}.png"
        )
    settings = FolderSettings(root=tmp_path / "images", labelled=False)
    ingest_folder(tmp_path / "store", settings, lambda n: None)
    store = Store.open(tmp_path / "store")
    report_counts(predicted(store), store, 0.6, tmp_path)
    by_run = pd.read_csv(tmp_path / "counts_by_run.csv")
    assert by_run["run"].unique().tolist() == ["all"]
    assert by_run["min_ecd_um"].unique().tolist() == [0]
    assert by_run.set_index("class")["count"].to_dict() == {
        "protein": 2, "silicone_oil": 2, "uncertain": 1, "all": 5,
    }  # fmt: skip
    assert "run" not in pd.read_csv(tmp_path / "predictions.csv")
