"""A run whose inputs have changed is another run."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from svp_lightning.config import run_folder, run_identity
from svp_lightning.errors import CheckpointError, DataError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import STAGE_VERSIONS

Build = Callable[..., Pipeline]


@pytest.fixture
def own(svp_pipeline: Build, tmp_path: Path) -> Callable[..., Path]:
    """The run folder of a configuration on ``images``, or another folder."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_text("old image")
    (tmp_path / "labels.csv").write_text("id,label\n0.png,oil\n")

    def folder(root: str = "images", *overrides: str) -> Path:
        labels = f"data.labels={tmp_path / 'labels.csv'}"
        data = ("data=folder", f"data.root={tmp_path / root}", labels)
        return run_folder(svp_pipeline(*data, *overrides).config)

    return folder


@pytest.mark.parametrize("changed", ["images/0.png", "labels.csv", "elsewhere/1.png"])
def test_new_images_or_labels_are_another_run(
    own: Callable[..., Path], tmp_path: Path, changed: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_text("old image")
    (tmp_path / "images" / "oil").symlink_to(tmp_path / "elsewhere")
    before = own()
    assert own() == before
    content = (tmp_path / changed).read_text()
    (tmp_path / changed).write_text(content.replace("o", "i"))
    assert own() != before


def test_moved_images_are_the_same_run(own: Callable[..., Path], tmp_path: Path) -> None:
    before = own()
    (tmp_path / "images").rename(tmp_path / "moved")
    assert own("moved") == before
    with pytest.raises(DataError, match=r"data.root=.*images"):
        own()
    own("images", "task=doctor")  # asks for no images


def test_predictions_are_named_after_the_classifier_that_is_used(
    own: Callable[..., Path], tmp_path: Path
) -> None:
    weights = tmp_path / "resnet50_none_0x_seed2_01234567" / "classifier.ckpt"
    weights.parent.mkdir()
    weights.write_text("old")
    predict = ("images", "task=predict", f"predict.run={weights.parent}")
    before = own(*predict)
    assert before.name.startswith("predict_resnet50_none_0x_seed2_01234567_")
    assert own(*predict, "augmentation=none", "seed=3") == before  # has no part in it
    training = own()
    (tmp_path / "images" / "water").mkdir()  # a vial without a particle, if images are counted
    assert own() == training
    assert own(*predict) != before
    (tmp_path / "images" / "water").rmdir()
    weights.write_text("newer")
    assert own(*predict) != before
    with pytest.raises(CheckpointError, match="holds no classifier"):
        own("images", "task=predict", f"predict.run={tmp_path}")


def test_results_among_the_images_make_no_other_run(
    own: Callable[..., Path], tmp_path: Path
) -> None:
    places = [f"paths.{name}={tmp_path / 'images' / name}" for name in ("artifacts", "outputs")]
    before = own("images", *places)
    (tmp_path / "images" / "outputs").mkdir()
    (tmp_path / "images" / "outputs" / "sheet.png").write_text("a result")
    assert own("images", *places) == before


def test_simulated_data_is_its_settings(svp_pipeline: Build) -> None:
    config = svp_pipeline("augmentation=none").config
    identity = run_identity(config)
    assert identity.pop("versions").keys() == {"store", "classifier", "evaluation"}
    assert identity == config.identity()


@pytest.mark.parametrize(
    ("stage", "using", "not_using"),
    [
        ("generator", "augmentation=diffusion", "augmentation=none"),
        ("hardest", "augmentation=hard_negatives", "augmentation=none"),
        ("filtered", "augmentation=diffusion_filtered", "augmentation=hard_negatives"),
        ("looks", "augmentation=simulated_matched", "augmentation=simulated"),
        ("import", "data=folder data.root=.", "data=simulated"),
        ("evaluation", "task=evaluate", "task=train_classifier"),
    ],
)
def test_runs_of_another_version_of_a_used_stage_are_other_runs(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch, stage: str, using: str, not_using: str
) -> None:
    Path("0.png").write_text("an image")
    configs = [svp_pipeline(*overrides.split()).config for overrides in (using, not_using)]
    before = [run_folder(config) for config in configs]
    monkeypatch.setitem(STAGE_VERSIONS, stage, STAGE_VERSIONS[stage] + 1)
    assert run_folder(configs[0]) != before[0]
    assert run_folder(configs[1]) == before[1]


@pytest.mark.parametrize("part", ["classifier", "features.classifier"])
def test_replaced_weights_are_other_settings(
    svp_pipeline: Build, tmp_path: Path, part: str
) -> None:
    weights = tmp_path / "resnet18.pt"
    weights.write_text("old")
    given = f"+{part}.pretrained_weights={weights}".replace("+classifier", "classifier")
    config = svp_pipeline(given).config
    network = config.classifier if part == "classifier" else config.features
    before = network.identity()
    weights.write_text("newer")
    assert network.identity() != before


def test_part_of_the_store_is_mixed_with_the_rare_classes_of_the_whole(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an audit trains on: a class near the limit is rare in one and not in the other."""
    pipeline = svp_pipeline("augmentation=duplicate")
    whole, part = (
        SimpleNamespace(counts=lambda _, n=n: {"protein": 60, "silicone_oil": n}) for n in (29, 31)
    )
    pipeline.__dict__["store"] = whole
    monkeypatch.setattr("svp_lightning.data.mix.mix", lambda *given: given[-1])
    assert pipeline._rows(part, None) == ("silicone_oil",)


def test_simulated_classes_without_images_are_left_out(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, generated = svp_pipeline(), SimpleNamespace(path=Path("pool"))
    monkeypatch.setattr(pipeline, "images", lambda *_: generated)
    wanted = {"silicone_oil": 4}, {"air_bubble": 0}
    monkeypatch.setattr(pipeline, "drawn_and_simulated", lambda *_: wanted)
    assert pipeline.pool is generated
    pipeline.__dict__["generator"] = Path("generator")
    assert pipeline.added_sources == {"generator": Path("generator"), "synthetic": Path("pool")}
