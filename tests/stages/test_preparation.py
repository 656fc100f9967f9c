"""Images to predict are prepared as the classifier's were, or the difference is reported."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from svp_lightning.data.settings import FolderSettings, MfiSettings
from svp_lightning.data.store import Store
from svp_lightning.errors import SettingsError
from svp_lightning.runtime.files import sha256_of_file
from svp_lightning.stages.preparation import (
    Preparation,
    differences,
    prepared_as_trained,
    trained_preparation,
)
from svp_lightning.stages.settings import DataSettings
from tests import configured
from tests.conftest import Program, results
from tests.data.importers.made_runs import imported, write_discs

ROOT = Path("/images")


def prepared(**changes: object) -> Preparation:
    usual = {"source": "folder", "background": None, "background_grey": 168, "pixel_um": (0.5, 0.5)}
    return Preparation.model_validate(usual | changes)


@pytest.mark.parametrize(
    ("data", "trained", "used"),
    [
        (configured.folder(root=ROOT), 100, 100),
        (configured.folder(root=ROOT, background=100), 100, 100),
        (configured.folder(root=ROOT, background=100), None, 100),
        (configured.folder(root=ROOT), None, None),
        (configured.mfi(root=ROOT), 100, 100),
        (configured.mfi(root=ROOT), 210, 210),
        (configured.mfi(root=ROOT), None, None),
        (configured.mfi(root=ROOT, background=None), None, None),
    ],
)
def test_the_training_runs_background_is_used(
    data: FolderSettings | MfiSettings, trained: int | None, used: int | None
) -> None:
    found = prepared_as_trained(data, prepared(background=trained))
    assert found == data.model_copy(update={"background": used})


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (configured.folder(root=ROOT, background=120), "data.background=120"),
        (configured.mfi(root=ROOT, background=None), "data.background=null"),
    ],
)
def test_another_background_than_the_training_runs_is_refused(
    data: DataSettings, named: str
) -> None:
    with pytest.raises(SettingsError, match=f"{named}, .* data.background=100"):
        prepared_as_trained(data, prepared(background=100))


def test_large_particles_are_scaled_down_where_the_training_run_did_so() -> None:
    data = configured.folder(root=ROOT)
    assert prepared_as_trained(data, prepared(fit="shrink")).fit == "shrink"
    assert prepared_as_trained(data, prepared()).fit == "cut"
    with pytest.raises(SettingsError, match=r"data.fit=shrink, .* with data.fit=cut"):
        prepared_as_trained(configured.folder(root=ROOT, fit="shrink"), prepared())


def test_a_classifier_of_simulated_images_leaves_the_setting_alone() -> None:
    trained = prepared(source="simulated")
    data = configured.mfi(root=ROOT)
    assert prepared_as_trained(data, trained) == data


@pytest.mark.parametrize(
    ("data", "trained", "used"),
    [
        (configured.folder(root=ROOT), {"bit_depth": 12}, {"bit_depth": 12}),
        (configured.folder(root=ROOT, bit_depth=14), {"bit_depth": 12}, {}),
        (configured.folder(root=ROOT), {"mask": ":-4::"}, {"mask": ":-4::"}),
        (configured.folder(root=ROOT, mask="0:0:0:0"), {"mask": ":-4::"}, {}),
        (configured.folder(root=ROOT), {"mask": "bar.png", "mask_sha256": "1f"}, {}),
        (configured.folder(root=ROOT), {"mask": "../../elsewhere.png"}, {}),
        (configured.mfi(root=ROOT), {"source": "mfi", "margin_px": 9}, {"margin_px": 9}),
        (configured.mfi(root=ROOT, margin_px=2), {"source": "mfi", "margin_px": 9}, {}),
        (configured.mfi(root=ROOT), {"bit_depth": 12, "mask": ":-4::"}, {}),
    ],
)
def test_files_are_read_as_the_training_runs_were(
    data: FolderSettings | MfiSettings, trained: dict[str, object], used: dict[str, object]
) -> None:
    found = prepared_as_trained(data, prepared(background=data.background, **trained))
    assert found == data.model_copy(update=used)


@pytest.mark.parametrize(
    ("there", "here", "reported"),
    [
        ({"bit_depth": 12}, {"bit_depth": 10}, "as 10 bit, those of .* as 12 bit"),
        ({"bit_depth": 12}, {}, None),  # files of 8 bit
        ({"mask": ":-4::"}, {}, "no data.mask, .* with data.mask=:-4::"),
        ({}, {"mask": ":-4::"}, "data.mask=:-4::, .* with no data.mask"),
        ({"mask": "a.png", "mask_sha256": "1f"}, {"mask": "b.png", "mask_sha256": "1f"}, None),
        (
            {"mask": "a.png", "mask_sha256": "1f"},
            {"mask": "a.png", "mask_sha256": "2e"},
            r"sha256 2e\).*sha256 1f\)",
        ),
        ({"mask": ":-4::"}, {"source": "flowcam"}, None),
        ({"source": "mfi", "margin_px": 4}, {"source": "mfi", "margin_px": 9}, "of 9 px .* 4 px"),
    ],
)
def test_one_warning_says_that_files_are_read_otherwise(
    there: dict[str, object], here: dict[str, object], reported: str | None
) -> None:
    lines = differences(ROOT, prepared(**there), prepared(**here))
    assert len(lines) == (reported is not None)
    assert reported is None or re.search(reported, lines[0])


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({}, []),
        ({"background_grey": 172, "pixel_um": (0.509, 0.509)}, []),
        ({"pixel_um": None}, ["not compared: that of these images"]),
        ({"pixel_um": (0.495, 0.505)}, []),
        ({"pixel_um": (0.5, 1.25)}, ["0.5 to 1.25 µm .* 0.5 µm .* 40% to 100%"]),
        ({"background_grey": 180}, ["180 (median).* 168. data.background=168 scales"]),
        ({"pixel_um": (0.52, 0.52)}, ["0.52 µm .* 0.5 µm .* 96%"]),
        ({"pixel_um": (0.48, 0.48), "background_grey": 100}, ["grey level 100", "104%"]),
    ],
)
def test_only_differences_that_matter_are_reported(
    changes: dict[str, object], reported: list[str]
) -> None:
    lines = differences(ROOT, prepared(), prepared(**changes))
    assert len(lines) == len(reported)
    for line, wanted in zip(lines, reported, strict=True):
        for part in wanted.split(".*"):
            assert part.strip() in line


def test_mfi_runs_of_small_and_of_large_particles_have_one_pixel_size(tmp_path: Path) -> None:
    found = {}
    for name, radii, slope in (
        ("trained", (3, 6), 1.35),
        ("large", (6, 20), 1.35),
        ("other", (3, 20), 1.5),
    ):
        write_discs(tmp_path / name, 1, slope, radii)
        settings = configured.mfi(root=tmp_path / name, labelled=False)
        store = imported("mfi", tmp_path / name, labelled=False)
        found[name] = Preparation.of(settings, store)
    assert differences(ROOT, found["trained"], found["large"]) == []
    (warning,) = differences(ROOT, found["trained"], found["other"])
    assert "a pixel is 1.5 µm in these images, 1.35 µm in the" in warning


def draw(folder: Path, level: int, size: int, generator: np.random.Generator) -> None:
    """Twelve spots on a background of about 168."""
    folder.mkdir(parents=True)
    for number in range(12):
        image = generator.normal(168, 2, (size, size)).clip(0, 255)
        image[5:9, 5:9] = level
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")


def test_predicted_images_get_the_background_trained_on(svp: Program, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, level in (("oil", 40), ("air", 90)):
        draw(tmp_path / "images" / name, level, 16, generator)
    data = ("data=folder", f"data.root={tmp_path / 'images'}")
    own = f"paths.artifacts={tmp_path / 'own'}"
    svp("augmentation=none", *data, "data.background=100", "data.pixel_size_um=0.5", own)
    run = svp.run
    trained = trained_preparation(run)
    assert trained is not None
    assert trained.model_dump(mode="json") == results(run)["provenance"]["preparation"]
    assert (trained.background, trained.pixel_um) == (100, (0.5, 0.5))
    assert trained.background_grey == pytest.approx(100, abs=2)

    svp.said()
    predict = ("task=predict", f"predict.run={run}", *data, own)
    svp(*predict, "data.pixel_size_um=0.6", "data.volume_ml={air: 0.1, oil: 0.4}", "study=new")
    out = svp.said()
    assert "Backgrounds are scaled to grey level 100" in out
    assert "a pixel is 0.6 µm in these images, 0.5 µm in" in out
    assert "Warning: the background" not in out
    stores = [Store.open(file.parent) for file in tmp_path.glob("own/store/*/manifest.json")]
    (new,) = [store for store in stores if not store.class_names]
    assert np.median(new.images[:, 0]) == pytest.approx(100, abs=2)
    (table,) = tmp_path.glob("outputs/new/*/counts.csv")
    kept = json.loads(table.with_name("preparation.json").read_text())
    assert kept["data"] == new.sha256
    assert kept["classifier"] == sha256_of_file(run / "classifier.ckpt")
    assert [kept[side]["background"] for side in ("trained_on", "predicted")] == [100, 100]
    counts = pd.read_csv(table).set_index(["group", "class"])
    assert counts["per_ml"].xs("all", level="class").to_dict() == pytest.approx(
        {"air": 120, "oil": 30, "all groups": 48}
    )

    why = svp.fails(*predict, "data.background=120")
    assert "data.background=120, but the classifier" in why
    (run / "results.json").unlink()
    svp(*predict, "study=old")
    said = svp.said()
    assert "does not record how its images were prepared" in said
    assert "data.volume_ml=<mL>" in said


def draw_deep(folder: Path, size: int, brightness: float, generator: np.random.Generator) -> None:
    """Twelve dark spots on grey, 12 bit in files of 16, with a bright bar in the lowest rows."""
    folder.mkdir(parents=True)
    for number in range(12):
        image = generator.normal(2700 * brightness, 30, (size, size))
        image[5:9, 5:9] = 600 * brightness + number
        image[-2:, :6] = 4000 * brightness
        Image.fromarray(image.astype(np.uint16)).save(folder / f"{number}.png")


def test_a_dim_set_of_16_bit_images_is_not_brightened(svp: Program, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, brightness in (("oil", 1.0), ("air", 0.95)):
        draw_deep(tmp_path / "images" / name, 16, brightness, generator)
    draw_deep(tmp_path / "dim", 16, 0.2, generator)
    own = f"paths.artifacts={tmp_path / 'own'}"
    data = ("data=folder", f"data.root={tmp_path / 'images'}", "data.mask=:-2::")
    svp("augmentation=none", *data, own)
    run = svp.run
    assert results(run)["provenance"]["preparation"]["bit_depth"] == 12
    svp.said()
    predict = ("task=predict", f"predict.run={run}", "data=folder", f"data.root={tmp_path / 'dim'}")

    svp(*predict, "study=alike", own)
    said = svp.said()
    assert "16-bit files are read as 12 bit, as for the classifier's training" in said
    assert "data.mask=:-2:: is replaced by background, as for" in said
    assert "Warning: the background of these images is at grey level 3" in said
    store = newest_store(tmp_path)
    assert np.median(store.images[:, 0]) == pytest.approx(2700 * 0.2 * 255 / 4095, abs=2)
    assert np.median(store.images[:, -1, :6]) == pytest.approx(2700 * 0.2 * 255 / 4095, abs=4)

    svp(*predict, "data.bit_depth=10", "study=own", own)
    said = svp.said()
    assert "Warning: 16-bit files are read as 10 bit, those of" in said
    assert np.median(newest_store(tmp_path).images[:, 0]) == pytest.approx(134, abs=3)


def newest_store(folder: Path) -> Store:
    files = folder.glob("own/store/*/manifest.json")
    return Store.open(max(files, key=lambda file: file.stat().st_mtime_ns).parent)
