"""``task=assess``: from the command line to fidelity.json, page and table."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from svp_lightning.data.store import spread
from svp_lightning.evaluation.fidelity.class_fidelity import ClassFidelity, ImageSet, assess_class
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.fidelity import fidelity_section
from svp_lightning.stages import assessment
from tests.configured import tiny
from tests.conftest import Program
from tests.report.made_up import made_up_fidelity

Build = Callable[..., Pipeline]


@pytest.mark.draws
def test_writes_numbers_with_floors_a_page_and_a_table(svp: Program, tmp_path: Path) -> None:
    svp("task=assess", "assess.draws=4")
    out = svp.said()
    (file,) = tmp_path.glob("outputs/default/assess_*/fidelity.json")
    found = json.loads(file.read_text())
    assert list(found["classes"]) == ["silicone_oil", "air_bubble"]
    assert found["provenance"]["filtered"] is False
    for name, one in found["classes"].items():
        assert one["counts"] == {"train": 12, "heldout": 12, "generated": 12}
        for values in one["features"].values():
            for side in ("generated", "floor"):
                assert values[side]["low"] <= values[side]["value"] <= values[side]["high"]
        assert 0 <= one["features"]["precision"]["generated"]["value"] <= 1
        assert one["memorisation"]["verdict"] in ("novel", "close", "copies")
        for kind in ("morphology", "distances", "pairs"):
            assert (file.parent / "figures" / f"fidelity_{kind}_{name}.png").is_file()
    page = (file.parent / "report.html").read_text(encoding="utf-8")
    assert "://" not in page
    assert "Two-sample AUC" in page
    assert "Silicone oil" in out
    assert "floor" in out


def test_too_few_test_images_are_refused_before_anything_is_trained(
    svp: Program, tmp_path: Path
) -> None:
    own = f"paths.artifacts={tmp_path / 'own'}"
    error = svp.fails("task=assess", "scale.counts.test.silicone_oil=5", own)
    assert "silicone_oil has 12 training, 5 test and 12 generated images" in error
    assert [folder.name for folder in (tmp_path / "own").iterdir()] == ["store"]


def test_interrupted_assessment_keeps_its_classes(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = svp_pipeline("assess.draws=3")
    whole = assessment.assess_class
    seen: list[str] = []

    def failing(*sets: ImageSet, **options: Any) -> ClassFidelity:
        seen.append("class")
        if len(seen) == 2:
            raise KeyboardInterrupt
        return whole(*sets, **options)

    def build() -> Path:
        config, device, pool = pipeline.config, torch.device("cpu"), pipeline.images(1.0)
        pool.manifest.made_by["filter"] = {}
        return assessment.build_fidelity(
            config.assess, "tiny", pipeline.store, pool, pipeline.features, pipeline.cache, device
        )

    monkeypatch.setattr(assessment, "assess_class", failing)
    with pytest.raises(KeyboardInterrupt):
        build()
    folder = build()
    assert len(seen) == 3  # two classes, one of them twice
    assert {f.name for f in folder.iterdir()} == {"artifact.json", "fidelity.json", "figures"}
    assert json.loads((folder / "fidelity.json").read_text())["provenance"]["filtered"] is True
    assert build() == folder
    assert len(seen) == 3


def store_of(pixel_size_um: float) -> Any:
    """A store whose images are the same whatever their pixels are."""
    return SimpleNamespace(sha256="same", image_pixel_um=pixel_size_um)


def test_other_pixels_are_another_assessment(monkeypatch: pytest.MonkeyPatch) -> None:
    cache: Any = SimpleNamespace(build=lambda _stage, identity, _make: identity)
    pool, device, tried = store_of(1.0), torch.device("cpu"), tiny().assess
    first, second = (
        assessment.build_fidelity(tried, "tiny", store_of(um), pool, Path("f"), cache, device)
        for um in (1.0, 2.0)
    )
    assert first != second
    cache.finished = lambda _: iter([(Path("first"), first), (Path("second"), second)])
    attached: list[Path] = []
    monkeypatch.setattr(assessment, "attach_fidelity", lambda folder, _: attached.append(folder))
    assessment.attach_finished(cache, store_of(1.0), pool, Path("run"))
    assert attached == [Path("first")]


def image_set(seed: int, n: int, images: np.ndarray | None = None) -> ImageSet:
    """Random images whose features are a few of their pixels; every fourth is taken for others."""
    from svp_lightning.evaluation.fidelity.copies import symmetric_images

    if images is None:
        images = np.random.default_rng(seed).integers(60, 200, (n, 16, 16), dtype=np.uint8)
        images[:, 5:11, 5:11] //= 4
    turned = symmetric_images(images).astype(np.float32)
    features = turned[:, :, 4:12:2, 4:12:2].reshape(8, n, -1) / 64
    return ImageSet(images, features, np.arange(n) % 4 > 0)


def test_floor_of_new_images_and_verdict_on_copies() -> None:
    train, heldout = image_set(1, 80), image_set(2, 60)
    new = assess_class(train, heldout, image_set(3, 60), draws=10).found
    assert new.memorisation.verdict == "novel"
    assert (new.compared, new.counts) == (60, {"train": 80, "heldout": 60, "generated": 60})
    json.dumps(new.model_dump(mode="json"), allow_nan=False)
    for one in new.features.values():  # both sides are drawn alike
        assert (one.generated.low or 0) <= (one.floor.high or 0)
        assert (one.floor.low or 0) <= (one.generated.high or 0)
    for share in (new.recognised.generated, new.recognised.floor):
        assert share.value == 0.75
        assert 0.6 < (share.low or 0) < 0.75 < (share.high or 0) < 0.9
    copies = image_set(0, 60, train.images[:60, ::-1].copy())
    found = assess_class(train, heldout, copies, draws=4).found
    assert found.memorisation.verdict == "copies"


def test_few_generated_images_are_compared_with_held_out_ones_of_all_runs() -> None:
    train, heldout, generated = image_set(1, 80), image_set(2, 60), image_set(3, 20)
    heldout.images[40:] += 40  # the last of three runs
    found = assess_class(train, heldout, generated, draws=4)
    assert found.found.compared == 20
    assert (found.measured[0].mean_intensity > 60).sum() > 3


def test_report_section_says_what_was_found(tmp_path: Path) -> None:
    train, heldout = image_set(1, 80), image_set(2, 60)
    sets = {"novel_kind": image_set(3, 60), "copied_kind": image_set(0, 60, train.images[:60])}
    classes = {
        name: assess_class(train, heldout, generated, draws=4).found.model_dump(mode="json")
        for name, generated in sets.items()
    }
    assert fidelity_section(tmp_path) is None
    (tmp_path / "fidelity.json").write_text(json.dumps(made_up_fidelity(**classes)))
    section = fidelity_section(tmp_path)
    assert section is not None
    features, _, _ = section.classes[0].tables
    label, (_, (share, interval), (real, _)) = features.rows[-1]
    assert (label, share, real) == ("Taken for its class", "0.750", "0.750")
    assert interval == "0.628 to 0.842"
    assert "no sign of copying" in section.verdicts[0]
    assert "60 of 60" in section.verdicts[1]
    rows = dict(section.classes[1].tables[2].rows)
    cells = [value for value, _ in rows["Equal to a training image, in grey levels"]]
    assert cells == ["60 of 60 (100 %)", "0 of 60 held-out", "< 0.001"]


def test_few_copies_in_a_pool_are_found_and_named() -> None:
    train, heldout, images = image_set(1, 300), image_set(2, 150), image_set(3, 300).images
    images[:18] = train.images[:18]
    found = assess_class(train, heldout, image_set(0, 300, images), draws=4)
    assert found.found.memorisation.verdict == "copies"
    assert [space.found.identical.count for space in (found.pixel, found.feature)] == [18, 18]


def test_report_of_a_run_shows_the_assessment_of_its_pool(svp: Program, tmp_path: Path) -> None:
    arm = (
        *("augmentation=diffusion", "augmentation.method=diffusion_simulated"),
        *("augmentation.simulated_classes=[silicone_oil]", "augmentation.microscopes=2"),
    )
    svp(*arm, "task=assess", "assess.draws=4")
    svp(*arm)
    svp("augmentation=none")
    pages = {
        file.parent.name: (file.read_text(encoding="utf-8"), (file.parent / "fidelity.json"))
        for file in tmp_path.glob("outputs/default/resnet18_*/report.html")
    }
    with_pool, without = (
        next(page for name, page in pages.items() if method in name)
        for method in ("diffusion", "none")
    )
    assert 'id="fidelity"' in with_pool[0]
    assert with_pool[1].is_file()
    assert 'id="fidelity"' not in without[0]
    assert not without[1].is_file()


def test_held_out_images_are_looked_at_up_to_a_limit() -> None:
    rows = np.arange(100, 1100, dtype=np.int64)
    np.testing.assert_array_equal(spread(rows, 1000), rows)
    few = spread(rows, 11)
    assert few.tolist() == sorted(set(few.tolist()))
    assert (few[0], few[-1], len(few)) == (100, 1099, 11)
