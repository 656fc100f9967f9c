"""Images of many particles are refused, crops never; depth, marks and copies are as they are."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import zoom

from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.data.importers import images as images_module
from svp_lightning.data.importers.screening import not_one_particle
from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.data.store import SPLITS
from svp_lightning.simulation.simulator import Simulator
from tests import configured
from tests.configured import simulation
from tests.data.importers.class_folders import COUNT, particle
from tests.data.importers.made_runs import REFERENCE, plan

HEIGHT, WIDTH = 1024, 1280


def frame(particles: int, seed: int = 0, lamp: float = 0.0) -> np.ndarray:
    """A camera's frame of dark discs on grey 170, brighter in the middle by ``lamp``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = rng.normal(170, 3, (HEIGHT, WIDTH))
    image -= lamp * ((y / HEIGHT - 0.5) ** 2 + (x / WIDTH - 0.5) ** 2) * 2
    for _ in range(particles):
        cy, cx, radius = (
            rng.uniform(40, HEIGHT - 40),
            rng.uniform(40, WIDTH - 40),
            rng.uniform(3, 15),
        )
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 70
    return np.clip(image, 0, 255).astype(np.uint8)


def collage() -> np.ndarray:
    page = np.zeros((800, 1000), np.uint8)
    for k in range(40):
        top, left = 90 * (k // 8) + 2, 110 * (k % 8) + 2
        page[top : top + 60, left : left + 80] = particle(k, 60, 80)
    return page


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (collage, "is a collage of 40 particles"),
        (partial(frame, 0), "shows nothing but background"),
        *((partial(frame, n, lamp=lamp), None) for n in (1, 2, 20, 150) for lamp in (0.0, 120.0)),
    ],
)
def test_frames_and_collages_are_no_images_of_one_particle(make, what: str | None) -> None:
    found = not_one_particle(make())
    assert found
    assert what in (None, found)


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    large = zoom(image.astype(np.float32), side / max(image.shape), order=1)
    return np.clip(large, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("side", [64, 300, 512])
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_real_crops_are_images_of_one_particle(side: int) -> None:
    files = sorted((REFERENCE / "paper_crops").glob("*/*.png"))
    assert len(files) == 70
    for file in files:
        crop = np.asarray(Image.open(file).convert("L"))
        assert not_one_particle(enlarged(crop, side)) is None, file


@pytest.mark.parametrize("crop", ["window", "box"])
def test_simulated_crops_are_images_of_one_particle(crop: str) -> None:
    """As they are, and enlarged to the size of a small frame."""
    counts = dict.fromkeys(PAPER_CLASSES, 6)
    settings = simulation(counts=dict.fromkeys(SPLITS, counts), source_points=9, crop=crop)
    simulator = Simulator(settings, 64, seed=1)
    names = [PAPER_CLASSES[k % 3] for k in range(12)]
    images, _ = simulator.render(names, np.arange(12), np.arange(12) % 2)
    for image in images:
        assert not_one_particle(image) is None
        assert not_one_particle(enlarged(image, 300)) is None


@pytest.mark.parametrize("where", [(0.5, 0.5), (0.45, 0.6)])
def test_a_small_particle_in_the_middle_of_a_large_crop_is_one(where: tuple[float, float]) -> None:
    image = np.random.default_rng(0).normal(170, 3, (400, 400))
    y, x = np.mgrid[:400, :400]
    image[(y - 400 * where[0]) ** 2 + (x - 400 * where[1]) ** 2 < 8**2] = 70
    assert not_one_particle(image.clip(0, 255).astype(np.uint8)) is None


def test_frames_in_a_folder_are_refused_with_the_way_out_or_left_out(
    root: Path, ingest: Callable, refuses: Callable
) -> None:
    for n in range(2):
        Image.fromarray(frame(20, n)).save(root / "protein" / f"frame{n}.png")
    refuses("frame0.png.*1280 x 1024 px.*objects.*data=mfi.*data=collage.*1 more")
    refuses("data=mfi", labelled=False)
    store = ingest(unreadable="skip")
    assert len(store) == 2 * COUNT
    assert IngestSummary(store).skipped == {"no image of one particle": 2}
    assert not store.manifest.made_by["complete"]


def write_deep(root: Path, bits: int = 12) -> None:
    """The two classes as 16-bit files that use ``bits``."""
    for path in root.glob("*/*.png"):
        levels = np.asarray(Image.open(path)).astype(np.uint16) << (bits - 8)
        Image.fromarray(levels).save(path)


def backgrounds(store) -> np.ndarray:
    return store.particles["background_grey"].to_numpy()


def test_one_hot_pixel_does_not_darken_the_others(root: Path, ingest: Callable) -> None:
    write_deep(root)
    plain = backgrounds(ingest())
    hot = np.array(Image.open(root / "protein" / "03.png"))
    hot[2, 2] = 65535
    Image.fromarray(hot.astype(np.uint16)).save(root / "protein" / "03.png")
    store = ingest()
    assert backgrounds(store) == pytest.approx(plain, abs=1)
    assert np.median(plain) == pytest.approx(180, abs=2)
    assert "16-bit files are read as 12 bit" in "\n".join(IngestSummary(store).lines())
    (warning,) = store.manifest.made_by["warnings"]
    assert "1 of 24" in warning
    assert "protein/03.png" in warning


def test_bright_particles_are_not_taken_for_hot_pixels(root: Path) -> None:
    write_deep(root, 10)
    bright = np.array(Image.open(root / "protein" / "03.png"))
    bright[8:12, 10:14] = 3900
    Image.fromarray(bright.astype(np.uint16)).save(root / "protein" / "03.png")
    assert plan("folder", root).made_by["bit_depth_of_16_bit_files"] == 12


def burn(path: Path, rows: slice, columns: slice) -> None:
    image = np.array(Image.open(path))
    image[rows, columns] = 255
    Image.fromarray(image).save(path)


def warnings_of(root: Path, **options: object) -> list[str]:
    return plan("folder", root, **options).made_by["warnings"]


def test_images_without_marks_give_no_warning(root: Path) -> None:
    assert warnings_of(root) == []


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_real_crops_give_no_warning() -> None:
    assert warnings_of(REFERENCE / "paper_crops") == []


def test_a_scale_bar_in_every_image_is_found_and_masked(root: Path, ingest: Callable) -> None:
    clean = ingest()
    for path in root.glob("*/*.png"):
        burn(path, slice(17, 19), slice(16, 22))
    (warning,) = warnings_of(root)
    assert "same mark" in warning
    assert "data.mask=16:17:22:19 " in warning
    assert warnings_of(root, mask="16:17:22:19") == []
    masked = ingest(mask="16:17:22:19")
    kept = (clean.particles["id"] == masked.particles["id"]).all()
    assert kept
    assert np.abs(clean.images.astype(int) - masked.images).max() < 30  # noise of the background


def test_a_mark_in_one_class_only_is_named(root: Path) -> None:
    for path in (root / "protein").iterdir():
        burn(path, slice(0, 2), slice(0, 8))
    (warning,) = warnings_of(root)
    assert "Images of protein hold a mark that others lack at 0:0:8:2 " in warning


def test_a_mark_in_the_corner_of_images_of_many_sizes(tmp_path: Path) -> None:
    for k, name in enumerate(("oil", "protein")):
        (tmp_path / name).mkdir()
        for n in range(COUNT):
            file = tmp_path / name / f"{n}.png"
            Image.fromarray(particle(50 * k + n, 30 + n, 30 + 2 * n)).save(file)
            burn(file, slice(-3, -1), slice(-9, -1))
    (warning,) = warnings_of(tmp_path)
    assert "data.mask=-9:-3:-1:-1 " in warning
    assert warnings_of(tmp_path, mask="-9:-3:-1:-1") == []


def test_a_mask_may_be_an_image(root: Path, refuses: Callable) -> None:
    for path in root.glob("*/*.png"):
        burn(path, slice(17, 19), slice(16, 22))
    mask = np.zeros((20, 24), np.uint8)
    mask[17:19, 16:22] = 255
    Image.fromarray(mask).save(root / "mask.png")
    assert warnings_of(root, mask="mask.png") == []
    Image.fromarray(mask[:10]).save(root / "mask.png")
    refuses("data.mask is an image of 24 x 10 px", mask="mask.png")
    refuses("neither a box nor an image", mask="missing.png")
    (root / "mask.png").unlink()
    refuses("covers the whole", mask=":::")


@pytest.mark.parametrize("name", ["notes.docx", "Thumbs.db", "list.xlsx", "archive.zip"])
def test_only_files_that_are_used_are_opened(root: Path, ingest: Callable, name: str) -> None:
    (root / "protein" / name).symlink_to(root / "nowhere")  # cannot be opened by anyone
    store = ingest()
    assert (len(store), store.manifest.made_by["complete"]) == (2 * COUNT, True)


def test_an_image_without_permission_is_named_or_left_out(
    root: Path, ingest: Callable, refuses: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = images_module.Image.open

    def guarded(path: object, **options: object) -> Image.Image:
        if str(path).endswith("protein/03.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(images_module.Image, "open", guarded)
    refuses("protein/03.png cannot be opened.*Permission denied")
    store = ingest(unreadable="skip")
    assert len(store) == 2 * COUNT - 1
    assert IngestSummary(store).skipped == {"cannot be decoded": 1}


def test_archives_and_what_macos_packs_are_no_images(root: Path, ingest: Callable) -> None:
    (root / "__MACOSX" / "protein").mkdir(parents=True)
    (root / "__MACOSX" / "protein" / "._00.png").write_bytes(b"x")
    (root / "protein" / "__MACOSX").mkdir()
    (root / "protein" / "__MACOSX" / "00.png").write_bytes(b"x")
    (root / "protein" / "more.zip").write_bytes(b"PK")
    assert IngestSummary(ingest()).skipped == {"packed archive": 1}
    assert len(ingest(labelled=False)) == 2 * COUNT


def rename(root: Path, pattern: str) -> None:
    for path in sorted(root.glob("*/*.png")):
        n = int(path.stem)
        path.rename(path.with_name(pattern.format(run=n % 4, number=n)))


IFCB = "D2023031{run}T003037_IFCB134_{number:05d}.png"


def test_runs_in_file_names_become_groups_by_a_pattern(root: Path, ingest: Callable) -> None:
    rename(root, IFCB)
    (warning,) = warnings_of(root)
    assert "D20230310T003037_IFCB134 begins 6 of 24" in warning
    assert "\"data.group_pattern='(.+)_'\"" in warning
    table = ingest(group_pattern="(.+)_", fractions={"val": 0.25, "test": 0.25}).particles
    assert set(table["group"]) == {f"D2023031{n}T003037_IFCB134" for n in range(4)}
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert warnings_of(root, group_pattern="(.+)_") == []


@pytest.mark.parametrize("pattern", ["protein_{number}.png", "img{number:04d}.png", "{number}.png"])
def test_names_that_only_count_hold_no_run(root: Path, pattern: str) -> None:
    rename(root, pattern)
    assert warnings_of(root) == []


def test_names_without_the_pattern_are_refused(root: Path, refuses: Callable) -> None:
    refuses("24 file names do not match.*first: 00.png", group_pattern="(.+)_")
    with pytest.raises(ValueError, match="one pair of brackets"):
        configured.folder(root=root, group_pattern=".+_")
