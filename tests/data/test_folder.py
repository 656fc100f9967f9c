"""Folders and CSVs of any make become stores; every bad input is one clear sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from svp_lightning.data.ingest.folder import ingest_folder, plan_folder
from svp_lightning.data.ingest.summary import summarise
from svp_lightning.data.settings import FolderSettings
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError

COUNT = 12


def particle(seed: int, height: int = 20, width: int = 24) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = rng.normal(180, 3, (height, width))
    image[height // 2 - 3 : height // 2 + 3, width // 2 - 4 : width // 2 + 4] = 60
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of twelve PNGs."""
    root = tmp_path / "images"
    for k, name in enumerate(("Silicone Oil", "protein")):
        (root / name).mkdir(parents=True)
        for n in range(COUNT):
            Image.fromarray(particle(100 * k + n)).save(root / name / f"{n:02d}.png")
    return root


@pytest.fixture
def ingest(root: Path, tmp_path: Path) -> Callable[..., Store]:
    def run(**options) -> Store:
        path = tmp_path / "store"
        shutil.rmtree(path, ignore_errors=True)
        done: list[int] = []
        ingest_folder(path, FolderSettings(root=root, **options), done.append)
        store = Store.open(path)
        assert sum(done) == len(store)
        return store

    return run


@pytest.fixture
def refuses(root: Path, tmp_path: Path) -> Callable[..., None]:
    def check(message: str, **options) -> None:
        path = tmp_path / "refused"
        with pytest.raises(DataError, match=message) as caught:
            ingest_folder(path, FolderSettings(root=root, **options), lambda n: None)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
        assert not path.exists()

    return check


def test_class_folders_become_a_store(ingest) -> None:
    store = ingest(pixel_size_um=0.5)
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


def test_the_same_folder_gives_the_same_store(ingest) -> None:
    first = ingest().manifest.sha256
    assert ingest().manifest.sha256 == first
    assert ingest(seed=1).manifest.sha256["particles.parquet"] != first["particles.parquet"]


def test_subfolders_of_a_class_are_runs_and_stay_whole(root, ingest) -> None:
    for name in ("Silicone Oil", "protein"):
        for n, path in enumerate(sorted((root / name).iterdir())):
            run = root / name / f"run{n % 6}"
            run.mkdir(exist_ok=True)
            path.rename(run / path.name)
    table = ingest(fractions={"val": 0.2, "test": 0.2}).particles
    assert set(table["group"]) == {f"run{n}" for n in range(6)}
    assert (table.groupby("group")["split"].nunique() == 1).all()


def test_given_split_folders_are_kept_and_validation_is_made_if_missing(root, ingest) -> None:
    for name in ("Silicone Oil", "protein"):
        for n, path in enumerate(sorted((root / name).iterdir())):
            where = root / ("test" if n < 3 else "train") / name
            where.mkdir(parents=True, exist_ok=True)
            path.rename(where / path.name)
        (root / name).rmdir()
    store = ingest()
    assert store.counts("test") == {"protein": 3, "silicone_oil": 3}
    assert (
        store.particles.loc[store.particles["split"] == "test", "source"]
        .str.startswith("test")
        .all()
    )
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
    plan = plan_folder(FolderSettings(root=root))
    read = plan.read(range(1)).images[0]
    image[0, 0] = 100
    assert np.abs(read.astype(int) - image).max() <= 1


def test_sixteen_bit_colour_keeps_its_low_bits(root) -> None:
    deep = particle(1).astype(np.uint16) * 4  # 10 bit in 16-bit files
    colour = np.stack([deep, deep, deep], -1)
    tifffile.imwrite(root / "protein" / "deep.tif", colour, photometric="rgb")
    (root / "protein" / "deep2.png").write_bytes(imagecodecs.png_encode(colour + 1))
    plan = plan_folder(FolderSettings(root=root))
    assert plan.made_by["bit_depth_of_16_bit_files"] == 10
    for name in ("deep.tif", "deep2.png"):
        row = int(np.flatnonzero(plan.particles["source"] == f"protein/{name}")[0])
        read = plan.read(range(row, row + 1)).images[0]
        assert np.abs(read.astype(int) - particle(1)).max() <= 1


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
    assert summarise(store).skipped == {"hidden file": 2, "not an image": 1}
    assert (store.path / "skipped.csv").read_text().count("\n") == 4
    assert "Left out" in "\n".join(summarise(store).lines())


def test_unreadable_files_can_be_left_out(root, ingest) -> None:
    (root / "protein" / "05.png").write_bytes(b"")
    store = ingest(unreadable="skip")
    assert len(store) == 2 * COUNT - 1
    assert summarise(store).skipped == {"cannot be decoded": 1}


def test_unlabelled_images_come_in_without_splits(root, ingest) -> None:
    for path in root.rglob("*.png"):
        path.rename(root / f"{path.parent.name}_{path.name}")
    store = ingest(labelled=False)
    assert store.class_names == ()
    assert (store.labels == -1).all()
    assert set(store.particles["split"]) == {""}
    assert len(store) == 2 * COUNT


def test_labels_join_by_id_and_others_stay_unlabelled(root, ingest) -> None:
    ids = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.png"))]
    for k, name in enumerate(ids):  # subfolders are runs here, not classes
        (root / f"run{k % 4}").mkdir(exist_ok=True)
        (root / name).rename(root / f"run{k % 4}" / f"{k}.png")
    lines = [f"run{k % 4}/{k}.png,{'ab'[k // 4 % 2]}" for k in range(len(ids) - 4)]
    (root / "labels.csv").write_text("id,label\n" + "\n".join(lines))
    table = ingest(labels="labels.csv").particles.set_index("id")
    assert table.loc["run1/5.png", ["label", "group"]].tolist() == ["b", "run1"]
    assert table["label"].isna().sum() == 4


# --- tables -------------------------------------------------------------------------------


def write_table(root: Path, extra: str = "", columns: str = "path,label,group,size_um") -> None:
    lines = [columns]
    for name, label in (("Silicone Oil", "silicone oil"), ("protein", "Protein")):
        lines += [f"{name}/{n:02d}.png,{label},vial{n % 4},{n}.5" for n in range(COUNT)]
    (root / "list.csv").write_text("\n".join(lines) + "\n" + extra)


def test_a_table_gives_labels_groups_and_sizes(root, ingest) -> None:
    write_table(root)
    store = ingest(table="list.csv")
    assert store.class_names == ("protein", "silicone_oil")
    assert set(store.particles["group"]) == {"vial0", "vial1", "vial2", "vial3"}
    assert (store.particles.groupby("group")["split"].nunique() == 1).all()
    by_source = store.particles.set_index("source")["ecd_um"]
    assert by_source["protein/11.png"] == 11.5
    assert sum(summarise(store).sizes.values()) == 2 * COUNT


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_tables_come_in_any_encoding_and_separator(root, ingest, encoding) -> None:
    write_table(root)
    text = (root / "list.csv").read_text().replace(",", ";").replace("vial1", "Größe µ")
    (root / "list.csv").write_bytes(text.encode(encoding))
    assert "Größe µ" in set(ingest(table="list.csv").particles["group"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("protein/99.png,protein,v,1\n", r"row 26: 'protein/99.png' does not exist"),
        ("../secret.png,protein,v,1\n", r"row 26: '../secret.png' is not inside"),
        ("/etc/passwd,protein,v,1\n", r"'/etc/passwd' is not inside"),
        ("protein/01.png,protein,v,1\n", r"row 26: path .*01.png is listed twice"),
        ("protein/01.png,protein\n", r"row 26: 2 cells where the header has 4"),
    ],
)
def test_bad_rows_are_named(root, refuses, extra, message) -> None:
    (root.parent / "secret.png").write_bytes((root / "protein" / "00.png").read_bytes())
    write_table(root, extra)
    refuses(message, table="list.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("path,label", "file,label"), "lacks the column path"),
        (("group,size_um", "path,size_um"), "column 'path' twice"),
        (("group,size_um", "id,size_um"), "row 6: id vial0 is listed twice"),
        ((",1.5", ",1.5 um"), "ecd_um is '1.5 um', not a number"),
        (("Protein", ""), "label is empty"),
        (("Protein", "--"), "no class name"),
        (("group,size_um", "split,size_um"), "split is 'vial0'"),
    ],
)
def test_bad_tables_are_named(root, refuses, change, message) -> None:
    write_table(root)
    text = (root / "list.csv").read_text()
    assert change[0] in text
    (root / "list.csv").write_text(text.replace(*change))
    refuses(message, table="list.csv")


def test_given_splits_must_not_share_a_group_or_lack_a_class(root, refuses) -> None:
    rows = [
        f"{name}/{n:02d}.png,{name},g{n},{('train', 'val', 'test')[n % 3]}"
        for name in ("Silicone Oil", "protein")
        for n in range(COUNT)
    ]
    header = "path,label,group,split"
    (root / "list.csv").write_text("\n".join([header, *rows]).replace("g1,val", "g0,val", 1))
    refuses("group g0 is in train and val", table="list.csv")
    only = [row for row in rows if not (row.startswith("protein") and row.endswith("test"))]
    (root / "list.csv").write_text("\n".join([header, *only]))
    refuses("test split has no images of protein", table="list.csv")
    shutil.copy(root / "protein" / "00.png", root / "protein" / "01.png")
    (root / "list.csv").write_text("\n".join([header, *rows]))
    refuses("are the same image in two splits", table="list.csv")


# --- refusals -----------------------------------------------------------------------------


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def bomb(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path)


def two_pages(path: Path) -> None:
    path.unlink()
    page = Image.fromarray(particle(1))
    page.save(path.with_suffix(".tif"), save_all=True, append_images=[page])


def floats(path: Path) -> None:
    path.unlink()
    Image.fromarray(particle(1).astype(np.float32)).save(path.with_suffix(".tif"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(b""), r"03.png is empty \(0 bytes\)"),
        (lambda p: p.write_text("not an image"), "03.png is not a PNG, TIFF, JPEG or BMP"),
        (cut_short, "03.png cannot be decoded"),
        (bomb, "03.png is too large.*megapixels"),
        (two_pages, "03.tif holds 2 pages"),
        (floats, "03.tif has floating-point samples"),
        (lambda p: p.rename(p.with_suffix(".webp")), r"03.webp is in a format.*\.webp"),
        (lambda p: p.rename(p.parent.parent / p.name), "1 images outside class folders"),
        (lambda p: shutil.copy(p, p.parent.parent / "Silicone Oil" / "x.png"), "different labels"),
        (lambda p: (p.parent.parent / "air bubble").mkdir(), "air bubble holds no images"),
        (lambda p: shutil.rmtree(p.parent), "one class only: silicone_oil"),
        (lambda p: shutil.rmtree(p.parent.parent), "is not a folder"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damage_is_one_clear_sentence_and_leaves_nothing(root, refuses, damage, message) -> None:
    damage(root / "protein" / "03.png")
    refuses(message)


def test_a_folder_without_classes_is_refused(root, refuses) -> None:
    shutil.rmtree(root)
    root.mkdir()
    refuses("holds no class folders")
    refuses("holds no images", labelled=False)


def test_too_few_images_of_a_class_are_refused(root, refuses) -> None:
    for path in sorted((root / "protein").iterdir())[2:]:
        path.unlink()
    refuses(r"protein \(2 groups\)")


def test_many_broken_files_are_counted(root, refuses) -> None:
    for n in range(5):
        (root / "protein" / f"{n:02d}.png").write_bytes(b"")
    refuses("00.png is empty.*4 more files")


def test_a_bit_depth_that_would_clip_is_refused(root, refuses) -> None:
    Image.fromarray(particle(1).astype(np.uint16) * 16).save(root / "protein" / "deep.png")
    refuses("bit_depth=10 but the brightest pixel", bit_depth=10)


def test_a_failure_while_writing_leaves_nothing(root, tmp_path, monkeypatch) -> None:
    from svp_lightning.data.ingest import folder

    reads = iter(range(2 * COUNT))
    real = folder.read_picture

    def failing(path: Path):
        if next(reads) == 5:
            raise DataError(f"{path} is gone.", "Copy it again.")
        return real(path)

    monkeypatch.setattr(folder, "read_picture", failing)
    with pytest.raises(DataError, match="is gone"):
        ingest_folder(tmp_path / "store", FolderSettings(root=root), lambda n: None)
    assert not (tmp_path / "store").exists()


def test_an_interrupted_import_goes_on(root, tmp_path, monkeypatch) -> None:
    from svp_lightning.data.ingest import folder, writing

    monkeypatch.setattr(folder, "_FILES_PER_UNIT", 4)
    monkeypatch.setattr(writing, "_ROWS_PER_WRITE", 8)
    settings = FolderSettings(root=root)
    whole = tmp_path / "whole"
    ingest_folder(whole, settings, lambda n: None)

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    resumed, done = tmp_path / "resumed", []
    with pytest.raises(KeyboardInterrupt):
        ingest_folder(resumed, settings, interrupt)
    ingest_folder(resumed, settings, done.append)
    assert sum(done) == 2 * COUNT - 8
    assert Store.open(resumed).manifest.sha256 == Store.open(whole).manifest.sha256
