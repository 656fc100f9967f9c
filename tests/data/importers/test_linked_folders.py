"""Runs and classes that are links are imported; pictures that are links stay in bounds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from svp_lightning.data.importers.pictures import Pictures
from svp_lightning.errors import DataError
from tests.data.importers.made_runs import draw_collage, plan, save, write_flowcam, write_mfi


def move_and_link(folder: Path) -> Path:
    """Keep ``folder`` elsewhere, as on another disk; a link takes its place."""
    away = folder.parents[1] / "away" / folder.name
    away.parent.mkdir(exist_ok=True)
    folder.rename(away)
    folder.symlink_to(away)
    return away


WRITE: dict[str, Callable[[Path], object]] = {
    "flowcam": lambda folder: write_flowcam(folder, folder.name),
    "mfi": lambda folder: write_mfi(folder, folder.name),
    "collage": lambda folder: save(draw_collage(sum(map(ord, folder.name)))[0], folder / "a.png"),
}


@pytest.mark.parametrize("source", WRITE)
def test_a_linked_run_is_imported_as_if_it_lay_there(tmp_path, source) -> None:
    for name in ("one", "two"):
        WRITE[source](tmp_path / "runs" / name)
    before = plan(source, tmp_path / "runs", labelled=False).particles
    move_and_link(tmp_path / "runs" / "two")
    assert plan(source, tmp_path / "runs", labelled=False).particles.equals(before)
    assert before["group"].nunique() == 2


def test_frames_in_a_linked_folder_belong_to_the_run(tmp_path) -> None:
    run = tmp_path / "runs" / "one"
    write_mfi(run, "one")
    frames = sorted(run.glob("*.png"))
    (run / "frames").mkdir()
    for frame in frames:
        frame.rename(run / "frames" / frame.name)
    (run / "frames").rename(tmp_path / "frames")
    (run / "frames").symlink_to(tmp_path / "frames")
    assert len(plan("mfi", tmp_path / "runs").particles) == 6


def test_linked_subfolders_of_a_class_are_runs(root) -> None:
    (root / "protein" / "day1").mkdir()
    for picture in sorted(root.glob("protein/*.png"))[:6]:
        picture.rename(picture.parent / "day1" / picture.name)
    before = plan("folder", root).particles
    (root / "protein" / "day1").rename(root.parent / "day1")
    (root / "protein" / "day1").symlink_to(root.parent / "day1")
    assert plan("folder", root).particles.equals(before)
    assert (before["group"] == "day1").sum() == 6


def test_a_linked_run_does_not_let_its_pictures_lead_elsewhere(tmp_path) -> None:
    write_flowcam(tmp_path / "runs" / "one", "one")
    away = move_and_link(tmp_path / "runs" / "one")
    page = away / "one_000002.tif"
    page.rename(tmp_path / "secret.tif")
    page.symlink_to(tmp_path / "secret.tif")
    with pytest.raises(DataError, match=r"leads out of data\.root to .*secret\.tif"):
        plan("flowcam", tmp_path / "runs")


@pytest.mark.parametrize("name", ["../secret.png", "one/../../secret.png", "/etc/secret.png"])
def test_a_picture_named_outside_of_the_root_is_refused(tmp_path, name) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    save(draw_collage(0)[0], tmp_path / "secret.png")
    path = tmp_path / "runs" / name
    (found,) = Pictures(tmp_path / "runs", 1, decode=False).looks([path]).values()
    assert isinstance(found, DataError)
    assert "leads out of data.root" in found.what
