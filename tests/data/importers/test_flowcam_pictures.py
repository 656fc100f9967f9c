"""FlowCam lists of other systems and other exports: names, single images, libraries."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svp_lightning.data.importers import pictures
from svp_lightning.data.importers.images import Picture
from svp_lightning.errors import DataError
from tests.data.importers.made_runs import (
    CAL,
    MARGIN,
    assert_right_images,
    plan,
    write_flowcam,
    write_library,
)

HEADER = "Particle ID,Diameter (ABD) (µm),Calibration Factor"


def write_images(folder: Path, header: str = HEADER) -> None:
    """One image for each particle and a table."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [header]
    for number in range(1, 5):
        side = 10 + 2 * number
        image = np.full((side, side + 2), 170, np.uint8)
        image[MARGIN:-MARGIN, MARGIN:-MARGIN] = 50 + number
        name = f"r1_{number:05d}.png"
        Image.fromarray(image).save(folder / name)
        box = {"Image Width": side + 2, "Image Height": side, "Image X": 7, "Image Y": 9}
        values = {"Particle ID": number, "Calibration Factor": CAL, "Image File": name, **box}
        lines.append(",".join(str(values.get(h, 2.5)) for h in header.split(",")))
    (folder / "r1.csv").write_text("\n".join(lines) + "\n", encoding="latin-1")


def test_the_case_of_names_does_not_matter(tmp_path) -> None:
    """Runs are made on Windows; tables say .tif of a file named .TIF."""
    write_flowcam(tmp_path / "lower", "r1")
    before = plan("flowcam", tmp_path / "lower")
    upper = tmp_path / "upper"
    upper.mkdir()
    for file in (tmp_path / "lower").iterdir():
        file.rename(upper / file.name.upper())
    found = plan("flowcam", upper)
    assert_right_images(found)
    columns = ["particle_id", "label", "ecd_um", "w", "edge_of_frame"]
    names = {"w": "box_w_px"}
    columns = [names.get(name, name) for name in columns]
    assert found.particles[columns].equals(before.particles[columns])
    old, new = before.made_by["runs"]["r1"], found.made_by["runs"]["R1"]
    assert new == old
    assert old["volume_ml"] == 0.0174
    first = found.read(found.units[0]).columns
    assert first.keys() == {"area_px", "abd_diameter_recomputed_um", "edge_of_frame"}


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        f"{HEADER},Image Width,Image Height",
        f"{HEADER},Image File",
        f"{HEADER},Image File,Image Width,Image Height,Image X,Image Y",
    ],
)
def test_single_images_are_read_by_their_numbers(tmp_path, header) -> None:
    write_images(tmp_path, header=header)
    found = plan("flowcam", tmp_path, labelled=False)
    assert_right_images(found)
    assert found.particles["source"].tolist() == [f"r1_{k:05d}.png" for k in range(1, 5)]
    assert (found.particles["ecd_um"] == 2.5).all()


@pytest.mark.parametrize(("memory", "times"), [(1 << 20, 1), (0, 2)])
def test_deep_images_are_decoded_once_where_memory_allows(
    tmp_path, monkeypatch, memory, times
) -> None:
    write_images(tmp_path)
    for file in tmp_path.glob("*.png"):
        Image.fromarray(np.asarray(Image.open(file)).astype(np.uint16) * 16).save(file)
    decoded: Counter[Path] = Counter()
    read = pictures.read_picture

    def counting(path: Path) -> Picture:
        decoded[path] += 1
        return read(path)

    monkeypatch.setattr(pictures, "read_picture", counting)
    monkeypatch.setattr(pictures, "_KEPT_BYTES", memory)
    assert_right_images(plan("flowcam", tmp_path, labelled=False))
    assert list(decoded.values()) == [times] * 4


def test_single_images_may_replace_the_collages_of_a_list(tmp_path) -> None:
    write_flowcam(tmp_path, "r1")
    for page in tmp_path.glob("*.tif"):
        page.unlink()
    for number in range(1, 7):
        side = 6 + 2 * ((number - 1) % 3)
        image = np.full((side + 2 * MARGIN,) * 2, 170, np.uint8)
        image[MARGIN:-MARGIN, MARGIN:-MARGIN] = 50 + number
        Image.fromarray(image).save(tmp_path / f"r1_{number:05d}.png")
    found = plan("flowcam", tmp_path)
    assert_right_images(found)
    assert len(found.particles) == 6


@pytest.mark.parametrize("particles", [2, 12])
def test_pictures_beside_the_missing_collages_are_no_particles(tmp_path, particles) -> None:
    """Neither the calibration image nor collages of other names; the list names what is missing."""
    write_flowcam(tmp_path, "r1", particles=particles)
    (tmp_path / "r1.cla").unlink()
    for page in tmp_path.glob("r1_*.tif"):
        if particles == 2 or page.stem.endswith("_bin"):
            page.unlink()
        else:
            page.rename(page.with_stem(page.stem.replace("r1", "copied")))
    if particles > 2:
        (tmp_path / "cal_image_000001.tif").unlink()
    with pytest.raises(DataError, match=r"r1_000001\.tif"):
        plan("flowcam", tmp_path)


def test_images_are_found_by_the_id_of_their_particle(tmp_path) -> None:
    write_images(tmp_path, header=f"{HEADER},Original Reference ID")
    text = (tmp_path / "r1.csv").read_text(encoding="latin-1").splitlines()
    rows = [f"{row.rsplit(',', 1)[0]},0F5{k}-AB" for k, row in enumerate(text[1:], start=1)]
    (tmp_path / "r1.csv").write_text("\n".join([text[0], *rows]), encoding="latin-1")
    for number in range(1, 5):
        (tmp_path / f"r1_{number:05d}.png").rename(tmp_path / f"r1_0F5{number}-AB.png")
    assert_right_images(plan("flowcam", tmp_path, labelled=False))


def test_an_image_that_is_missing_or_another_is_refused_or_left_out(tmp_path) -> None:
    write_images(tmp_path, header=f"{HEADER},Image Width,Image Height")
    (tmp_path / "r1_00002.png").unlink()
    Image.new("L", (50, 50)).save(tmp_path / "r1_00003.png")
    with pytest.raises(DataError, match=r"no image of particle 2 \(r1.csv, row 3\)"):
        plan("flowcam", tmp_path)
    found = plan("flowcam", tmp_path, unreadable="skip", labelled=False)
    assert found.particles["particle_id"].tolist() == [1, 4]
    assert found.skipped["file"].tolist() == ["r1/000002", "r1/000003"]
    assert found.made_by["runs"]["r1"]["particles_lost"] == 2


def test_a_table_without_any_images_says_what_is_missing(tmp_path) -> None:
    write_images(tmp_path)
    for image in tmp_path.glob("*.png"):
        image.unlink()
    with pytest.raises(DataError, match=r"names no collages .*r1_00001.png lie in its folder"):
        plan("flowcam", tmp_path)


def test_libraries_in_class_folders_are_labelled_by_them(tmp_path) -> None:
    write_library(tmp_path / "Silicone Oil", "oil")
    write_library(tmp_path / "protein", "proteins")
    found = plan("flowcam", tmp_path)
    assert found.class_names == ("protein", "silicone_oil")
    assert found.particles.groupby("run")["label"].unique().map(list).to_dict() == {
        "oil": ["silicone_oil"],
        "proteins": ["protein"],
    }
    assert found.made_by["not_split"] is None
    assert len(found.units) == 4
    assert_right_images(found)


def test_particles_of_a_library_are_grouped_by_the_day_of_their_run(tmp_path) -> None:
    for day in ("2024-04-08", "2024-04-09", "2024-04-10"):
        for name in ("oil", "protein"):
            write_library(tmp_path / name, f"{name}_{day}", day)
    found = plan("flowcam", tmp_path)
    assert set(found.particles["group"]) == {f"day 2024-04-{k:02d}" for k in (8, 9, 10)}
    assert (found.particles.groupby("group")["split"].nunique() == 1).all()


def test_libraries_deeper_down_are_refused_as_the_class_is_not_clear(tmp_path) -> None:
    for folder in ("oil/day1", "oil/day2", "protein/day1", "protein/day2"):
        write_library(tmp_path / folder, folder.replace("/", "_"))
    with pytest.raises(DataError, match=r"day1/oil_day1\.flb lies more than one folder below"):
        plan("flowcam", tmp_path)
    assert len(plan("flowcam", tmp_path, labelled=False).particles) == 4 * 6
    assert plan("flowcam", tmp_path / "oil" / "day1").class_names == ("day1",)


def test_a_library_next_to_runs_is_left_out(tmp_path) -> None:
    write_library(tmp_path / "library")
    write_flowcam(tmp_path / "run", "r1")
    found = plan("flowcam", tmp_path)
    assert set(found.particles["group"]) == {"r1"}
    assert found.skipped["reason"].tolist() == ["library of particles, not a run"]


def test_messages_use_the_names_of_the_users_table(tmp_path) -> None:
    write_images(tmp_path, header=f"{HEADER},Image Width,Image Height,Image File")
    text = (tmp_path / "r1.csv").read_text(encoding="latin-1")
    (tmp_path / "r1.csv").write_text(text.replace(",14,12,", ",wide,12,"), encoding="utf-8")
    with pytest.raises(DataError, match="Image Width is 'wide'"):
        plan("flowcam", tmp_path)
    (tmp_path / "r1.csv").write_text("Diameter (ABD),Image File\n2.5,a.png\n")
    with pytest.raises(DataError, match="lacks the column Particle ID"):
        plan("flowcam", tmp_path)


def test_a_folder_without_runs_is_refused_and_an_archive_named(tmp_path) -> None:
    with pytest.raises(DataError, match="holds no FlowCam run"):
        plan("flowcam", tmp_path)
    (tmp_path / "r1.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"holds no FlowCam run.*Unpack r1\.zip"):
        plan("flowcam", tmp_path)
