"""An exported pipeline draws the generator's images without this package."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from svp_lightning.generator import diffusers_export
from svp_lightning.generator.checkpoint import Generator, GeneratorInfo
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.diffusers_export import write_pipeline
from svp_lightning.generator.drawing import build_pipeline, sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler_settings import SamplerSettings
from tests import configured
from tests.generator.small import small_settings

NAMES = ("protein", "air_bubble")
PAPER = {"network": {"kind": "paper", "block_channels": (8, 16), "patch": 1, "layers_per_block": 2}}
TRAITS = {
    "network": {"block_channels": (8, 16), "attention": (False, True), "patch": 2, "traits": True}
}
LINEAR = {"prediction": "epsilon", "schedule": "linear"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "karras": ({}, {"signal": 0.5}, {"steps": 9, "guidance": 2}),
    "interval": (
        {},
        {"prediction": "filtered"},
        {"steps": 9, "guidance": 4, "guidance_interval": (0.2, 2.0)},
    ),
    "uniform": ({"augmentation": 0.5}, {}, {"spacing": "uniform", "steps": 7}),
    "traits": (TRAITS, {}, {"steps": 9, "guidance": 2}),
    "ddim": ({}, LINEAR, {"name": "ddim", "steps": 7}),
    "ddpm": (PAPER, LINEAR, {"name": "ddpm", "steps": 7}),
    "paper": (PAPER, {}, {"steps": 9, "guidance": 0}),
}


def small_generator(**changes: Any) -> Generator:
    """A generator of two classes on 16 px whose weights give images with structure."""
    settings = small_settings(**changes)
    denoiser = Denoiser(settings, 16, len(NAMES))
    torch.manual_seed(1)
    for weight in denoiser.network.parameters():
        if weight.ndim > 1:  # larger than at the start of training, where all is grey
            nn.init.kaiming_normal_(weight)
    for label in range(len(NAMES)):
        denoiser.learn_traits(label, torch.rand(9, 1, 16, 16) + label - 1)
    info = GeneratorInfo(settings=settings, class_names=NAMES, image_size=16, pixel_size_um=1.0)
    return Generator(denoiser.eval(), info)


def pipeline_of(generator: Generator, sampler: SamplerSettings) -> Any:
    pipe = build_pipeline(generator.denoiser, sampler, class_names=list(NAMES))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def own_images(generator: Generator, settings: SamplerSettings) -> np.ndarray:
    """Images 0 and 1 of each class by the program."""
    labels = np.repeat(np.arange(len(NAMES)), 2)
    seeds = np.concatenate([image_seeds(settings.seed, name, 0, 2) for name in NAMES])
    return sample(generator.denoiser, labels, seeds, settings)


def test_exports_of_all_kinds_and_versions_load_in_one_process_without_this_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {}
    for name, (network, diffusion, sampler) in CASES.items():
        generator = small_generator(**network, diffusion={"timesteps": 100, **diffusion})
        values = {"precision": "float32", "seed": 0, **sampler}
        settings = configured.sampler(**values)
        write_pipeline(tmp_path / name, generator, settings)
        expected[name] = own_images(generator, settings)
        assert expected[name].std() > 5  # a flat image would equal anything
    # A later version of the code that draws negatives.
    original = diffusers_export.source_of
    changed = ("mul(127.5)", "mul(-127.5).add(255)")
    monkeypatch.setattr(
        diffusers_export, "source_of", lambda module: original(module).replace(*changed)
    )
    write_pipeline(tmp_path / "negative", generator, settings)
    code = """
import sys
sys.modules["svp_lightning"] = None   # importing it fails
import numpy as np
from diffusers import DiffusionPipeline
load = lambda folder: DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
for folder, pipe in [(folder, load(folder)) for folder in sys.argv[1:]]:
    images = pipe(class_labels=["protein"] * 2 + ["air_bubble"] * 2).images
    assert images[0].mode == "L" and images[0].size == (16, 16)
    np.save(folder + "/drawn.npy", np.stack([np.asarray(image) for image in images]))
"""
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    folders = [str(tmp_path / name) for name in (*CASES, "negative")]
    done = subprocess.run(
        [sys.executable, "-c", code, *folders],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected["negative"] = 255 - expected["paper"]
    for name, images in expected.items():
        drawn = np.load(tmp_path / name / "drawn.npy").astype(int)
        assert np.abs(drawn - images).max() <= 1, name


def test_files_need_nothing_of_ours(tmp_path: Path) -> None:
    write_pipeline(tmp_path, small_generator(**PAPER), configured.sampler(steps=3))
    sources = {path.name: path.read_text() for path in tmp_path.rglob("*.py")}
    of_ours = {name.split("_")[1] for name in sources}
    assert of_ours == {"sampling", "noise", "solver", "paper"}
    assert not [name for name, text in sources.items() if "svp_lightning.generator" in text]
    assert not list(tmp_path.rglob("*.bin"))
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["class_names"] == list(NAMES)
    assert f"{index['_class_name'][0]}.py" in sources


def test_images_depend_on_seed_class_and_number_alone() -> None:
    pipe = pipeline_of(small_generator(), configured.sampler(steps=3))
    together = pipe(["protein", "air_bubble", "protein"], output_type="np").images
    alone = pipe("protein", start=1, output_type="np").images
    assert np.abs(together[2].astype(int) - alone[0]).max() <= 1
    assert not np.array_equal(alone, pipe("protein", output_type="np").images)
    by_number = pipe(1, output_type="np").images
    assert np.abs(by_number[0].astype(int) - together[1]).max() <= 1
    noise = [torch.Generator().manual_seed(k) for k in (1, 1)]
    twins = pipe([0, 0], generator=noise, output_type="np").images
    assert np.array_equal(*twins)


def test_a_call_may_choose_another_guidance_interval() -> None:
    sampler = configured.sampler(steps=9, guidance=4, guidance_interval=(0.2, 2.0))
    generator = small_generator()
    limited = pipeline_of(generator, sampler)
    unlimited = pipeline_of(generator, sampler.model_copy(update={"guidance_interval": None}))

    def drawn(pipe: Any, **changes: Any) -> np.ndarray:
        images: np.ndarray = pipe(["protein", "air_bubble"], output_type="np", **changes).images
        return images.astype(int)

    assert np.abs(drawn(limited) - drawn(unlimited)).max() > 5
    everywhere, inside = (0.0, math.inf), (0.2, 2.0)
    assert np.array_equal(drawn(limited, guidance_interval=everywhere), drawn(unlimited))
    assert np.array_equal(drawn(unlimited, guidance_interval=inside), drawn(limited))


def test_unknown_class_and_too_many_steps_are_refused() -> None:
    pipe = pipeline_of(small_generator(), configured.sampler(steps=3))
    with pytest.raises(ValueError, match=r"protein, air_bubble.*'glass'"):
        pipe(["protein", "glass"])
    with pytest.raises(ValueError, match="101 steps"):
        pipe("protein", num_inference_steps=101)
