"""``task=export`` from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.onnx_export import available
from svp_lightning.classifier.packaged import read_packaged
from svp_lightning.commands import export
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError
from svp_lightning.evaluation.predictions import read_predictions
from svp_lightning.generator.checkpoint import GeneratorInfo, save_generator
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.files import sha256_of_file
from svp_lightning.stages.generator_export import fidelity_of
from tests import configured
from tests.conftest import Program, results
from tests.narrow import use_narrow_backbones
from tests.report.made_up import made_up_class, made_up_fidelity

NAMES = ("protein", "silicone_oil", "air_bubble")


def save_untrained(folder: Path, names: tuple[str, str] = ("a", "b"), **changes: Any) -> None:
    network = {"block_channels": (8,), "attention": (False,)}
    settings = configured.generator(network=network, **changes)
    info = GeneratorInfo(settings=settings, class_names=names, image_size=16)
    save_generator(folder, Denoiser(settings, 16, 2), info)


def test_export_is_whole_and_overwrites_nothing(svp: Program, tmp_path: Path) -> None:
    svp("task=export", "generator.classes=all", "export.samples_per_class=2")
    (folder,) = tmp_path.glob("outputs/default/*")
    assert "trust_remote_code" in svp.said()
    store = Store.open(folder / "samples" / "store")
    assert store.counts("") == dict.fromkeys(NAMES, 2)
    assert set(store.particles["origin"]) == {"synthetic"}
    for k, (name, number) in enumerate(zip(store.particles["label"], [0, 1] * 3, strict=True)):
        picture = Image.open(folder / "samples" / "images" / name / f"{name}-{number:07d}.png")
        assert np.array_equal(np.asarray(picture), store.images[k])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "overwrites nothing" in svp.fails(
        "task=export", "generator.classes=all", "export.samples_per_class=2"
    )
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]

    # From a folder: the same weights, with the fidelity that was measured of them.
    (generator,) = (path.parent for path in svp.artifacts.glob("generator/*/generator.json")
                    if store.manifest.made_by["generator"]
                    == sha256_of_file(path.with_name("model.safetensors")))  # fmt: skip
    fidelity = made_up_fidelity()
    fidelity["provenance"] |= {k: store.manifest.made_by[k] for k in ("generator", "sampler")}
    (tmp_path / "fidelity.json").write_text(json.dumps(fidelity))
    svp(f"export.generator={generator}", "task=export", "export.to=mine",
        "export.fidelity=fidelity.json", "export.samples_per_class=1")  # fmt: skip
    unet = Path("unet/diffusion_pytorch_model.safetensors")
    assert (tmp_path / "mine" / unet).read_bytes() == (folder / unet).read_bytes()
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    code = list((tmp_path / "mine").rglob("*.py"))
    assert all(f"| `{file.name}` | SHA-256 `{sha256_of_file(file)}` |" in card for file in code)
    of_ours = {file.name.split("_")[1] for file in code}
    assert of_ours == {"networks", "noise", "sampling", "solver", "traits"}
    assert "| time |" in card
    assert "| Kid | 0.0123 | 0.01 to 0.015 | 0.002 |" in card
    assert "license: other" in card


def test_fidelity_of_another_generator_is_refused(svp: Program, tmp_path: Path) -> None:
    (tmp_path / "fidelity.json").write_text(json.dumps(made_up_fidelity()))
    assert "not about all images of this generator" in svp.fails(
        "task=export",
        "export.to=mine",
        "export.fidelity=fidelity.json",
        "export.samples_per_class=1",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["fidelity.json"]


def test_the_card_has_what_was_measured_of_most_classes_drawn_in_this_way(tmp_path: Path) -> None:
    sampler = configured.sampler(precision="float32")
    drawn = sampler.identity() | {"precision": "bfloat16", "seed": 3}
    found = {
        "a": (drawn | {"steps": 9}, False, ("oil", "air", "glass")),
        "b": (drawn, False, ("oil",)),
        "c": (drawn, False, ("oil", "air")),
        "d": (drawn, True, ("oil", "air", "glass")),
        "e": (drawn, None, ("oil", "air", "glass")),  # a file that does not say
    }
    for name, (one, filtered, classes) in found.items():
        fidelity = made_up_fidelity(**{each: made_up_class() for each in classes})
        fidelity["provenance"] = {"generator": "f00d", "sampler": one, "filtered": filtered}
        (tmp_path / name).mkdir()
        (tmp_path / name / "fidelity.json").write_text(json.dumps(fidelity))
    known = fidelity_of("f00d", sampler, None, [tmp_path])
    assert known is not None
    assert set(known.classes) == {"oil", "air"}
    assert fidelity_of("f00d", configured.sampler(steps=5), None, [tmp_path]) is None
    for name in "ade":
        with pytest.raises(DataError, match=r"all images of this generator .* and this sampler"):
            fidelity_of("f00d", sampler, tmp_path / name / "fidelity.json", [])


def test_pixels_are_those_of_the_data_at_hand(
    svp_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    save_untrained(tmp_path / "own")
    given = ("task=export", f"export.to={tmp_path / 'mine'}", "export.samples_per_class=1")
    pipeline = svp_pipeline(*given)
    pipeline.__dict__["generator"] = tmp_path / "own"
    export.run(pipeline)
    samples = Store.open(tmp_path / "mine" / "samples" / "store")
    assert samples.pixel_size_um == pipeline.store.image_pixel_um is not None


def test_a_sampler_that_starts_from_simulated_images_is_not_exported(svp: Program) -> None:
    given = ("task=export", "export.generator=own", "sampler.start_ratio=1")
    assert "an exported generator does not have" in svp.fails(*given)


def test_export_of_something_else_is_refused(svp: Program, tmp_path: Path) -> None:
    assert "is no generator" in svp.fails("task=export", f"export.generator={tmp_path}")


def test_a_generator_whose_class_names_lead_elsewhere_is_not_exported(
    svp: Program, tmp_path: Path
) -> None:
    save_untrained(tmp_path / "foreign")
    file = tmp_path / "foreign" / "generator.json"
    file.write_text(file.read_text().replace('"b"', '"../../escaped"'))
    (tmp_path / "below").mkdir()
    given = ("export.generator=foreign", "export.to=below/mine", "export.samples_per_class=1")
    assert "'../../escaped' cannot name a class" in svp.fails("task=export", *given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["below", "foreign"]
    assert not list((tmp_path / "below").iterdir())


def test_classes_may_be_called_as_what_is_written_next_to_them(
    svp: Program, tmp_path: Path
) -> None:
    names = ("store", "sheet.png")
    save_untrained(tmp_path / "own", names)
    svp("task=export", "export.generator=own", "export.to=mine", "export.samples_per_class=2")
    samples = tmp_path / "mine" / "samples"
    assert Store.open(samples / "store").counts("") == {"store": 2, "sheet.png": 2}
    assert Image.open(samples / "sheet.png").format == "PNG"
    for name in names:
        pictures = [path.name for path in sorted((samples / "images" / name).iterdir())]
        assert pictures == [f"{name}-000000{k}.png" for k in range(2)]


def test_guidance_that_the_exported_generator_has_not_learnt_is_refused(
    svp: Program, tmp_path: Path
) -> None:
    save_untrained(tmp_path / "unhidden", diffusion={"class_dropout": 0})
    given = ("task=export", "export.generator=unhidden", "export.to=mine", "sampler.guidance=2")
    assert "class_dropout is 0" in svp.fails(*given)
    assert not (tmp_path / "mine").exists()


def test_a_runs_classifier_is_exported_with_what_was_measured_of_it(
    svp: Program, tmp_path: Path
) -> None:
    svp("augmentation=none")
    run = svp.run
    svp("task=export", f"export.classifier={run}", "export.to=mine")
    mine, said = tmp_path / "mine", svp.said()
    with pytest.MonkeyPatch.context() as patch:
        use_narrow_backbones(patch)
        config, module = read_packaged(mine)
        own = Classifier.load(run / "classifier.ckpt")
    weights = own.network.state_dict()
    found = module.network.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in weights.items())
    before, after = (read_predictions(folder / "predictions.parquet") for folder in (run, mine))
    assert np.array_equal(before.probabilities, after.probabilities)
    assert np.array_equal(before.labels, after.labels)
    assert not set(before.ids) & set(after.ids)
    assert config.trained_shares == before.shares
    assert config.calibration is not None
    assert config.calibration.temperature == results(run)["calibration"]["temperature"]
    card = (mine / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0"
    for fact in (f"{results(run)['metrics']['macro_auprc']:.3g}", "16 × 16 px", "simulated"):
        assert fact in card
    assert ("model.onnx" in config.files) == available() == ("images/s" in said)
    svp.fails("task=export", f"export.classifier={run}", "export.to=mine")
    # Where the run's images are others now, nothing can be compared on them.
    kept = yaml.safe_load((run / "config.yaml").read_text())
    kept["data"]["seed"] += 1
    (run / "config.yaml").write_text(yaml.safe_dump(kept))
    assert "has changed" in svp.fails("task=export", f"export.classifier={run}", "export.to=bare")
    recorded = json.loads((run / "checksums.json").read_text())
    del recorded["config.yaml"]
    (run / "checksums.json").write_text(json.dumps(recorded))
    svp("task=export", f"export.classifier={run}", "export.to=bare")
    assert "not those of the run" in svp.said() or not available()
    assert not (tmp_path / "bare" / "model.onnx").exists()
    assert (tmp_path / "bare" / "model.safetensors").stat().st_mode & 0o044
    svp.fails("task=export", f"export.classifier={run}", "export.to=other", "export.onnx=true")
    (run / "results.json").write_text("{}")
    other = ("task=export", f"export.classifier={run}", "export.to=other")
    assert "has changed" in svp.fails(*other)
    assert not (tmp_path / "other").exists()


@pytest.mark.draws
def test_training_leaves_pictures_of_the_generator(svp: Program, tmp_path: Path) -> None:
    svp("task=train_generator", f"paths.artifacts={tmp_path / 'own'}")
    pictures = {path.name: path for path in tmp_path.glob("own/generator/*/figures/*.png")}
    assert {"real_and_generated.png", "interpolation.png", "guidance_sweep.png"} <= set(pictures)
    assert all(Image.open(path).width > 100 for path in pictures.values())
