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
        training={"data": "abc"},
    )
    save_generator(tmp_path, denoiser, info)
    return tmp_path


def edit_info(folder: Path, **changes: object) -> None:
    content = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps(content | changes))


def test_a_generator_comes_back(
    folder: Path, denoiser: Denoiser, make_settings: MakeSettings
) -> None:
    generator = load_generator(folder)
    labels, seeds, settings = np.array([0, 1]), np.array([3, 4]), configured.sampler(steps=3)
    expected = sample(denoiser, labels, seeds, settings)
    assert np.array_equal(sample(generator.denoiser, labels, seeds, settings), expected)
    for name, value in denoiser.state_dict().items():
        assert torch.equal(generator.denoiser.state_dict()[name], value)
    assert not generator.denoiser.training
    info = generator.info
    assert (info.settings, info.class_names, info.pixel_size_um, info.training) == (
        make_settings(), ("protein", "silicone_oil"), 1.04, {"data": "abc"},
    )  # fmt: skip
    assert generator.label_of("silicone_oil") == 1
    with pytest.raises(CheckpointError, match=r"protein, silicone_oil.*air_bubble"):
        generator.label_of("air_bubble")


def other_network(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights.popitem()
    save_file(weights, folder / WEIGHTS)
    edit_info(folder, weights_sha256=sha256_of_file(folder / WEIGHTS))


def cut_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])


def overwritten(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        *(
            (overwritten(n, content), n)
            for n in (INFO, WEIGHTS)
            for content in (b"", b"\xff", b"[]")
        ),
        (lambda folder: (folder / INFO).unlink(), INFO),
        (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS),
        (
            lambda folder: overwritten(WEIGHTS, (folder / WEIGHTS).read_bytes()[:-9])(folder),
            "SHA-256",
        ),
        (other_network, "does not hold the weights"),
        (lambda folder: edit_info(folder, schema=99), INFO),
        (lambda folder: edit_info(folder, generator={}), INFO),
        (lambda folder: edit_info(folder, generator=None), INFO),
    ],
)
def test_a_damaged_or_foreign_folder_is_refused(
    folder: Path, damage: Callable[[Path], object], named: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=named):
        load_generator(folder)
