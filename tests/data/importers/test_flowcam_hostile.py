"""Broken and hostile runs: one clear error, or a counted and listed skip; never a wrong image."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError
from tests.data.importers.made_runs import (
    FIELDS,
    assert_right_images,
    imported,
    plan,
    write_flowcam,
)

NAMES = [field.split("|")[0] for field in FIELDS]
PAGE = "run1_000002.tif"
Damage = Callable[[Path], object]


def cell(field: str, value: str, particle: int = 2) -> Damage:
    """Put ``value`` into a field of a particle."""

    def change(folder: Path) -> None:
        file = folder / "run1.lst"
        lines = file.read_text().splitlines()
        for k, line in enumerate(lines):
            cells = line.split("|")
            if len(cells) == len(NAMES) and cells[0] == str(particle):
                cells[NAMES.index(field)] = value
                lines[k] = "|".join(cells)
        file.write_text("\n".join(lines))

    return change


def lst(old: str, new: str) -> Damage:
    def change(folder: Path) -> None:
        text = (folder / "run1.lst").read_text()
        assert old in text
        (folder / "run1.lst").write_text(text.replace(old, new))

    return change


def raw(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def half(name: str) -> Damage:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


def bomb(folder: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(folder / PAGE, format="PNG")


def link_outside(folder: Path) -> None:
    (folder / PAGE).rename(folder.parent.parent / "secret.tif")
    (folder / PAGE).symlink_to(folder.parent.parent / "secret.tif")


def other_size(folder: Path) -> None:
    Image.new("L", (20, 20)).save(folder / "run1_000002_bin.tif")


def utf16_cut(folder: Path) -> None:
    file = folder / "run1.lst"
    file.write_bytes(file.read_text().encode("utf-16")[:-1])


PICTURE, BOX = "its picture cannot be read", "box outside its picture"
PARTICLES = [
    ("missing collage", lambda f: (f / PAGE).unlink(), "does not exist", PICTURE, 3),
    ("empty collage", raw(PAGE, b""), "is empty", PICTURE, 3),
    ("truncated collage", half(PAGE), "cannot be decoded|is not a PNG", PICTURE, 3),
    ("text named .tif", raw(PAGE, b"hello"), "is not a PNG", PICTURE, 3),
    ("bomb", bomb, "too large", PICTURE, 3),
    ("link that climbs out", link_outside, "leads out of data.root", PICTURE, 3),
    ("box beyond", cell("image_w", "9999"), "lies at x .*outside", BOX, 1),
    ("box just beyond", cell("image_y", "43"), "lies at x .*outside", BOX, 1),
    ("negative box", cell("image_x", "-1"), "lies at x -1", BOX, 1),
    ("empty box", cell("image_h", "0"), "outside", BOX, 1),
    ("half a pixel", cell("image_x", "3.5"), "'3.5', not a whole", "image_x is not a whole", 1),
    ("thousands", cell("image_x", "1,000"), "'1,000', not a", "image_x is not a whole", 1),
    ("no box", cell("image_x", "nan"), "not a whole", "image_x is not a whole number", 1),
    ("huge box", cell("image_x", "1e300"), "not a whole", "image_x is not a whole number", 1),
    ("infinite size", cell("abd_diameter", "inf"), "'inf', not", "abd_diameter is not a number", 1),
    ("negative size", cell("esd_diameter", "-4"), "size below 0", "size below 0", 1),
    ("points and commas", cell("esd_diameter", "1,234"), "'1,234', not a nu", "esd_diameter is", 1),
    ("word for a size", cell("raw_area", "x"), "'x', not a number", "raw_area is not a number", 1),
    (
        "calibration 0",
        cell("cal_const", "0"),
        "calibration is not",
        "calibration is not above 0",
        1,
    ),
    ("no calibration", cell("cal_const", ""), "calibration is not", "calibration is not above", 1),
    ("duplicate id", cell("id", "1"), "listed twice", "particle id listed twice", 2),
    ("absolute", cell("collage_file", "/etc/passwd"), "one/passwd does not exist", PICTURE, 1),
    ("no collage", cell("collage_file", ""), "is no name of a picture", "its picture has no", 1),
    (
        "truncated row",
        lst(f"|{PAGE}\n", "\n"),
        "cells where the header has 14",
        "row of another length",
        3,
    ),
    ("long row", lst(f"|{PAGE}\n", f"|{PAGE}|1\n"), "15 cells where", "row of another length", 3),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_flowcam(tmp_path / "runs" / "one", "run1")
    return tmp_path / "runs" / "one"


def ingest(folder: Path, **options: object) -> Store:
    return imported("flowcam", folder.parent, labelled=False, **options)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("damage", "message", "reason", "lost"),
    [p[1:] for p in PARTICLES],
    ids=[p[0] for p in PARTICLES],
)
def test_a_broken_particle_is_refused_or_left_out(folder, damage, message, reason, lost) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        ingest(folder)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert not list(folder.parent.parent.glob("store*"))
    store = ingest(folder, unreadable="skip")
    assert len(store) == 6 - lost
    ((found, count),) = store.manifest.made_by["skipped"].items()
    assert (found.startswith(reason), count) == (True, lost)
    assert (store.path / "skipped.csv").read_text().count("\n") == lost + 1
    assert_right_images(plan("flowcam", folder.parent, labelled=False, unreadable="skip"))


RUNS = [
    ("no number of fields", lst("num-fields|14", "columns"), "run1.lst is not a particle list"),
    ("no widths", lst("image_w|", "width_of_it|"), "lacks the column image_w"),
    ("empty list", raw("run1.lst", b""), "is empty"),
    ("NULs", raw("run1.lst", b"017\nnum-fields|1\nid\0|int\n1\n"), "NUL"),
    ("cut in a character", utf16_cut, "is damaged"),
    ("huge field count", lst("num-fields|14", "num-fields|" + "9" * 5000), "claims 99999"),
    ("more fields than lines", lst("num-fields|14", "num-fields|900"), "claims 900 fields"),
    ("no fields", lst("num-fields|14", "num-fields|0"), "claims 0 fields"),
    ("field twice", lst("image_x|int32", "image_y|int32"), "has the column 'image_y' twice"),
]


@pytest.mark.parametrize(("damage", "message"), [r[1:] for r in RUNS], ids=[r[0] for r in RUNS])
def test_a_broken_run_is_refused_or_left_out(folder, damage, message) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message):
        ingest(folder)
    with pytest.raises(DataError, match=r"Nothing in .* could be imported"):
        ingest(folder, unreadable="skip")
    write_flowcam(folder.parent / "two", "run2")
    store = ingest(folder, unreadable="skip")
    assert set(store.particles["group"]) == {"run2"}
    assert store.manifest.made_by["skipped"] == {"run cannot be read": 1}


@pytest.mark.parametrize("folders", ["C:\\x\\", "\\\\server\\runs\\", "../", "/data/"])
def test_of_the_name_of_a_picture_its_folder_does_not_count(folder, folders) -> None:
    """Tables keep the paths of the computer that wrote them."""
    lst(f"|{PAGE}", f"|{folders}{PAGE}")(folder)
    assert set(ingest(folder).particles["source"]) == {"run1_000001.tif", PAGE}
    assert_right_images(plan("flowcam", folder.parent, labelled=False, unreadable="skip"))


NO_LOSS = [
    ("half of the classes", half("run1.cla"), "it ends too early", "classification cannot", None),
    ("half a mask", half("run1_000002_bin.tif"), "_bin.tif", "mask cannot be used", None),
    ("another mask", other_size, "_bin.tif", "mask cannot be used", None),
    ("classes", raw("run1.cla", b"v9"), "'v9' where v3", "classification cannot be used", None),
    ("no context", raw("run1.ctx", b"ImageWidth=3"), "is not a run context", "context cannot", ""),
    ("word", raw("run1.ctx", b"[A]\nImageWidth=wide"), "'wide', not a", "context cannot", ""),
    ("summary", raw("run1_run_summary.txt", b"Fluid Volume Imaged: 3 gal"), "gal", "run summ", ""),
    ("one of two", raw("run1_summary.csv", b"Fluid Volume Imaged: 3 gal"), "gal", "run summ", None),
]


@pytest.mark.parametrize(
    ("damage", "message", "reason", "withheld"),
    [n[1:] for n in NO_LOSS],
    ids=[n[0] for n in NO_LOSS],
)
def test_broken_files_next_to_a_list_cost_no_particle(
    folder, damage, message, reason, withheld
) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message):
        imported("flowcam", folder.parent)
    found = plan("flowcam", folder.parent, unreadable="skip")
    facts = found.made_by["runs"]["run1"]
    assert (len(found.particles), facts["particles_lost"]) == (6, 0)
    assert found.skipped["reason"].str.startswith(reason).tolist() == [True]
    assert not found.skipped["particle_lost"].any()
    if withheld is None:
        assert (facts["withheld"], facts["volume_ml"]) == (None, 0.0174)
    else:
        assert re.search("cannot be read|is not known", facts["withheld"])
        assert facts["volume_ml"] is None


def test_unknown_sizes_are_unknown_and_unknown_fields_are_ignored(folder) -> None:
    cell("abd_diameter", "-1.#IND")(folder)
    lst("src_image|int32", "novelty|int32")(folder)
    table = ingest(folder).particles
    assert table["ecd_um"].isna().tolist() == [False, True, False, False, False, False]
    assert "frame" not in table


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("comma", [False, True])
def test_lists_of_any_encoding_and_locale_mean_the_same(folder, encoding, comma) -> None:
    whole = ingest(folder).particles
    (folder / PAGE).rename(folder / "seite_ä2.tif")
    (folder / "run1_000002_bin.tif").rename(folder / "seite_ä2_bin.tif")
    head, rows = (folder / "run1.lst").read_text().replace(PAGE, "seite_ä2.tif").split("|string\n")
    if comma:
        rows = rows.replace(".", ",").replace(",tif", ".tif")
    (folder / "run1.lst").write_bytes(f"{head}|string\r\n{rows}".encode(encoding))
    found = ingest(folder).particles
    assert found["source"].str.startswith("seite_ä").sum() == 3
    columns = ["id", "ecd_um", "pixel_size_um", "abd_diameter_recomputed_um", "box_x_px"]
    assert found[columns].equals(whole[columns])


def test_several_runs_keep_what_is_whole(folder) -> None:
    for k in range(2, 5):
        write_flowcam(folder.parent / f"{k}", f"run{k}")
    (folder / PAGE).unlink()
    cell("image_x", "-3", particle=1)(folder)
    store = imported("flowcam", folder.parent, unreadable="skip")
    assert len(store) == 4 * 6 - 4
    assert store.particles.groupby("group").size().to_dict()["run1"] == 2
    facts = store.manifest.made_by["runs"]
    assert (facts["run1"]["particles"], facts["run1"]["particles_lost"]) == (2, 4)
    assert facts["run1"]["withheld"] == "4 particles could not be imported"
    volumes = IngestSummary(store).groups["mL imaged"]
    assert volumes.isna().to_dict() == {f"run{k}": k == 1 for k in range(1, 5)}
    assert np.isfinite(store.particles["abd_diameter_recomputed_um"]).all()


def test_a_table_that_may_not_be_read_is_refused_or_listed(folder, monkeypatch) -> None:
    """It may be a run: other files are not opened."""
    (folder / "secret.csv").write_text("Particle ID,Image File\n")
    (folder / "notes.docx").write_text("")
    opened = Path.open

    def refusing(path: Path, *arguments: object, **options: object) -> object:
        if path.name in ("secret.csv", "notes.docx"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(DataError, match=r"secret\.csv cannot be read \(Permission denied\)"):
        ingest(folder)
    found = plan("flowcam", folder, labelled=False, unreadable="skip")
    assert found.skipped["file"].tolist() == ["secret.csv"]
    assert len(found.particles) == 6
