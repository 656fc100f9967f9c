import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from svp_lightning.errors import CheckpointError
from svp_lightning.generator.checkpoint import (
    INFO,
    WEIGHTS,
    GeneratorInfo,
    load_generator,
    save_generator,
)
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.settings import GeneratorSettings
from svp_lightning.runtime.files import sha256_of_file
from tests import configured

MakeSettings = Callable[..., GeneratorSettings]


@pytest.fixture
def folder(make_settings: MakeSettings, denoiser: Denoiser, tmp_path: Path) -> Path:
    """A saved generator of two classes on 16 px."""
    info = GeneratorInfo(
        settings=make_settings(),
        class_names=("protein", "silicone_oil"),
        image_size=16,
        pixel_size_um=1.04,
        training={"data": "abc", "counts": {"protein": 3}},
    )
    save_generator(tmp_path, denoiser, info)
    return tmp_path


def edit_info(folder: Path, **changes: object) -> None:
    content = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps(content | changes))


def test_loaded_generator_makes_the_same_images(folder: Path, denoiser: Denoiser) -> None:
    generator = load_generator(folder)
    labels, seeds, settings = np.array([0, 1]), np.array([3, 4]), configured.sampler(steps=3)
    expected = sample(denoiser, labels, seeds, settings)
    assert np.array_equal(sample(generator.denoiser, labels, seeds, settings), expected)
    for name, value in denoiser.state_dict().items():
        assert torch.equal(generator.denoiser.state_dict()[name], value)
    assert not generator.denoiser.training


def test_information_comes_back(folder: Path, make_settings: MakeSettings) -> None:
    info = load_generator(folder).info
    assert info.settings == make_settings()
    assert info.class_names == ("protein", "silicone_oil")
    assert info.pixel_size_um == 1.04
    assert info.training == {"data": "abc", "counts": {"protein": 3}}


@pytest.mark.parametrize("name", [INFO, WEIGHTS])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_generator(folder)


@pytest.mark.parametrize("name", [INFO, WEIGHTS])
@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]"])
def test_damaged_file_is_refused(folder: Path, name: str, damage: bytes) -> None:
    (folder / name).write_bytes(damage)
    with pytest.raises(CheckpointError, match=name):
        load_generator(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_generator(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights.popitem()
    save_file(weights, folder / WEIGHTS)
    edit_info(folder, weights_sha256=sha256_of_file(folder / WEIGHTS))
    with pytest.raises(CheckpointError, match="does not hold the weights"):
        load_generator(folder)


@pytest.mark.parametrize("changes", [{"schema": 99}, {"generator": {}}, {"generator": None}])
def test_foreign_description_is_refused(folder: Path, changes: dict[str, object]) -> None:
    edit_info(folder, **changes)
    with pytest.raises(CheckpointError, match=INFO):
        load_generator(folder)


def test_classes_have_their_label(folder: Path) -> None:
    generator = load_generator(folder)
    assert generator.label_of("silicone_oil") == 1
    with pytest.raises(CheckpointError, match=r"protein, silicone_oil.*air_bubble"):
        generator.label_of("air_bubble")
