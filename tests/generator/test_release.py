"""An exported pipeline draws the generator's images, with and without this package."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from svp_lightning.errors import CheckpointError
from svp_lightning.generator.checkpoint import Generator, GeneratorInfo
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.release.paper_model import PaperUNetModel
from svp_lightning.generator.release.pipeline import ParticlePipeline
from svp_lightning.generator.release.write import open_pipeline, write_pipeline
from svp_lightning.generator.sampler import sample
from svp_lightning.generator.settings import GeneratorSettings, SamplerSettings
from svp_lightning.generator.unet import ParticleUNet

NAMES = ("protein", "air_bubble")
PAPER = {"network": {"kind": "paper", "block_channels": (8, 16), "patch": 1, "layers_per_block": 2}}

MakeSettings = Callable[..., GeneratorSettings]
MakeGenerator = Callable[..., Generator]


@pytest.fixture
def make_generator(make_settings: MakeSettings) -> MakeGenerator:
    """A generator of two classes on 16 px whose weights give images with structure."""

    def make(**changes: Any) -> Generator:
        settings = make_settings(**changes)
        denoiser = Denoiser(settings.network, settings.diffusion, 16, len(NAMES))
        torch.manual_seed(1)
        for weight in denoiser.network.parameters():
            if weight.ndim > 1:  # larger than at the start of training, where all is grey
                nn.init.kaiming_normal_(weight)
        info = GeneratorInfo(settings=settings, class_names=NAMES, image_size=16, pixel_size_um=1.0)
        return Generator(denoiser.eval(), info)

    return make


def exported(folder: Path, generator: Generator, sampler: SamplerSettings) -> ParticlePipeline:
    write_pipeline(folder, generator, sampler)
    kind = PaperUNetModel if generator.info.settings.network.kind == "paper" else ParticleUNet
    pipe = open_pipeline(folder, kind, generator, sampler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def own_images(generator: Generator, settings: SamplerSettings) -> np.ndarray:
    """Images 0 and 1 of each class by the framework's own sampler."""
    labels = np.repeat(np.arange(len(NAMES)), 2)
    seeds = np.concatenate([image_seeds(settings.seed, name, 0, 2) for name in NAMES])
    return sample(generator.denoiser, labels, seeds, settings)


@pytest.mark.parametrize(
    ("network", "diffusion", "sampler"),
    [
        ({}, {"signal": 0.5}, {"spacing": "karras", "steps": 9, "guidance": 2}),
        ({}, {}, {"steps": 9, "guidance": 4, "guidance_interval": (0.2, 2.0)}),
        ({}, {"prediction": "v_prediction"}, {"spacing": "uniform", "steps": 7, "guidance": 1}),
        ({}, {"prediction": "epsilon", "schedule": "linear"}, {"name": "ddim", "steps": 7}),
        (PAPER, {"prediction": "epsilon", "schedule": "linear"}, {"name": "ddpm", "steps": 7}),
        (PAPER, {}, {"spacing": "karras", "steps": 9, "guidance": 0}),
    ],
)
def test_pipeline_draws_the_generators_images(
    make_generator: MakeGenerator,
    tmp_path: Path,
    network: dict[str, Any],
    diffusion: dict[str, Any],
    sampler: dict[str, Any],
) -> None:
    generator = make_generator(**network, diffusion={"timesteps": 100, **diffusion})
    settings = SamplerSettings.model_validate({"precision": "float32", "seed": 3, **sampler})
    pipe = exported(tmp_path, generator, settings)
    drawn = pipe([name for name in NAMES for _ in range(2)], seed=3, output_type="np").images
    expected = own_images(generator, settings)
    assert expected.std() > 5  # a flat image would equal anything
    assert np.abs(drawn.astype(int) - expected).max() <= 1


def test_loads_in_a_fresh_process_without_this_package(
    make_generator: MakeGenerator, tmp_path: Path
) -> None:
    settings = SamplerSettings(steps=3, precision="float32")
    code = """
import sys
sys.modules["svp_lightning"] = None   # importing it fails
import numpy as np
from diffusers import DiffusionPipeline
for folder in sys.argv[1:]:
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    images = pipe(class_labels=["protein"] * 2 + ["air_bubble"] * 2).images
    assert images[0].mode == "L" and images[0].size == (16, 16)
    np.save(folder + "/drawn.npy", np.stack([np.asarray(image) for image in images]))
"""
    generators = {"unet": make_generator(), "paper": make_generator(**PAPER)}
    for name, generator in generators.items():
        write_pipeline(tmp_path / name, generator, settings)
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *(str(tmp_path / name) for name in generators)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, generator in generators.items():
        drawn = np.load(tmp_path / name / "drawn.npy").astype(int)
        assert np.abs(drawn - own_images(generator, settings)).max() <= 1


def test_images_depend_on_seed_class_and_number_alone(
    make_generator: MakeGenerator, tmp_path: Path
) -> None:
    pipe = exported(tmp_path, make_generator(), SamplerSettings(steps=3))
    together = pipe(["protein", "air_bubble", "protein"], output_type="np").images
    alone = pipe("protein", start=1, output_type="np").images
    assert np.abs(together[2].astype(int) - alone[0]).max() <= 1
    assert not np.array_equal(alone, pipe("protein", output_type="np").images)
    by_number = pipe(1, output_type="np").images
    assert np.abs(by_number[0].astype(int) - together[1]).max() <= 1
    noise = [torch.Generator().manual_seed(k) for k in (1, 1)]
    twins = pipe([0, 0], generator=noise, output_type="np").images
    assert np.array_equal(*twins)


def test_guidance_interval_travels_with_the_pipeline(
    make_generator: MakeGenerator, tmp_path: Path
) -> None:
    """It acts by default, and a call may choose another one."""
    sampler = SamplerSettings(steps=9, guidance=4, guidance_interval=(0.2, 2.0))
    generator = make_generator()
    limited, unlimited = (
        exported(tmp_path / str(number), generator, settings)
        for number, settings in enumerate(
            (sampler, sampler.model_copy(update={"guidance_interval": None}))
        )
    )

    def drawn(pipe: ParticlePipeline, **changes: Any) -> np.ndarray:
        return pipe(["protein", "air_bubble"], output_type="np", **changes).images.astype(int)

    assert np.abs(drawn(limited) - drawn(unlimited)).max() > 5
    everywhere, inside = (0.0, math.inf), (0.2, 2.0)
    assert np.array_equal(drawn(limited, guidance_interval=everywhere), drawn(unlimited))
    assert np.array_equal(drawn(unlimited, guidance_interval=inside), drawn(limited))


def test_unknown_class_is_named(make_generator: MakeGenerator, tmp_path: Path) -> None:
    pipe = exported(tmp_path, make_generator(), SamplerSettings(steps=3))
    with pytest.raises(ValueError, match=r"protein, air_bubble.*'glass'"):
        pipe(["protein", "glass"])


def test_files_need_nothing_of_ours(make_generator: MakeGenerator, tmp_path: Path) -> None:
    write_pipeline(tmp_path, make_generator(**PAPER), SamplerSettings(steps=3))
    sources = {path.name: path.read_text() for path in tmp_path.rglob("*.py")}
    assert {"pipeline.py", "particle_paper_unet.py", "particle_scheduler.py"} <= set(sources)
    assert not [name for name, text in sources.items() if "import svp_lightning" in text]
    assert not [name for name, text in sources.items() if "from svp_lightning" in text]
    assert not list(tmp_path.rglob("*.bin"))
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["class_names"] == list(NAMES)


def test_export_that_draws_other_images_is_refused(
    make_generator: MakeGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make_generator()
    wrong = lambda x, *_: x.roll(1, dims=-1)  # noqa: E731
    network = generator.denoiser.network
    original = network.forward
    monkeypatch.setattr(network, "forward", lambda *a: wrong(original(*a)))
    with pytest.raises(CheckpointError, match="other images"):
        write_pipeline(tmp_path, generator, SamplerSettings(steps=3))
