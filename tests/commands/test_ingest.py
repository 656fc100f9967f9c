"""``task=ingest`` shows a scientist what came in, and what did not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from svp_lightning.errors import DataError
from svp_lightning.stages.input_files import fingerprint
from tests.conftest import Program
from tests.data.importers.class_folders import particle
from tests.data.importers.made_runs import write_flowcam as write_run


@pytest.mark.draws
def test_what_was_found_and_left_out_is_printed(svp: Program, tmp_path: Path) -> None:
    for k in range(4):
        write_run(tmp_path / "runs" / f"day{k}", f"run{k}")
    (tmp_path / "runs" / "day0" / "run0_000002.tif").unlink()
    arguments = ["task=ingest", "data=flowcam", f"data.root={tmp_path / 'runs'}"]
    svp(*arguments, "data.unreadable=skip")
    shown = svp.said()
    assert "21 images of 32 × 32 px, 0.55 µm/px: 8 protein, 7 oil_drop, 6 unlabelled" in shown
    assert "Left out: 3 (its picture cannot be read)" in shown
    for word in ("Protein", "Oil Drop", "Unlabelled", "run3", "2-5 µm", "0.0174"):
        assert word.lower() in shown.lower(), word
    (folder,) = tmp_path.glob("outputs/*/*")
    assert folder.name.startswith("ingest_flowcam_")  # no arm's name: nothing is trained
    assert {f.name for f in folder.glob("contact_sheet_*.png")} == {
        f"contact_sheet_{name}.png" for name in ("protein", "oil_drop", "unlabelled")
    }
    assert len(pd.read_csv(folder / "particles.csv")) == 21
    assert len(pd.read_csv(folder / "skipped.csv")) >= 3


def write_classes(root: Path, seed: int) -> None:
    for k, name in enumerate(("oil", "protein")):
        (root / name).mkdir(parents=True)
        for n in range(8):
            Image.fromarray(particle(seed + 10 * k + n)).save(root / name / f"{n}.png")


def test_linked_class_folders_are_distinguished_by_what_they_hold(svp_pipeline, tmp_path) -> None:
    stores = []
    for seed in (1000, 2000):
        write_classes(tmp_path / f"disk{seed}", seed)
        root = tmp_path / f"set{seed}"
        root.mkdir()
        for name in ("oil", "protein"):
            (root / name).symlink_to(tmp_path / f"disk{seed}" / name)
        assert fingerprint(root) == fingerprint(tmp_path / f"disk{seed}")
        stores.append(svp_pipeline("data=folder", f"data.root={root}").store)
    assert stores[0].path != stores[1].path
    changed = tmp_path / "disk2000" / "oil" / "0.png"
    Image.fromarray(particle(5)).save(changed)
    again = svp_pipeline("data=folder", f"data.root={tmp_path / 'set2000'}").store
    assert again.path != stores[1].path
    assert (np.unique(again.images, axis=0).shape[0], len(again)) == (16, 16)


@pytest.mark.parametrize("name", ["notes.docx", "video.avi", "oil/x.xlsx"])
def test_only_files_that_are_used_are_hashed(svp_pipeline, tmp_path, monkeypatch, name) -> None:
    """Opening anything else may fail for want of permission, or take hours."""
    write_classes(tmp_path / "images", 4000)
    (tmp_path / "images" / name).write_text("not for us")
    real = Path.open

    def guarded(path: Path, *args, **options):
        assert path.name != Path(name).name
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "open", guarded)
    assert len(svp_pipeline("data=folder", f"data.root={tmp_path / 'images'}").store) == 16


def test_an_image_that_cannot_be_opened_is_named(svp_pipeline, tmp_path, monkeypatch) -> None:
    write_classes(tmp_path / "images", 5000)
    real = Path.open

    def guarded(path: Path, *args, **options):
        if path.name == "3.png":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    pipeline = svp_pipeline("data=folder", f"data.root={tmp_path / 'images'}")
    (tmp_path / "images" / "oil" / "3.png").unlink()
    (tmp_path / "images" / "oil" / "3.png").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(Path, "open", guarded)
    with pytest.raises(DataError, match=r"oil/3\.png"):
        _ = pipeline.store


def test_a_folder_without_files_has_no_fingerprint(tmp_path) -> None:
    (tmp_path / "images" / "protein").mkdir(parents=True)
    with pytest.raises(DataError, match=r"data.root=.*images holds no files"):
        fingerprint(tmp_path / "images")


def test_what_the_program_writes_is_no_data(svp_pipeline, tmp_path) -> None:
    """The command is called in the folder of the images, which then holds its results, too."""
    write_classes(tmp_path, 3000)
    options = ("data=folder", "data.root=.", "paths.artifacts=kept", "paths.outputs=results")
    first = svp_pipeline(*options).store
    assert first.path.is_relative_to("kept")
    (tmp_path / "results" / "study").mkdir(parents=True)
    Image.fromarray(particle(1)).save(tmp_path / "results" / "study" / "sheet.png")
    assert svp_pipeline(*options).store.path == first.path
    unlabelled = svp_pipeline(*options, "data.labelled=false").store
    assert len(first) == len(unlabelled) == 16
    (tmp_path / "water").mkdir()
    blank = svp_pipeline(*options, "data.labelled=false").store
    assert blank.path != unlabelled.path
    assert list(blank.manifest.made_by["runs"]) == ["water"]
