"""Folders of any make become stores."""

import shutil

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from svp_lightning.data.importers.folder import plan_folder
from svp_lightning.data.importers.images import read_picture
from svp_lightning.data.importers.runs import RunFacts
from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.evaluation.particle_counts import samples_of
from svp_lightning.evaluation.quality_table import with_blank
from tests import configured
from tests.data.importers.class_folders import COUNT, particle
from tests.data.importers.conftest import into_runs
from tests.data.importers.made_runs import imported


def test_class_folders_become_a_store(ingest) -> None:
    store = ingest(pixel_size_um=0.5)
    assert any("No runs or vials" in line for line in IngestSummary(store).lines())
    assert store.class_names == ("protein", "silicone_oil")
    assert (store.image_size, store.pixel_size_um) == (32, 0.5)
    assert len(store) == 2 * COUNT
    assert all(n >= 1 for split in ("train", "val", "test") for n in store.counts(split).values())
    assert store.particles["group"].nunique() == len(store)
    row = store.particles.set_index("source").loc["protein/03.png"]
    assert (row["origin"], row["label"], row["width_px"]) == ("real", "protein", 24)
    held = np.lib.stride_tricks.sliding_window_view(
        store.images[store.particles.index[store.particles["source"] == "protein/03.png"][0]],
        (20, 24),
    )
    assert (held == particle(103)).all(axis=(2, 3)).any()


def test_images_beside_the_folders_of_vials_are_one_sample(root, ingest) -> None:
    for n in range(2):
        Image.fromarray(particle(300 + n)).save(root / f"{n}.png")
    groups = ingest(labelled=False).particles["group"].value_counts().to_dict()
    assert groups == {"Silicone Oil": COUNT, "protein": COUNT, "loose images": 2}


def test_vials_of_one_image_each_are_counted_apart(tmp_path) -> None:
    for name in ("vial 1", "vial 2"):
        (tmp_path / "in" / name).mkdir(parents=True)
        Image.fromarray(particle(len(name))).save(tmp_path / "in" / name / "1.png")
    counted = [one.name for one in samples_of(imported("folder", tmp_path / "in", labelled=False))]
    assert counted == ["vial 1", "vial 2"]
    alone = imported("folder", tmp_path / "in" / "vial 1", labelled=False)
    assert [one.name for one in samples_of(alone)] == ["all images"]


def test_an_empty_folder_next_to_vials_is_a_blank(root) -> None:
    """Not one inside a vial, hidden or left out; one that holds other files is named."""
    for name in ("water", "notes", "protein/old", ".git", "outputs", "results/outputs"):
        (root / name).mkdir(parents=True)
    (root / "water" / ".DS_Store").touch()
    (root / "notes" / "notes.txt").touch()
    left_out = [root / "outputs", root / "results" / "outputs"]
    found = plan_folder(configured.folder(root=root, labelled=False), left_out)
    assert found.made_by["runs"] == {"water": RunFacts().model_dump()}
    blank, other = found.made_by["warnings"][-2:]
    assert blank == "Warning: empty folders count as vials without a particle: water."
    assert other == "Warning: folders without an image are not counted: notes."
    store = imported("folder", root, labelled=False)
    volumes = dict.fromkeys(("Silicone Oil", "protein", "water", "outputs"), 0.5)
    samples = with_blank(samples_of(store, volumes), "water")
    assert {one.name: one.withheld for one in samples} == dict.fromkeys(volumes, "")


def test_an_empty_folder_is_no_vial_where_there_are_none(tmp_path) -> None:
    (tmp_path / "in" / "water").mkdir(parents=True)
    Image.fromarray(particle(0)).save(tmp_path / "in" / "1.png")
    store = imported("folder", tmp_path / "in", labelled=False)
    assert [one.name for one in samples_of(store)] == ["all images"]
    assert "not counted: water." in store.manifest.made_by["warnings"][-1]


def test_the_same_folder_gives_the_same_store(ingest) -> None:
    first = ingest().manifest.sha256
    assert ingest().manifest.sha256 == first
    assert ingest(seed=1).manifest.sha256["particles.parquet"] != first["particles.parquet"]


@pytest.mark.parametrize("where", ["{label}/{run}", "{run}/{label}"])
def test_folders_of_runs_stay_whole_below_or_above_the_classes(root, ingest, where) -> None:
    into_runs(root, where, runs=6)
    store = ingest(fractions={"val": 0.2, "test": 0.2})
    assert store.class_names == ("protein", "silicone_oil")
    table = store.particles
    assert set(table["group"]) == {f"run{n}" for n in range(6)}
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert not any("No runs or vials" in line for line in IngestSummary(store).lines())


def test_given_split_folders_are_kept_and_validation_is_made_if_missing(root, ingest) -> None:
    into_runs(root, "{run}/{label}", runs=4)
    (root / "run3").rename(root / "test")
    for name in ("Silicone Oil", "protein"):
        for run in range(3):
            for path in (root / f"run{run}" / name).iterdir():
                where = root / "train" / name
                where.mkdir(parents=True, exist_ok=True)
                path.rename(where / path.name)
    for run in range(3):
        shutil.rmtree(root / f"run{run}")
    store = ingest()
    assert store.counts("test") == {"protein": 3, "silicone_oil": 3}
    tested = store.particles.loc[store.particles["split"] == "test", "source"]
    assert tested.str.startswith("test").all()
    assert all(store.counts("val").values())
    assert sum(store.counts("train").values()) + sum(store.counts("val").values()) == 18


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        ("png", lambda a: Image.fromarray(np.stack([a, a, a], -1))),
        ("tif", lambda a: Image.fromarray(a)),
        ("bmp", lambda a: Image.fromarray(a)),
        ("PNG", lambda a: Image.fromarray(a).convert("P")),
        ("png", lambda a: Image.fromarray(a).convert("LA")),
        ("png", lambda a: Image.fromarray(a.astype(np.uint16) * 257)),
        ("tiff", lambda a: Image.fromarray((a * (4095 / 255) + 0.5).astype(np.uint16))),
    ],
)
def test_every_kind_of_file_gives_the_same_grey_levels(root, suffix, make) -> None:
    image = particle(1)
    shutil.rmtree(root)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for n in range(4):
            # One pixel differs, so that the images are not copies of each other.
            image[0, 0] = 100 + 50 * (name == "b") + n
            image[0, 1] = 255
            made = make(image.copy())
            made.save(root / name / f"{n}.{suffix}")
    plan = plan_folder(configured.folder(root=root))
    read = plan.read(range(1)).images[0]
    image[0, 0] = 100
    assert np.abs(read.astype(int) - image).max() <= 1


def test_sixteen_bit_colour_keeps_its_low_bits(root) -> None:
    deep = particle(1).astype(np.uint16) * 4  # 10 bit in 16-bit files
    colour = np.stack([deep, deep, deep], -1)
    tifffile.imwrite(root / "protein" / "deep.tif", colour, photometric="rgb")
    (root / "protein" / "deep2.png").write_bytes(imagecodecs.png_encode(colour + 1))
    planes = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(root / "protein" / "deep3.tif", np.moveaxis(colour, -1, 0) + 2, **planes)
    plan = plan_folder(configured.folder(root=root))
    assert plan.made_by["bit_depth_of_16_bit_files"] == 10
    for name in ("deep.tif", "deep2.png", "deep3.tif"):
        row = int(np.flatnonzero(plan.particles["source"] == f"protein/{name}")[0])
        read = plan.read(range(row, row + 1)).images[0]
        assert np.abs(read.astype(int) - particle(1)).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_in_tiffs_of_either_depth(tmp_path, dtype) -> None:
    full = np.iinfo(dtype).max
    levels = particle(1).astype(dtype) * (full // 255)
    for name, stored in (("miniswhite", full - levels), ("minisblack", levels)):
        tifffile.imwrite(tmp_path / f"{name}.tif", stored, photometric=name)
        assert (read_picture(tmp_path / f"{name}.tif").grey == levels).all()


def test_tiny_and_large_images_share_a_store(root, ingest) -> None:
    Image.fromarray(particle(7, 8, 8)).save(root / "protein" / "tiny.png")
    Image.fromarray(particle(8, 200, 300)).save(root / "protein" / "large.png")
    store = ingest()
    assert store.image_size == 32
    assert len(store) == 2 * COUNT + 2
    assert ingest(image_size=128).images.shape[1:] == (128, 128)


def test_equal_images_never_sit_in_two_splits(root, ingest) -> None:
    for n in range(5):
        shutil.copy(root / "protein" / "00.png", root / "protein" / f"copy{n}.png")
    table = ingest().particles
    copies = table["source"].str.contains("copy|protein/00")
    assert copies.sum() == 6
    assert table.loc[copies, "split"].nunique() == 1


def test_other_files_are_left_out_and_counted(root, ingest) -> None:
    (root / "protein" / "Thumbs.db").write_bytes(b"x")
    (root / "protein" / ".hidden.png").write_bytes(b"x")
    (root / "protein" / "notes.txt").write_text("hello")
    store = ingest()
    assert store.manifest.made_by["complete"]
    assert IngestSummary(store).skipped == {"hidden file": 2, "not an image": 1}
    assert (store.path / "skipped.csv").read_text().count("\n") == 4
    assert "Left out" in "\n".join(IngestSummary(store).lines())


def test_unlabelled_images_come_in_without_splits(root, flat, ingest) -> None:
    store = ingest(labelled=False)
    assert store.class_names == ()
    assert (store.labels == -1).all()
    assert set(store.particles["split"]) == {""}
    assert len(store) == 2 * COUNT == store.particles["group"].nunique()
    shutil.copy(root / "protein_03.png", root / "protein_03 (1).png")
    store = ingest(labelled=False)  # each copy counts, and makes no group
    warning, _ = store.manifest.made_by["warnings"]
    assert "1 images are copies of others" in warning
    assert "protein_03" in warning
    assert len(store) == 2 * COUNT + 1 == store.particles["group"].nunique()


def test_labels_of_a_table_join_by_path_with_groups_and_splits(root, flat, ingest, refuses) -> None:
    rows = [f"{row},v{n % 6},{('train', 'val', 'test')[n % 3]}" for n, row in enumerate(flat)]
    header = "id,label,group,split"
    (root / "list.csv").write_text("\n".join([header, *rows[:-2], "gone.png,protein,v1,val"]))
    refuses("labels 1 particles that were not found", labels="list.csv")
    store = ingest(labels="list.csv", unreadable="skip")
    assert IngestSummary(store).skipped["labelled, but not imported"] == 1
    table = store.particles.set_index("id").sort_index()
    assert table["label"].isna().tolist() == [False] * (2 * COUNT - 2) + [True] * 2
    found = [f"{row.Index},{row.group},{row.split}" for row in table[:-2].itertuples()]
    assert found == [",".join(row.split(",")[::2] + row.split(",")[3:]) for row in rows[:-2]]


def test_subfolders_of_images_with_a_table_of_labels_are_runs(root, ingest) -> None:
    into_runs(root, "{run}", runs=4, keep_label=True)
    images = sorted(root.rglob("*.png"))
    rows = [f"{path.relative_to(root)},{path.stem.split('_')[0]}" for path in images]
    (root / "labels.csv").write_text("\n".join(["filename,class", *rows]))
    store = ingest(labels="labels.csv")
    assert store.class_names == ("protein", "silicone_oil")
    assert set(store.particles["group"]) == {f"run{n}" for n in range(4)}


@pytest.mark.parametrize(("source", "key"), [("labels", "id"), ("table", "path")])
@pytest.mark.parametrize("name", ["group", "vial", "run"])
def test_vials_named_in_a_table_stay_whole(root, ingest, source, key, name) -> None:
    paths = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.png"))
    rows = [f"{path},{path.split('/')[0]},v{n % 5}" for n, path in enumerate(paths)]
    (root / "list.csv").write_text("\n".join([f"{key},label,{name}", *rows]))
    table = ingest(**{source: "list.csv"}).particles
    assert set(table["group"]) == {f"v{n}" for n in range(5)}
    assert (table.groupby("group")["split"].nunique() == 1).all()
