"""A packaged classifier is the classifier, and nothing else is read as one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from pytorch_lightning import Trainer

from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.classifier.packaged import (
    CONFIG,
    WEIGHTS,
    Preprocessing,
    open_classifier,
    read_packaged,
    write_packaged,
)
from svp_lightning.classifier.settings import RELEASED
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import ArtifactError, CheckpointError
from svp_lightning.runtime.files import sha256_of_file
from svp_lightning.simulation.simulator import Simulator
from tests import configured

NAMES = ("protein", "silicone_oil", "air_bubble")
SHARES = {"protein": 0.5, "silicone_oil": 0.3, "air_bubble": 0.2}
Edit = Callable[[dict[str, Any]], Any]


def classifier(wide_stem: bool = False, **settings: Any) -> ClassifierModule:
    chosen = configured.classifier(**{"backbone": "resnet18_quarter", **settings})
    module = ClassifierModule(chosen, NAMES, 32, trained_shares=SHARES, wide_stem=wide_stem)
    for layer in module.network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # statistics of their own
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
    return module.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    "settings",
    [{}, {"stem_stride": 2, "pretrained_weights": Path("gone.pt"), "wide_stem": True},
     {"stem_stride": 4}, {"backbone": "convnext_tiny"}],
    ids=["quarter", "wide", "imagenet", "convnext"],
)  # fmt: skip
def test_round_trip_keeps_every_bit(
    tmp_path: Path, images: torch.Tensor, settings: dict[str, Any]
) -> None:
    module = classifier(**settings)
    write_packaged(tmp_path, module, name="mine", pixel_um=(0.5, 0.6))
    config, found = read_packaged(tmp_path)
    assert config.pixel_um == (0.5, 0.6)
    assert (found.class_names, found.image_size, found.trained_shares) == (NAMES, 32, SHARES)
    with torch.inference_mode():
        assert torch.equal(found.probabilities(images), module.probabilities(images))
        assert torch.equal(open_classifier(tmp_path)(images), module(images))
    assert "gone.pt" not in (tmp_path / CONFIG).read_text()


@pytest.mark.parametrize("wide", [False, True])
def test_a_training_starts_from_a_classifier_trained_before(
    tmp_path: Path, images: torch.Tensor, wide: bool
) -> None:
    former = classifier(wide)
    start = tmp_path / "former.ckpt"
    torch.save({"state_dict": former.state_dict()}, start)
    settings = former.settings.model_copy(update={"pretrained_weights": start})
    module = ClassifierModule(settings, NAMES, 32, seed=1)
    module.trainer = cast("Trainer", SimpleNamespace(ckpt_path=None, world_size=1))
    module.setup("fit")
    module.eval()
    with torch.inference_mode():
        assert not torch.equal(module(images), former(images))  # its head is new
        former.network.fc = module.network.fc = torch.nn.Identity()
        assert torch.equal(module(images), former(images))


def test_a_training_starts_from_the_released_classifier() -> None:
    released = read_packaged(RELEASED)[1]
    module = classifier(pretrained_weights="released", stem_stride=2)
    module.trainer = cast("Trainer", SimpleNamespace(ckpt_path=None, world_size=1))
    module.setup("fit")
    own, theirs = (one.network.state_dict() for one in (module, released))
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own if not name.startswith("fc."))
    with pytest.raises(ValidationError, match="add classifier=resnet18_quarter"):
        classifier(pretrained_weights="released", backbone="resnet18")


def test_networks_of_another_range_get_it(tmp_path: Path, images: torch.Tensor) -> None:
    module = classifier()
    write_packaged(tmp_path, module, name="x", preprocessing=Preprocessing(scale=0.02, offset=-2.2))
    levels = (images + 1) * 127.5
    with torch.inference_mode():
        wanted = module(levels * 0.02 - 2.2)
        assert torch.allclose(read_packaged(tmp_path)[1](images), wanted, atol=1e-5)


def test_the_released_classifier_knows_a_simulated_instrument() -> None:
    config, module = read_packaged(RELEASED)
    simulator = Simulator(configured.simulation("flowcam_10x"), config.image_size, 5)
    names = [name for name in NAMES for _ in range(20)]
    images, _ = simulator.render(names, np.arange(60), np.zeros(60, np.int64), device="cpu")
    with torch.inference_mode():
        found = module.probabilities(to_model_range(torch.from_numpy(images)[:, None]))
    said = [config.class_names[k] for k in found.argmax(dim=1)]
    assert np.mean([a == b for a, b in zip(said, names, strict=True)]) > 0.8


def edited(folder: Path, edit: Edit) -> None:
    config = json.loads((folder / CONFIG).read_text())
    edit(config)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.update(format="svp_lightning classifier 2"),
        lambda c: c.update(backbone="os.system"),
        lambda c: c.update(class_names=["protein", "silicone_oil", "glass"]),
        lambda c: c.update(class_names=["protein", "silicone_oil", "../air_bubble"]),
        lambda c: c["files"].update({"../secret.txt": "0" * 64}),
        lambda c: c["files"].update({"gone.parquet": "0" * 64}),
        lambda c: c["files"].pop(WEIGHTS),
        lambda c: c["trained_shares"].update(protein=float("nan")),
        lambda c: c.update(image_size=10**6),
    ],
)
def test_hostile_configurations_are_refused(tmp_path: Path, edit: Edit) -> None:
    write_packaged(tmp_path / "a", classifier(), name="x")
    (tmp_path / "secret.txt").write_text("")
    edited(tmp_path / "a", edit)
    with pytest.raises(ArtifactError, match=r"a/config\.json|a/gone"):
        read_packaged(tmp_path / "a")


def test_weights_that_are_cut_linked_or_foreign_are_refused(tmp_path: Path) -> None:
    write_packaged(tmp_path, classifier(), name="x")
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[:-100])
    with pytest.raises(ArtifactError, match="SHA-256"):
        read_packaged(tmp_path)
    # The hash follows, and the file is still no such classifier.
    edited(tmp_path, lambda c: c["files"].update({WEIGHTS: sha256_of_file(tmp_path / WEIGHTS)}))
    with pytest.raises(CheckpointError, match="does not hold the classifier"):
        read_packaged(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(whole)
    edited(tmp_path, lambda c: c["files"].update({WEIGHTS: sha256_of_file(tmp_path / WEIGHTS)}))
    edited(tmp_path, lambda c: c.update(stem_stride=4))
    with pytest.raises(CheckpointError, match="does not hold the classifier"):
        read_packaged(tmp_path)
    os.rename(tmp_path / WEIGHTS, tmp_path / "elsewhere")
    (tmp_path / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="a link"):
        read_packaged(tmp_path)
