"""Runs and classes that are links are imported; pictures that are links stay in bounds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from svp_lightning.data.importers.collage import plan_collage
from svp_lightning.data.importers.cutting import picture_sizes
from svp_lightning.data.importers.flowcam import plan_flowcam
from svp_lightning.data.importers.folder import plan_folder
from svp_lightning.data.importers.mfi import plan_mfi
from svp_lightning.errors import DataError
from tests import configured
from tests.data.importers import test_flowcam as flowcam
from tests.data.importers import test_mfi as mfi
from tests.data.importers.test_collage import draw_collage, save


def move_and_link(folder: Path) -> Path:
    """Keep ``folder`` elsewhere, as on another disk; a link takes its place."""
    away = folder.parents[1] / "away" / folder.name
    away.parent.mkdir(exist_ok=True)
    folder.rename(away)
    folder.symlink_to(away)
    return away


PLANS: dict[str, tuple[Callable, Callable]] = {
    "flowcam": (
        lambda folder: flowcam.write_run(folder, folder.name),
        lambda root: plan_flowcam(configured.flowcam(root=root, labelled=False)),
    ),
    "mfi": (
        lambda folder: mfi.write_run(folder, folder.name),
        lambda root: plan_mfi(configured.mfi(root=root, labelled=False)),
    ),
    "collage": (
        lambda folder: save(draw_collage(sum(map(ord, folder.name)))[0], folder / "a.png"),
        lambda root: plan_collage(configured.collage(root=root, labelled=False)),
    ),
}


@pytest.mark.parametrize("source", PLANS)
def test_a_linked_run_is_imported_as_if_it_lay_there(tmp_path, source) -> None:
    write, plan = PLANS[source]
    for name in ("one", "two"):
        write(tmp_path / "runs" / name)
    before = plan(tmp_path / "runs").particles
    move_and_link(tmp_path / "runs" / "two")
    assert plan(tmp_path / "runs").particles.equals(before)
    assert before["group"].nunique() == 2


def test_frames_in_a_linked_folder_belong_to_the_run(tmp_path) -> None:
    run = tmp_path / "runs" / "one"
    mfi.write_run(run, "one")
    frames = sorted(run.glob("*.png"))
    (run / "frames").mkdir()
    for frame in frames:
        frame.rename(run / "frames" / frame.name)
    (run / "frames").rename(tmp_path / "frames")
    (run / "frames").symlink_to(tmp_path / "frames")
    assert len(plan_mfi(configured.mfi(root=tmp_path / "runs")).particles) == 6


def test_linked_subfolders_of_a_class_are_runs(root) -> None:
    (root / "protein" / "day1").mkdir()
    for picture in sorted(root.glob("protein/*.png"))[:6]:
        picture.rename(picture.parent / "day1" / picture.name)
    before = plan_folder(configured.folder(root=root)).particles
    (root / "protein" / "day1").rename(root.parent / "day1")
    (root / "protein" / "day1").symlink_to(root.parent / "day1")
    assert plan_folder(configured.folder(root=root)).particles.equals(before)
    assert (before["group"] == "day1").sum() == 6


def test_a_linked_run_does_not_let_its_pictures_lead_elsewhere(tmp_path) -> None:
    flowcam.write_run(tmp_path / "runs" / "one", "one")
    away = move_and_link(tmp_path / "runs" / "one")
    page = away / "one_000002.tif"
    page.rename(tmp_path / "secret.tif")
    page.symlink_to(tmp_path / "secret.tif")
    with pytest.raises(DataError, match=r"leads out of data\.root to .*secret\.tif"):
        plan_flowcam(configured.flowcam(root=tmp_path / "runs"))


@pytest.mark.parametrize("name", ["../secret.png", "one/../../secret.png", "/etc/secret.png"])
def test_a_picture_named_outside_of_the_root_is_refused(tmp_path, name) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    save(draw_collage(0)[0], tmp_path / "secret.png")
    path = tmp_path / "runs" / name
    (found,) = picture_sizes([path], tmp_path / "runs", 1, decode=False).values()
    assert isinstance(found, DataError)
    assert "leads out of data.root" in found.what
