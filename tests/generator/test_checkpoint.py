import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from svp_lightning.__main__ import configured as configured_program
from svp_lightning.errors import CheckpointError, SettingsError
from svp_lightning.generator.checkpoint import (
    Generator,
    GeneratorInfo,
    copy_weights,
    load_generator,
    save_generator,
)
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.settings import INFO, WEIGHTS
from svp_lightning.runtime.files import sha256_of_file
from tests import configured
from tests.generator.small import SIZE, small_denoiser, small_settings


@pytest.fixture
def folder(denoiser: Denoiser, tmp_path: Path) -> Path:
    """A saved generator of two classes on 16 px."""
    info = GeneratorInfo(
        settings=small_settings(),
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


def edit_generator(folder: Path, **changes: object) -> None:
    edit_info(folder, generator=json.loads((folder / INFO).read_text())["generator"] | changes)


def test_a_generator_comes_back(folder: Path, denoiser: Denoiser) -> None:
    generator = load_generator(folder)
    labels, seeds, settings = np.array([0, 1]), np.array([3, 4]), configured.sampler(steps=3)
    expected = sample(denoiser, labels, seeds, settings)
    assert np.array_equal(sample(generator.denoiser, labels, seeds, settings), expected)
    for name, value in denoiser.state_dict().items():
        assert torch.equal(generator.denoiser.state_dict()[name], value)
    assert not generator.denoiser.training
    info = generator.info
    assert (info.settings, info.class_names, info.pixel_size_um, info.training) == (
        small_settings(), ("protein", "silicone_oil"), 1.04, {"data": "abc"},
    )  # fmt: skip
    assert generator.label_of("silicone_oil") == 1
    with pytest.raises(CheckpointError, match=r"protein, silicone_oil.*air_bubble"):
        generator.label_of("air_bubble")


def other_network(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights.popitem()
    save_file(weights, folder / WEIGHTS)
    edit_info(folder, weights_sha256=sha256_of_file(folder / WEIGHTS))


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
        (lambda folder: edit_generator(folder, class_names=["a", "../../b"]), r"b' cannot name a"),
        (
            lambda folder: edit_generator(
                folder, settings={"initial": "/a", "diffusion": {"prediction": "auto"}}
            ),
            "does not say what the network predicts",
        ),
    ],
)
def test_a_damaged_or_foreign_folder_is_refused(
    folder: Path, damage: Callable[[Path], object], named: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=named):
        load_generator(folder)


def test_weights_for_finer_pixels_see_their_means_and_answer_them_alike(denoiser: Denoiser) -> None:
    names = ("protein", "silicone_oil")
    coarse = Generator(
        denoiser.eval(), GeneratorInfo(settings=small_settings(), class_names=names, image_size=16)
    )
    network = {"block_channels": (8, 16), "attention": (False, True), "patch": 4}
    fine = Denoiser(small_settings(network=network), 32, 2).eval()
    copy_weights(coarse, fine, names)
    x_t, t, labels = torch.randn(3, 1, 16, 16), torch.tensor([0, 40, 99]), torch.tensor([0, 1, 2])
    expected = denoiser(x_t, t, labels)
    # Deviations that leave the mean of four pixels as it is are not seen.
    unseen = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)
    given = x_t.repeat_interleave(2, 2).repeat_interleave(2, 3) + unseen
    answer = fine(given, t, labels)
    torch.testing.assert_close(
        answer, expected.repeat_interleave(2, 2).repeat_interleave(2, 3), atol=1e-5, rtol=1e-4
    )
    assert expected.std() > 0


def test_finer_pixels_of_a_filtered_network_see_means_of_the_estimate_and_scaled_noise() -> None:
    network = {"block_channels": (8, 16), "attention": (False, True), "patch": 4}
    changes = {"diffusion": {"timesteps": 100, "prediction": "filtered"}}
    coarse, fine = (
        small_denoiser(**changes),
        Denoiser(small_settings(network=network, **changes), 2 * SIZE, 2),
    )
    info = GeneratorInfo(
        settings=small_settings(**changes), class_names=("a", "b"), image_size=SIZE
    )
    copy_weights(Generator(coarse, info), fine, ("a", "b"))
    old, new = (d.network.unet.conv_in.weight for d in (coarse, fine))
    torch.testing.assert_close(new[:, :16].sum(1), old[:, :4].sum(1))
    torch.testing.assert_close(new[:, 16:32].sum(1), 2 * old[:, 4:8].sum(1))
    torch.testing.assert_close(new[:, 32:], old[:, 8:])


ARM = "augmentation=diffusion_physics"


@pytest.mark.parametrize(
    "overrides",
    [
        ("+experiment=demo", "generator.initial=physics"),
        ("+experiment=where_images_pay", "generator.initial=physics"),
        *((f"scale={scale}", ARM) for scale in ("demo", "study", "lab", "paper")),
    ],
)
def test_the_packaged_generator_fits_where_it_is_asked_for(overrides: tuple[str, ...]) -> None:
    settings = configured_program(*overrides).generator
    weights = settings.initial_weights
    assert weights is not None
    assert weights.stat().st_size < 10e6
    generator = load_generator(weights.parent)
    assert generator.info.class_names == ("silicone_oil", "air_bubble")
    size = configured_program(*overrides).data.image_size
    denoiser = Denoiser(settings, size, 2).eval()
    copy_weights(generator, denoiser, ("air_bubble", "silicone_oil"))
    # It takes noise off a dark disc, of which random weights know nothing.
    place = torch.linspace(-1, 1, size)
    x = 0.35 - 0.8 * torch.sigmoid(20 * (0.4 - place.hypot(place[:, None]))).expand(1, 1, -1, -1)
    t = torch.tensor([150])
    x_t = denoiser.schedule.add_noise(x, torch.randn_like(x), t)
    clean = denoiser.schedule.x_0(denoiser(x_t, t, torch.tensor([0])), x_t, t)
    ratio = denoiser.schedule.noise_ratio[150]
    assert (clean - x).square().mean() < 0.1 * ratio**2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("generator.network.block_channels=[8,16,24]", r"block_channels=\[64, 96, 128\]\."),
        ("generator.diffusion.prediction=velocity", r'prediction="filtered"\.'),
        ("generator.augmentation=0.1", r"augmentation=0\.0"),
        ("generator.network.patch=2", r"network\.patch=4\."),
        ("scale=tiny", r"data\.image_size=32\."),
        ("data.image_size=48", r"data\.image_size=32\."),
    ],
)
def test_a_start_that_does_not_fit_is_refused_at_once_by_the_setting(
    change: str, named: str
) -> None:
    with pytest.raises(SettingsError, match=rf"generator\.initial=physics.* need [a-z_.]*{named}"):
        configured_program("scale=lab", ARM, change)


@pytest.mark.parametrize("scale", ["demo", "study"])
def test_the_network_that_starts_from_physics_is_that_of_the_scale(scale: str) -> None:
    arm, plain = (configured_program(f"scale={scale}", *more) for more in ((ARM,), ()))
    assert isinstance(arm.data.image_size, int)
    assert arm.generator.network.for_images(arm.data.image_size) == plain.generator.network


def test_a_generator_predicts_what_its_start_predicts(folder: Path) -> None:
    def prediction(*overrides: str) -> str:
        study = ("scale=study", "augmentation=none")  # no other setting is compared
        return configured_program(*study, *overrides).generator.diffusion.prediction

    assert prediction() == "residual"
    assert prediction("generator.initial=physics") == "filtered"
    assert prediction(f"generator.initial={folder}") == "residual"
    assert prediction("generator.initial=physics", "generator.diffusion.prediction=velocity") == (
        "velocity"
    )
    (folder / INFO).write_text("{}")
    assert prediction(f"generator.initial={folder}") == "residual"  # what is wrong is said later
