"""Every tensor on the GPU that is to be there, checked on a machine without one.

torch's fake tensors have a device, a shape and a type and no values; an operation on two devices is
refused as on a real GPU. What needs values or a driver (backward passes, autocast, ``.numpy()``)
is left out.
"""

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.data.composition import Composition
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.transforms import TrainTransform
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import AveragedDenoiser, build_optimizer
from svp_lightning.generator.drawing import build_pipeline
from svp_lightning.generator.noise import gaussian
from svp_lightning.generator.warping import augment
from svp_lightning.runtime.divergence import Divergence
from svp_lightning.simulation.camera import detected, record
from svp_lightning.simulation.large_bubble import LargeBubble
from svp_lightning.simulation.simulator import ACCELERATOR_BATCH, Simulator
from tests import configured

GPU = torch.device("cuda", 0)
NETWORK = {"block_channels": (16, 32), "attention": (False, True), "patch": 2}


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """A tensor without values that a cached function kept would break the tests that follow."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    ours = [m for name, m in sys.modules.items() if name.startswith("svp_lightning.")]
    for function in [f for module in ours for f in _cached(module)]:
        function.cache_clear()


def _cached(module: ModuleType) -> list[Any]:
    return [value for value in vars(module).values() if hasattr(value, "cache_clear")]


def fake() -> Any:
    """Tensors made within have no values."""
    return FakeTensorMode(allow_non_fake_inputs=True)


class Waits(TorchDispatchMode):
    """Operations at which a program waits for all that its GPU has been given to do."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name, given = func.overloadpacket.__name__, {self._device(t) for t in tree_leaves(args)}
        copied = name in ("_to_copy", "copy_", "index", "index_put_") and given | {
            self._device(t) for t in tree_leaves(out)
        }
        read = name in ("_local_scalar_dense", "nonzero", "masked_select") and "cuda" in given
        if read or (copied and {"cpu", "cuda"} <= copied):
            self.found.append(str(func))
        return out

    @staticmethod
    def _device(value: Any) -> str | None:
        return value.device.type if isinstance(value, Tensor) else None


def test_waiting_is_noticed() -> None:
    with fake(), Waits() as waits:
        numbers = torch.ones(3, device=GPU)
        numbers[torch.tensor([0, 1])] + torch.ones(3).to(GPU)[:2]
        torch.where(numbers > 0, numbers, 0.0)
    assert waits.found == ["aten.index.Tensor", "aten._to_copy.default"]


def test_no_batch_waits_for_the_ones_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of the images are copied to the GPU with the first batch."""
    monkeypatch.setattr(torch, "Generator", lambda _: torch.default_generator)
    weights = Composition(np.ones((2, 3)) / 6, np.ones(3))
    mixture: Any = SimpleNamespace(composition=weights)
    data = ParticleDataModule(mixture, None, 4, transform=TrainTransform(True, 0.1, 0.5))
    data.trainer = SimpleNamespace(training=True, global_step=0, global_rank=0)  # type: ignore[assignment]

    def waits_of_a_batch() -> list[str]:
        image = torch.zeros(4, 1, 16, 16, device=GPU, dtype=torch.uint8)
        batch = {"image": image, "label": torch.zeros(4, device=GPU).long()}
        with Waits() as waits:
            found = data.on_after_batch_transfer(batch, 0)
        assert {values.device for values in found.values()} == {GPU}
        return waits.found

    with fake():
        assert waits_of_a_batch() == ["aten._to_copy.default"]
        assert waits_of_a_batch() == []


def test_two_devices_in_one_operation_are_refused() -> None:
    with fake(), pytest.raises(RuntimeError, match=r"cuda:0.*cpu"):
        torch.ones(2, device=GPU) + torch.ones(2)


@pytest.mark.parametrize("name", ["protein", "silicone_oil", "air_bubble"])
def test_optics_and_camera(name: str) -> None:
    settings = configured.simulation(counts={"train": {name: 1}}, large_bubble_share=0.0)
    simulator = Simulator(settings, 32, seed=1)
    rows = np.arange(8)
    drawn = simulator.draw([name] * 8, rows, rows % 2)
    for session, lattice, chosen in simulator._batches(drawn, rows % 2, ACCELERATOR_BATCH):
        draws = [drawn[i] for i in chosen]
        assert not any(isinstance(draw.scene, LargeBubble) for draw in draws)
        with fake():
            light = simulator._light(session, lattice, draws, GPU)
            grey = record(session, light, [draw.exposure for draw in draws])
            seen = detected(light, session.pixel_um, 1.0, 0.1)
        assert light.device == grey.device == seen.device == GPU
        assert (grey.dtype, seen.dtype) == (torch.uint8, torch.bool)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_generator_trains(share: float) -> None:
    settings = configured.generator(network=NETWORK, augmentation=share)
    denoiser = Denoiser(settings, 16, 3)
    with fake():
        denoiser = denoiser.to(GPU)
        average = AveragedDenoiser(denoiser, 0.99)
        images, labels = torch.rand(4, 1, 16, 16, device=GPU), torch.zeros(4, device=GPU).long()
        optimizer = build_optimizer(denoiser, settings)
        (matrices,) = (g["params"] for g in optimizer.param_groups if g["orthogonal"])
        for parameter in matrices:
            parameter.grad = torch.zeros_like(parameter)
        with Waits() as waits:
            conditions = None
            if share:
                images, conditions = augment(images, share)
            loss = denoiser.loss(images, labels, augmentation=conditions)
            Divergence().look("loss", loss, 1)
            torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
            optimizer.step()
            average.update(denoiser, 1)
    assert waits.found == []
    assert loss.device == GPU
    assert {p.device for p in average.parameters()} == {GPU}


@pytest.mark.parametrize("name", ["dpm_solver", "ddim", "ddpm"])
def test_generator_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = Denoiser(configured.generator(network=NETWORK), 16, 3)
    settings = configured.sampler(name=name, steps=3, guidance=1.5, precision="float32")
    pipeline = build_pipeline(denoiser, settings)
    pipeline.set_progress_bar_config(disable=True)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(3)  # on the CPU, as always
    scheduler.set_begin_index(0)
    monkeypatch.setattr(scheduler, "set_timesteps", lambda *_, **__: None)
    with fake():
        denoiser.to(GPU)
        seeds, labels = torch.arange(4, device=GPU), torch.zeros(4, device=GPU).long()
        states = list(pipeline.states(labels, lambda number: gaussian(seeds, number, 16, 16)))
    assert len(states) == 4
    assert {images.device for state in states for images in state} == {GPU}


def test_classifier_trains_and_collects() -> None:
    module = ClassifierModule(
        configured.classifier(), ("a", "b", "c"), 32, logit_shift=[0.0, 1.0, 2.0]
    )
    with fake():
        module = module.to(GPU)
        grey = torch.zeros(4, 1, 32, 32, device=GPU, dtype=torch.uint8)
        images = TrainTransform(True, 0.1, 0.5)(grey, torch.default_generator)
        labels = torch.zeros(4, device=GPU).long()
        with Waits() as waits:
            loss = module.loss(module(images).float(), labels, torch.ones(4, device=GPU))
            Divergence().look("loss", loss, 1)
        probability = module.probabilities(images)
    assert waits.found == []
    assert loss.device == images.device == probability.device == GPU
    assert probability.dtype == torch.float32
