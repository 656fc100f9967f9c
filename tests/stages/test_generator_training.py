"""What a generator starts from and how it is chosen: tiny pipelines, generators that overfit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from svp_lightning.config import run_identity
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import DataError, SettingsError
from svp_lightning.evaluation.fidelity.class_fidelity import pixel_closeness
from svp_lightning.generator.checkpoint import load_generator
from svp_lightning.generator.checkpoint_selection import (
    CheckpointSelection,
    DenoisingError,
    denoising_error,
)
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import GeneratorModule
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.settings import SelectionSettings
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.stages import generator_training
from svp_lightning.stages.generator_training import compared_images, seen_images
from tests import configured
from tests.generator.small import small_settings

Build = Callable[..., Pipeline]


def blobs(seed: int, n: int) -> np.ndarray:
    """Dark ellipses of 16 px, all different."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16] - 7.5
    a, ratio = generator.uniform(2.5, 6.5, (n, 1, 1)), generator.uniform(0.4, 1, (n, 1, 1))
    angle, level = generator.uniform(0, np.pi, (n, 1, 1)), generator.uniform(30, 130, (n, 1, 1))
    shift = generator.uniform(-1.5, 1.5, (2, n, 1, 1))
    u = np.cos(angle) * (x - shift[0]) + np.sin(angle) * (y - shift[1])
    v = np.cos(angle) * (y - shift[1]) - np.sin(angle) * (x - shift[0])
    edge = 1 / (1 + np.exp(4 * (np.hypot(u / a, v / (a * ratio)) - 1) * a))
    return (180 + (level - 180) * edge + generator.normal(0, 1, (n, 16, 16))).astype(np.uint8)


def untrained(traits: bool = False) -> Denoiser:
    """A generator of one class."""
    settings = configured.generator(
        network={
            "block_channels": (24, 32),
            "attention": (False, False),
            "patch": 2,
            "traits": traits,
        },
        diffusion={"timesteps": 200, "signal": 0.5, "class_dropout": 0},
    )
    return Denoiser(settings, 16, 1)


def train_on(images: np.ndarray, steps: int, traits: bool = False) -> Denoiser:
    """A generator of one class, trained without Lightning."""
    torch.manual_seed(0)
    denoiser = untrained(traits)
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=5e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    random = torch.Generator().manual_seed(0)
    tensor = torch.from_numpy(images)[:, None]
    denoiser.learn_traits(0, to_model_range(tensor))
    for _ in range(steps):
        rows = torch.randint(len(tensor), (16,), generator=random)
        denoiser.loss(to_model_range(tensor[rows]), torch.zeros(16, dtype=torch.int64)).backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return denoiser.eval()


def in_range(images: np.ndarray) -> torch.Tensor:
    return to_model_range(torch.from_numpy(images)[:, None])


def test_overfitted_generator_is_caught_and_new_images_are_not() -> None:
    train, heldout = blobs(1, 5), blobs(2, 100)
    denoiser = train_on(train, 500)
    settings = configured.sampler(steps=12, guidance=1, precision="float32")
    drawn = sample(denoiser, np.zeros(60, np.int64), np.arange(60) * 7919, settings)
    found = pixel_closeness(train, heldout, drawn).found
    assert found.verdict == "copies"
    assert found.copies.low > 0.4
    new = blobs(3, 60)
    assert pixel_closeness(train, heldout, new).found.verdict == "novel"
    new[7] = train[2, ::-1]
    assert pixel_closeness(train, heldout, new).found.verdict == "copies"
    for other, memorises in ((train, True), (blobs(4, 60), False)):
        images = {0: (in_range(other), in_range(heldout))}
        error, start = (denoising_error(one, images) for one in (denoiser, untrained().eval()))
        assert error.memorises_since(start) == memorises


def test_traits_say_what_noise_hides() -> None:
    denoiser = train_on(blobs(0, 400), 150, traits=True)
    clean = in_range(blobs(1, 64))
    schedule = denoiser.schedule
    step = int(np.abs(np.log(schedule.noise_ratio) - np.log(5)).argmin())
    t, labels = torch.full((64,), step), torch.zeros(64, dtype=torch.int64)
    noisy = schedule.add_noise(clean, torch.randn(clean.shape), t)

    def error(traits: torch.Tensor | None) -> float:
        with torch.no_grad():
            found = schedule.x_0(denoiser(noisy, t, labels, traits=traits), noisy, t)
        return float((found - clean).square().mean())

    traits = denoiser.traits_of(clean)
    assert traits is not None
    assert error(traits) < 0.7 * error(traits.roll(1, dims=0))


def test_traits_are_learnt_from_the_training_images_of_each_class(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline("generator.network.traits=true")
    denoiser = load_generator(pipeline.generator).denoiser
    store, table = pipeline.store, denoiser.network.particle_traits
    for label, name in enumerate(("silicone_oil", "air_bubble")):
        train = store.images[store.indices("train", store.class_names.index(name))]
        found = table.measured(to_model_range(torch.from_numpy(train)[:, None]))
        learnt = table.pairs[label, 0].T
        torch.testing.assert_close(learnt[: len(found)], found)
        assert torch.equal(learnt.unique(dim=0), found.unique(dim=0))


def test_error_and_traits_are_measured_on_images_of_all_runs(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IMAGES", "MEASURED"):
        monkeypatch.setattr(generator_training, name, 2)
    pipeline = svp_pipeline()
    store, rows = pipeline.store, pipeline.generator_rows
    compared, seen = compared_images(rows), seen_images(rows)
    for label, name in enumerate(rows.class_names):
        splits = (*zip(("train", "val"), compared[label], strict=True), ("train", seen[label]))
        for split, images in splits:
            own = store.images[store.indices(split, store.class_names.index(name))]
            assert torch.equal(images, in_range(np.asarray(own[[0, -1]])))


@pytest.mark.parametrize(("method", "remedy"), [("last", True), ("denoising", False)])
def test_the_warning_of_memorising_names_what_is_left_to_do(
    capsys: pytest.CaptureFixture[str], method: Literal["last", "denoising"], remedy: bool
) -> None:
    module = GeneratorModule(small_settings(), 16, 2)
    settings = SelectionSettings(method=method, every=1, patience=None)
    selection = CheckpointSelection(settings, {})
    gaps = {0: 0.1, 6: 0.5}
    selection.checks = {k: DenoisingError((1.0,), (1.0,), gap, 0.01) for k, gap in gaps.items()}
    selection.best_step, selection.best_weights = 6, module.trained_denoiser.state_dict()
    generator_training._selected(selection, module, 6)
    said = capsys.readouterr().out
    assert "65% worse than training images (11% before the first step)" in said
    assert ("selection.method=denoising" in said) == remedy


def test_error_is_measured_on_the_training_and_validation_splits(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline()
    store = pipeline.store
    compared = compared_images(pipeline.generator_rows)
    names = pipeline.generator_rows.class_names
    assert {names[label] for label in compared} == {"silicone_oil", "air_bubble"}
    for label, parts in compared.items():
        for split, images in zip(("train", "val"), parts, strict=True):
            rows = store.indices(split, store.class_names.index(names[label]))
            assert torch.equal(images, in_range(np.asarray(store.images[rows])))


@pytest.mark.parametrize("split", ["train", "val"])
def test_too_few_images_to_choose_by_are_refused_before_anything_is_trained(
    svp_pipeline: Build, tmp_path: Path, split: str
) -> None:
    own = f"paths.artifacts={tmp_path / 'own'}"
    few = (f"scale.counts.{split}.{name}=1" for name in ("air_bubble", "silicone_oil"))
    pipeline = svp_pipeline("generator.selection.method=denoising", own, *few)
    with pytest.raises(DataError, match="2 training and validation images"):
        _ = pipeline.generator
    assert [folder.name for folder in (tmp_path / "own").iterdir()] == ["store"]


def test_training_starts_from_the_weights_that_are_given(svp_pipeline: Build) -> None:
    first = svp_pipeline().generator
    # Next to no step is taken, so the weights stay what they were.
    start = [f"generator.initial={first}", "generator.steps=1", "generator.learning_rate=1e-12"]
    pipeline = svp_pipeline(*start, "generator.classes=[air_bubble,protein]")
    before, after = (load_generator(path) for path in (first, pipeline.generator))
    (name,) = [n for n, m in after.denoiser.named_modules() if isinstance(m, nn.Embedding)]
    old, new = before.denoiser.state_dict(), after.denoiser.state_dict()
    rows = old.pop(f"{name}.weight"), new.pop(f"{name}.weight")
    for key, value in new.items():
        torch.testing.assert_close(value, old[key], atol=1e-6, rtol=1e-5)
    null = before.denoiser.null_label
    known = [before.info.class_names.index("air_bubble"), null, null]
    order = [after.info.class_names.index(c) for c in ("air_bubble", "protein")] + [2]
    torch.testing.assert_close(rows[1][order], rows[0][known], atol=1e-6, rtol=1e-5)


def test_a_stated_precision_makes_another_generator(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, built = set(), ArtifactCache.build

    def build(self: ArtifactCache, stage: str, identity: Any, *how: Any, **more: Any) -> Path:
        if stage != "generator":
            return built(self, stage, identity, *how, **more)
        keys.add(json.dumps(identity))
        return self.root

    monkeypatch.setattr(ArtifactCache, "build", build)
    for own in ("precision=null", "precision=32-true", "deterministic=true", "devices=1"):
        _ = svp_pipeline(f"trainer.{own}").generator
    assert len(keys) == 3


def test_initial_weights_count_by_their_content(svp_pipeline: Build, tmp_path: Path) -> None:
    first = svp_pipeline().generator
    copy = shutil.copytree(first, tmp_path / "copy")
    config = [svp_pipeline(f"generator.initial={p}", "augmentation.ratio=1").config
              for p in (first, copy)]  # fmt: skip
    assert run_identity(config[0]) == run_identity(config[1])
    assert run_identity(config[0]) != run_identity(svp_pipeline("augmentation.ratio=1").config)


@pytest.mark.parametrize("change", ["network.block_channels=[8,16]", "augmentation=0.1"])
def test_weights_of_another_network_are_refused(svp_pipeline: Build, change: str) -> None:
    first = svp_pipeline().generator
    with pytest.raises(SettingsError, match=rf"need generator\.{change.partition('=')[0]}="):
        svp_pipeline(f"generator.initial={first}", f"generator.{change}")
    with pytest.raises(SettingsError, match="nowhere"):
        svp_pipeline("generator.initial=nowhere")


def test_a_patch_that_the_images_do_not_allow_makes_no_other_generator(
    svp_pipeline: Build,
) -> None:
    first, same = (svp_pipeline(*more) for more in ((), ("generator.network.patch=4",)))
    assert same.generator == first.generator
