"""MFI runs: tables and frames matched, boxes cut, both styles of flags."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.data.importers.writer import Plan
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError
from tests.data.importers.made_runs import (
    HEADER,
    PIXEL_UM,
    SLOPE,
    images_of,
    imported,
    plan,
    write_discs,
    write_mfi,
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for k in range(3):
        write_mfi(
            tmp_path / "runs" / f"vial{k}", f"vial{k}", [("0", "1"), ("FALSE", "TRUE")][k % 2]
        )
    return tmp_path / "runs"


def mfi_plan(root: Path, **options: Any) -> Plan:
    return plan("mfi", root, labelled=False, **options)


def ingest(root: Path, **options: object) -> Store:
    return imported("mfi", root, **options)


def test_runs_become_a_store(runs) -> None:
    store = ingest(runs)
    table = store.particles.set_index("id")
    assert len(store) == 3 * 6
    assert (store.image_size, store.class_names) == (16, ("protein", "silicone_oil"))
    assert store.pixel_size_um == pytest.approx(PIXEL_UM, abs=1e-3)
    assert table["edge_of_frame"].sum() == 3 * 2
    row = table.loc["vial1/000071"]
    assert (row["label"], row["intensity_mean_vendor_grey"]) == ("silicone_oil", 71)
    assert row["source"] == "vial1_frame_00007.png"
    assert set(table.loc[table["label"].notna()].groupby("group")["split"].first()) == {
        "train",
        "val",
        "test",
    }


def test_crops_hold_the_box_and_its_margin_within_the_frame(runs) -> None:
    for name, image in images_of(plan("mfi", runs, margin_px=3)).items():
        number = int(name.split("/")[1])
        n = number % 10
        left = 0 if n == 0 else 3  # the first particle touches the frame's edge
        assert image.shape == (4 + n + 6, 4 + n + left + 3)
        inner = image[3:-3, left:-3]
        assert (inner == number).all()
        assert (image == number).sum() == inner.size


def as_crops(folder: Path, margin: int = 2) -> None:
    """Replace the frames of a run by crops of its particles."""
    rows = [line.split(",") for line in (folder / f"{folder.name}.csv").read_text().splitlines()]
    for row in rows[1:]:
        left, right, top, bottom = map(int, row[14:18])
        frame = Image.open(folder / f"{folder.name}_frame_{int(row[1]):05d}.png")
        box = (max(0, left - margin), top - margin, right + 1 + margin, bottom + 1 + margin)
        frame.crop(box).save(folder / f"crop_{int(row[2]):06d}.png")
    for frame_file in folder.glob("*_frame_*.png"):
        frame_file.unlink()


def test_no_table_is_made_for_each_crop(tmp_path: Path, monkeypatch) -> None:
    made = []
    real = pd.DataFrame.__init__

    def counted(table: pd.DataFrame, *args: object, **options: Any) -> None:
        made[-1] += 1
        real(table, *args, **options)

    monkeypatch.setattr(pd.DataFrame, "__init__", counted)
    for frames in (3, 9):
        folder = tmp_path / f"of_{frames}" / "vial1"
        write_mfi(folder, "vial1", frames=range(2, 2 + frames))
        as_crops(folder)
        made.append(0)
        assert len(mfi_plan(folder).particles) == 3 * frames
    assert made[0] == made[1]


def test_a_folder_of_crops_with_the_table_serves_like_frames(runs) -> None:
    frames = plan("mfi", runs, margin_px=2)
    images = images_of(frames)
    for folder in runs.iterdir():
        as_crops(folder)
    crops = plan("mfi", runs)
    assert crops.image_size == frames.image_size
    found = images_of(crops)
    assert len(crops.particles) == len(found) == 18
    assert all((image == images[name]).all() for name, image in found.items())
    shared = ["id", "label", "group", "ecd_um", "frame", "frame_x_px", "frame_y_px"]
    by_id = [p.particles.sort_values("id", ignore_index=True)[shared] for p in (frames, crops)]
    assert by_id[0].equals(by_id[1])


@pytest.mark.parametrize(
    ("damage", "message", "reason"),
    [
        (lambda f: (f / "crop_000031.png").unlink(), "refers to particle 31", "its particle pict"),
        (
            lambda f: (f / "crop_000032.png").replace(f / "crop_000031.png"),
            "refers to particle 32",
            "its particle",
        ),
        (
            lambda f: Image.new("L", (30, 30)).save(f / "crop_000031.png"),
            "crop_000031.png is 30 x 30 px, and the box of particle vial0/000031",
            "image of another size",
        ),
        (lambda f: (f / "crop_000031.png").write_bytes(b""), "is empty", "its picture cannot"),
        (lambda f: (f / "x31.png").write_bytes(b""), "are both particle 31", "run cannot be"),
    ],
)
def test_crops_that_do_not_fit_are_refused_or_left_out(runs, damage, message, reason) -> None:
    as_crops(runs / "vial0")
    damage(runs / "vial0")
    with pytest.raises(DataError, match=message):
        ingest(runs, labelled=False)
    skipped = ingest(runs, labelled=False, unreadable="skip").manifest.made_by["skipped"]
    assert any(found.startswith(reason) for found in skipped)


def repaint(folder: Path, change: Callable[[np.ndarray], np.ndarray], kind: Any = np.uint8) -> None:
    for file in folder.rglob("*.png"):
        Image.fromarray(change(np.asarray(Image.open(file))).astype(kind)).save(file)


def elsewhere(grey: np.ndarray) -> np.ndarray:
    return np.roll(grey, 30, axis=(0, 1))


def test_every_crop_is_brought_to_the_same_background(runs) -> None:
    for k, gain in enumerate((0.6, 0.8, 1.0)):
        repaint(runs / f"vial{k}", lambda grey, gain=gain: grey * gain)
    store = ingest(runs, image_size=32)
    assert np.abs(np.median(store.images[:, 0], axis=1) - 210).max() <= 3
    recorded = store.particles.groupby("group")["background_grey"].median()
    assert recorded["vial2"] / recorded["vial0"] == pytest.approx(1 / 0.6, rel=0.05)


def test_ten_bit_frames_are_read_as_eight_bit(runs) -> None:
    before = ingest(runs, background=None).images.copy()
    repaint(runs, lambda grey: np.round(grey * (1023 / 255)), np.uint16)
    assert np.abs(ingest(runs, background=None).images.astype(int) - before).max() <= 1


def rename_columns(root: Path, names: dict[str, str]) -> None:
    for file in root.rglob("*.csv"):
        header, rest = file.read_text().split("\n", 1)
        cells = [names.get(cell.strip(), cell) for cell in header.split(",")]
        file.write_text(",".join(cells) + "\n" + rest)


def renamed(names: dict[str, str]) -> Callable[[Path], None]:
    return lambda runs: rename_columns(runs / "vial0", names)


NAMES = {
    "Frame #": "frame_num",
    "Particle #": "particle_num",
    "ECD(um)": "ecd_um",
    "Area(pixels)": "area_pixels",
    "Intensity Min": "intensity_min",
    "X Left": "x_left",
    "X Right": "x_right",
    "Y Top": "y_top",
    "Y Bottom": "y_bottom",
    "Edge Particle": "edge_particle",
}


def wrong_cell(runs: Path) -> None:
    rename_columns(runs, NAMES)
    edit(",3,31,", ",x,31,")(runs)


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(runs: Path) -> None:
        file = runs / "vial0" / "vial0.csv"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "vial0" / "vial0_frame_00007.png").unlink(), "refers to frame 7"),
        (lambda r: (r / "vial0" / "frame7.png").write_bytes(b""), "are both frame 7"),
        (edit(",80,85,", ",180,185,"), r"Particle vial0/0000\d2 lies at x 180..185.*outside"),
        (edit("X Left", "Left X"), "lacks the column X Left"),
        (
            renamed(NAMES | {"X Right": "width", "Y Bottom": "z"}),
            "the columns X Right, Y Bottom.*z",
        ),
        (renamed({"Perimeter": "frame_num"}), "columns 'Frame #' and 'frame_num' for the same"),
        (wrong_cell, "vial0.csv, row 3: frame_num is 'x'"),
        (edit(",1,protein", ",1"), r"row \d+: \d+ cells where the header has \d+"),
        (edit(",1,protein", ",maybe,protein"), "Edge Particle is neither"),
        (edit(",7,71,", ",7,70,"), "particle 70 of frame 7: particle listed twice"),
        (edit("Silicone oil", "protein+"), r"'protein' and 'protein\+'"),
        (lambda r: [p.unlink() for p in r.rglob("*.csv")], "holds no MFI run"),
    ],
)
def test_damage_names_file_and_particle(runs, damage, message) -> None:
    damage(runs)
    with pytest.raises(DataError, match=message):
        ingest(runs)
    assert not list(runs.parent.glob("store*"))


def test_a_run_without_particles_is_a_run_with_none(tmp_path) -> None:
    write_discs(tmp_path / "run", 1)
    (tmp_path / "water").mkdir()
    (tmp_path / "water" / "water.csv").write_text(HEADER + "\n")
    found = mfi_plan(tmp_path)
    assert found.pixel_size_um == pytest.approx(SLOPE, rel=0.005)
    facts = found.made_by["runs"]["water"]
    assert (facts["particles"], facts["withheld"]) == (0, None)
    store = imported("mfi", tmp_path / "water", labelled=False)
    assert (len(store), list(store.manifest.made_by["runs"])) == (0, ["water"])
    assert IngestSummary(store).groups["images"].to_dict() == {"water": 0}


def test_frames_of_another_run_are_refused_or_left_out(tmp_path) -> None:
    write_discs(tmp_path / "good", 0)
    write_discs(tmp_path / "a", 1, radii=(3, 6))
    write_discs(tmp_path / "b", 2, radii=(3, 6))
    assert len(mfi_plan(tmp_path).particles) == 3 * 36
    repaint(tmp_path / "b", elsewhere)
    with pytest.raises(DataError, match=r"b/table.csv and .*b/f1.png and 2 more pictures are not"):
        mfi_plan(tmp_path)
    found = mfi_plan(tmp_path, unreadable="skip")
    assert set(found.made_by["runs"]) == {"good/table", "a/table"}
    assert found.particles["group"].value_counts().to_dict() == {"good/table": 36, "a/table": 36}
    assert (found.skipped["reason"] == "its picture is of another run").sum() == 36
    assert set(found.skipped["file"].str[:8]) == {"b/table/", "b/table."}


def test_a_table_without_intensities_must_not_point_to_background(tmp_path) -> None:
    write_discs(tmp_path / "a", 1, radii=(3, 6))
    names = {f"Intensity {name}": f"Grey {name}" for name in ("Mean", "STD", "Min", "Max")}
    rename_columns(tmp_path, names)
    assert len(mfi_plan(tmp_path).particles) == 36
    repaint(tmp_path / "a", elsewhere)
    with pytest.raises(DataError, match=r"a/table.csv and .* are not of the same run"):
        mfi_plan(tmp_path)


def test_one_frame_of_another_run_is_refused(tmp_path) -> None:
    write_discs(tmp_path / "a", 1)
    file = tmp_path / "a" / "f2.png"
    Image.fromarray(np.full((256, 256), 210, np.uint8)).save(file)
    with pytest.raises(DataError, match=r"a/f2.png are not of the same run: 12 of 12"):
        mfi_plan(tmp_path)
    found = mfi_plan(tmp_path, unreadable="skip")
    facts = found.made_by["runs"]["table"]
    assert (len(found.particles), facts["particles"], facts["particles_lost"]) == (24, 24, 12)
    assert "12 particles" in facts["withheld"]


@pytest.mark.parametrize("gain", [0.6, 1.15])
def test_frames_that_were_made_brighter_or_darker_are_of_their_run(tmp_path, gain) -> None:
    write_discs(tmp_path / "a", 1)
    repaint(tmp_path / "a", lambda grey: np.clip(grey * gain, 0, 255))
    assert len(mfi_plan(tmp_path).particles) == 36


def test_crops_of_another_run_with_boxes_of_the_same_size_are_refused(runs) -> None:
    as_crops(runs / "vial0")
    repaint(runs / "vial0", lambda grey: np.full_like(grey, 208))
    with pytest.raises(DataError, match="are not of the same run"):
        mfi_plan(runs)


def test_columns_under_other_names_are_read_alike(runs) -> None:
    before = mfi_plan(runs).particles
    rename_columns(runs, NAMES)
    after = mfi_plan(runs).particles
    assert after.equals(before)
    others = {"frame_num": "Frame Number", "x_left": "left", "ecd_um": "ECD (µm)"}
    rename_columns(runs, others | {"particle_num": "Particle#"})
    assert mfi_plan(runs).particles.equals(before)
