"""Checkpoints chosen by held-out real images: a tiny pipeline, and generators made to overfit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from svp_lightning.data.mix import train_rows
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import DataError
from svp_lightning.evaluation.fidelity.class_fidelity import pixel_closeness
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import GeneratorModule
from svp_lightning.generator.drawing import sample
from svp_lightning.pipeline import Pipeline
from svp_lightning.stages import checkpoint_judge
from svp_lightning.stages.checkpoint_judge import Judge
from svp_lightning.stages.generator_training import SAMPLER
from tests import configured
from tests.conftest import only_run, results

Build = Callable[..., Pipeline]
CHOSEN = "generator.selection.method=fidelity"


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


def train_on(images: np.ndarray, steps: int) -> Denoiser:
    """A generator of one class, trained without Lightning."""
    torch.manual_seed(0)
    settings = configured.generator(
        network={"block_channels": (24, 32), "attention": (False, False), "patch": 2},
        diffusion={"timesteps": 200, "signal": 0.5, "class_dropout": 0},
    )
    denoiser = Denoiser(settings.network, settings.diffusion, 16, 1)
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=5e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    random = torch.Generator().manual_seed(0)
    tensor = torch.from_numpy(images)[:, None]
    for _ in range(steps):
        rows = torch.randint(len(tensor), (16,), generator=random)
        denoiser.loss(to_model_range(tensor[rows]), torch.zeros(16, dtype=torch.int64)).backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return denoiser.eval()


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


def test_judge_sees_the_validation_split_and_not_the_test_split(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = svp_pipeline()
    store, rows = pipeline.store, train_rows(pipeline.store)
    seen: list[np.ndarray] = []
    describe = checkpoint_judge.describe

    def watched(network: object, images: np.ndarray, device: object) -> object:
        seen.append(images)
        return describe(network, images, device)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint_judge, "describe", watched)
    judge = Judge(rows, pipeline.features, 6, SAMPLER, torch.device("cpu"))
    assert set(judge.labels) == {"silicone_oil", "air_bubble"}
    denoiser = GeneratorModule(pipeline.config.generator, 16, 3).trained_denoiser
    check = judge(denoiser)
    assert check == judge(denoiser)
    assert check.distance > 0
    shown = {image.tobytes() for part in seen for image in part}
    split = {s: {i.tobytes() for i in store.images[store.indices(s)]} for s in ("val", "test")}
    assert split["val"] & shown
    assert not (split["test"] - split["val"]) & shown


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_lone_image_to_compare_with_is_refused_before_anything_is_trained(
    svp_pipeline: Build, tmp_path: Path, split: str
) -> None:
    own = f"paths.artifacts={tmp_path / 'own'}"
    pipeline = svp_pipeline(CHOSEN, own, f"scale.counts.{split}.air_bubble=1")
    with pytest.raises(DataError, match=rf"2 {split} images of each rare.* air_bubble \(1\)"):
        _ = pipeline.generator
    assert [folder.name for folder in (tmp_path / "own").iterdir()] == ["store"]


@pytest.mark.parametrize("method", ["fidelity", "last"])
def test_network_that_chose_the_checkpoint_is_among_the_costs(
    svp: Callable[..., None], tmp_path: Path, method: str
) -> None:
    svp(f"generator.selection.method={method}")
    costs = results(only_run(tmp_path / "outputs"))["costs"]
    stages = {"generator", "synthetic", "classifier", "test"}
    assert set(costs) == stages | ({"network", "features"} if method == "fidelity" else set())
