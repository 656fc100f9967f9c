"""Every bad folder is one clear sentence and leaves nothing; an interrupted import resumes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.data.importers.writer import write_plan
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError
from tests import configured
from tests.data.importers.class_folders import COUNT, particle
from tests.data.importers.made_runs import plan


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def bomb(path: Path) -> None:
    Image.new("1", (8001, 8000)).save(path)  # Pillow itself would read it


def two_pages(path: Path) -> None:
    path.unlink()
    page = Image.fromarray(particle(1))
    page.save(path.with_suffix(".tif"), save_all=True, append_images=[page])


def few(path: Path) -> None:
    for image in sorted(path.parent.iterdir())[2:]:
        image.unlink()


def many_empty(path: Path) -> None:
    for n in range(5):
        (path.parent / f"{n:02d}.png").write_bytes(b"")


def two_of_one_name(path: Path) -> None:
    shutil.copytree(path.parents[1] / "Silicone Oil", path.parents[1] / "protein-")
    path.parent.rename(path.parents[1] / "protein+")


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
        (few, r"protein \(2 groups\)"),
        (many_empty, "00.png is empty.*4 more files"),
        (two_of_one_name, r"'protein\+' and 'protein-'"),
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


def test_a_bit_depth_that_would_clip_is_refused(root, refuses) -> None:
    Image.fromarray(particle(1).astype(np.uint16) * 16).save(root / "protein" / "deep.png")
    refuses("bit_depth=10, but the images use 12 bit", bit_depth=10)


def test_a_failure_while_writing_leaves_nothing(root, tmp_path, monkeypatch) -> None:
    from svp_lightning.data.importers import folder

    reads = iter(range(2 * COUNT))
    real = folder.read_picture

    def failing(path: Path):
        if next(reads) == 5:
            raise DataError(f"{path} is gone.", "Copy it again.")
        return real(path)

    monkeypatch.setattr(folder, "read_picture", failing)
    with pytest.raises(DataError, match="is gone"):
        write_plan(tmp_path / "store", plan("folder", root), 2, lambda n: None)
    assert not (tmp_path / "store").exists()


def test_an_interrupted_import_resumes(root, tmp_path, monkeypatch) -> None:
    from svp_lightning.data.importers import folder, writer

    monkeypatch.setattr(folder, "_FILES_PER_UNIT", 4)
    monkeypatch.setattr(writer, "_ROWS_PER_WRITE", 8)
    whole = tmp_path / "whole"
    write_plan(whole, plan("folder", root), 2, lambda n: None)

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    resumed, done = tmp_path / "resumed", []
    with pytest.raises(KeyboardInterrupt):
        write_plan(resumed, plan("folder", root), 2, interrupt)
    write_plan(resumed, plan("folder", root), 2, done.append)
    assert sum(done) == 2 * COUNT - 8
    assert Store.open(resumed).manifest.sha256 == Store.open(whole).manifest.sha256


def test_no_folder_is_not_the_current_one() -> None:
    with pytest.raises(ValueError, match="is empty"):
        configured.folder("")


def test_a_folder_of_archives_says_what_to_do(root: Path, refuses: Callable) -> None:
    shutil.rmtree(root)
    root.mkdir()
    (root / "protein.zip").write_bytes(b"PK")
    refuses("no class folders, but protein.zip, which must be unpacked")
    refuses("no images, but protein.zip", labelled=False)


def in_splits(root: Path) -> None:
    for path in sorted(root.glob("*/*.png")):
        split = ("train", "train", "val", "test")[int(path.stem) % 4]
        os.renames(path, root / split / path.parent.name / path.name)


def test_copies_of_test_images_in_training_are_named_counted_and_left_out(
    root: Path, ingest: Callable, refuses: Callable
) -> None:
    in_splits(root)
    for n in (3, 7):
        test = root / "test" / "protein" / f"{n:02d}.png"
        shutil.copy(test, root / "train" / "protein" / f"copy{n}.png")
    refuses(
        r"test/protein/03.png \(test\) and train/protein/copy3.png \(train\) are the same image "
        "in two splits, as are 1 more"
    )
    store = ingest(unreadable="skip")
    assert len(store) == 2 * COUNT
    assert not store.particles["id"].str.contains("copy").any()
    assert IngestSummary(store).skipped == {"copy of an image of another split": 2}
    assert store.counts("test") == {"protein": 3, "silicone_oil": 3}


def test_images_with_two_labels_are_counted_and_left_out(
    root: Path, ingest: Callable, refuses: Callable
) -> None:
    for n in (0, 1):
        shutil.copy(root / "protein" / f"{n:02d}.png", root / "Silicone Oil" / f"other{n}.png")
    refuses("same image with different labels, as are 1 more")
    assert len(ingest(unreadable="skip")) == 2 * COUNT - 2
