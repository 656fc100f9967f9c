from types import SimpleNamespace

import numpy as np
import pytest
import torch

from svp_lightning.errors import SettingsError
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.noise import gaussian, image_seeds
from svp_lightning.generator.precision import resolve_precision
from svp_lightning.generator.sampler import sample, trajectory
from svp_lightning.generator.schedule import NoiseSchedule
from svp_lightning.generator.settings import DiffusionSettings, SamplerSettings
from svp_lightning.generator.solvers import CLEAN, levels, solve

NAMES = ["dpm_solver", "ddim", "ddpm"]
PINNED_SEEDS = [3770075631662096682, 4733405671058256113]


def settings(**changes: object) -> SamplerSettings:
    return SamplerSettings.model_validate({"steps": 5, "batch_size": 8} | changes)


def eight_images() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(8) % 2, image_seeds(0, "oil", 0, 8)


@pytest.mark.parametrize("name", NAMES)
def test_same_seeds_give_the_same_images_and_others_do_not(denoiser: Denoiser, name: str) -> None:
    labels, seeds = eight_images()
    first = sample(denoiser, labels, seeds, settings(name=name))
    assert first.shape == (8, 16, 16)
    assert first.dtype == np.uint8
    assert np.array_equal(first, sample(denoiser, labels, seeds, settings(name=name)))
    others = sample(denoiser, labels, seeds + 1, settings(name=name))
    assert not np.array_equal(first, others)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_batch_size_does_not_change_an_image(
    denoiser: Denoiser, name: str, precision: str, guidance: float
) -> None:
    labels, seeds = eight_images()
    images = [
        sample(
            denoiser,
            labels,
            seeds,
            settings(name=name, precision=precision, guidance=guidance, batch_size=size),
        ).astype(int)
        for size in (8, 1, 3)
    ]
    assert np.abs(images[1] - images[0]).max() <= 1
    assert np.abs(images[2] - images[0]).max() <= 1


def test_order_and_company_do_not_change_an_image(denoiser: Denoiser) -> None:
    labels, seeds = eight_images()
    together = sample(denoiser, labels, seeds, settings()).astype(int)
    picked = sample(denoiser, labels[[5, 2]], seeds[[5, 2]], settings()).astype(int)
    assert np.abs(together[[5, 2]] - picked).max() <= 1


def test_batch_size_is_no_part_of_the_identity() -> None:
    assert settings(batch_size=1).identity() == settings(batch_size=2).identity()
    assert settings(seed=1).identity() != settings(seed=2).identity()


def test_image_seeds_are_stable_distinct_and_independent_of_the_range() -> None:
    seeds = image_seeds(3, "air_bubble", 0, 100_000)
    assert len(np.unique(seeds)) == 100_000
    assert seeds.min() >= 0
    assert np.array_equal(image_seeds(3, "air_bubble", 500, 600), seeds[500:600])
    assert not np.isin(image_seeds(3, "silicone_oil", 0, 100), seeds).any()
    assert not np.isin(image_seeds(4, "air_bubble", 0, 100), seeds).any()
    # Written down once: changing the mixing would change everybody's images.
    assert image_seeds(0, "air_bubble", 0, 2).tolist() == PINNED_SEEDS


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    seeds = torch.from_numpy(image_seeds(0, "oil", 0, 400))
    noise = gaussian(seeds, 0, 16, 16).double()
    assert noise.mean().abs() < 0.01
    assert noise.var() == pytest.approx(1, abs=0.02)
    assert (noise**4).mean() == pytest.approx(3, abs=0.1)
    between_pixels = torch.corrcoef(noise.flatten(1).T).fill_diagonal_(0)
    between_images = torch.corrcoef(noise.flatten(1)).fill_diagonal_(0)
    between_draws = (noise * gaussian(seeds, 1, 16, 16)).mean()
    assert between_pixels.abs().max() < 6 / 400**0.5
    assert between_images.abs().max() < 6 / 256**0.5
    assert between_draws.abs() < 0.02


def test_neighbouring_seeds_have_unrelated_noise() -> None:
    noise = gaussian(torch.tensor([0, 1, 2**32, 2**33]), 0, 64, 64).flatten(1)
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 6 / 64


def test_trajectory_runs_from_noise_to_the_sampled_image(denoiser: Denoiser) -> None:
    labels, seeds = eight_images()
    noisy, clean = trajectory(denoiser, labels, seeds, settings(), at=[0, 2, -1])
    assert noisy.shape == clean.shape == (3, 8, 16, 16)
    assert np.array_equal(noisy[-1], sample(denoiser, labels, seeds, settings()))
    assert np.array_equal(noisy[-1], clean[-1])
    assert noisy[0].std() > 60  # pure noise: standard deviation 127.5, cut off at 0 and 255


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spacing", ["karras", "uniform"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "rectified"])
@pytest.mark.parametrize("steps", [2, 20, 90, 100])
def test_levels_fall_to_the_clean_image(name: str, spacing: str, schedule: str, steps: int) -> None:
    values = {"schedule": schedule, "timesteps": 100}
    process = NoiseSchedule(DiffusionSettings.model_validate(values))
    visited = levels(process, settings(name=name, spacing=spacing, steps=steps))
    assert len(visited) == steps + 1
    assert visited[-1] is CLEAN
    times = [level.t for level in visited]
    assert times == sorted(set(times), reverse=True)
    assert times[0] >= 90
    assert times[-2] < 100 / steps


@pytest.mark.parametrize(
    ("interval", "same_as"),
    [((0.0, 1e9), {"guidance": 3.0}), ((1e8, 1e9), {"guidance": 1.0})],
)
def test_guidance_interval_of_everything_or_nothing(
    denoiser: Denoiser, interval: tuple[float, float], same_as: dict[str, float]
) -> None:
    labels, seeds = eight_images()
    found = sample(
        denoiser, labels, seeds, settings(guidance=3.0, guidance_interval=interval, steps=4)
    )
    assert np.array_equal(found, sample(denoiser, labels, seeds, settings(**same_as, steps=4)))


def test_guidance_costs_nothing_outside_its_interval(denoiser: Denoiser) -> None:
    sizes: list[int] = []
    denoiser.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    labels, seeds = eight_images()
    chosen = settings(guidance=2.0, guidance_interval=(0.2, 2.0), steps=10)
    sample(denoiser, labels, seeds, chosen)
    ratios = [level.sigma / level.alpha for level in levels(denoiser.schedule, chosen)[:-1]]
    assert sizes == [16 if 0.2 <= ratio <= 2.0 else 8 for ratio in ratios]
    assert {8, 16} == set(sizes)


@pytest.mark.parametrize(("supported", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_automatic_precision_follows_the_device(
    monkeypatch: pytest.MonkeyPatch, denoiser: Denoiser, supported: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    resolved = resolve_precision(settings(), "cpu")
    assert resolved == settings(precision=chosen)
    assert resolve_precision(resolved, "cuda") is resolved
    labels, seeds = eight_images()
    automatic = sample(denoiser, labels, seeds, settings())
    assert np.array_equal(automatic, sample(denoiser, labels, seeds, resolved))


def test_compiling_happens_once_and_keeps_weights_and_images(
    monkeypatch: pytest.MonkeyPatch, denoiser: Denoiser
) -> None:
    labels, seeds = eight_images()
    expected, names = sample(denoiser, labels, seeds, settings()), list(denoiser.state_dict())
    compiled: list[torch.nn.Module] = []
    calls: list[int] = []

    def compile_to_itself(module: torch.nn.Module) -> None:  # generating code takes a minute
        compiled.append(module)

        def call(*inputs: torch.Tensor, **keywords: torch.Tensor) -> object:
            calls.append(len(inputs[0]))
            return module._call_impl(*inputs, **keywords)

        module._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", compile_to_itself)
    for _ in range(2):
        assert np.array_equal(sample(denoiser, labels, seeds, settings(compile=True)), expected)
    assert compiled == [denoiser.network]
    assert len(calls) == 10
    assert list(denoiser.state_dict()) == names
    assert settings(compile=True).identity() != settings().identity()


class OnDeviceWithoutFloat64:
    """A table as it is on Apple's GPUs."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def cpu(self) -> torch.Tensor:
        return self.values

    def double(self) -> torch.Tensor:
        raise TypeError("the MPS framework doesn't support float64")


def test_levels_need_no_float64_on_the_device() -> None:
    schedule = NoiseSchedule(DiffusionSettings())
    tables = {name: OnDeviceWithoutFloat64(getattr(schedule, name)) for name in ("alpha", "sigma")}
    there = SimpleNamespace(timesteps=schedule.timesteps, **tables)
    assert levels(there, settings()) == levels(schedule, settings())  # type: ignore[arg-type]


def test_more_steps_than_the_process_has_are_refused(denoiser: Denoiser) -> None:
    labels, seeds = eight_images()
    with pytest.raises(SettingsError, match=r"sampler\.steps: 101 .* 100"):
        sample(denoiser, labels, seeds, settings(steps=101))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spacing", ["karras", "uniform"])
def test_exact_denoiser_of_a_gaussian_yields_that_gaussian(name: str, spacing: str) -> None:
    """For x_0 ~ N(m, s^2) the ideal denoiser is known, so the solver alone is on trial."""
    mean, deviation = 0.3, 0.1
    schedule = NoiseSchedule(DiffusionSettings())

    def predict_x_0(x_t: torch.Tensor, t: int) -> torch.Tensor:
        alpha, sigma = schedule.alpha[t], schedule.sigma[t]
        gain = alpha * deviation**2 / ((alpha * deviation) ** 2 + sigma**2)
        return mean + gain * (x_t - alpha * mean)

    def draw_noise(number: int) -> torch.Tensor:
        return torch.randn(1, 1, 100, 100, generator=torch.Generator().manual_seed(number))

    steps = 40 if name == "dpm_solver" else 200
    visited = levels(schedule, settings(name=name, steps=steps, spacing=spacing))
    *_, last = solve(predict_x_0, draw_noise, visited, name)
    assert last.x_t.mean() == pytest.approx(mean, abs=0.01)
    assert last.x_t.std() == pytest.approx(deviation, rel=0.1)


def test_second_order_beats_first_order() -> None:
    """With few steps DPM-Solver must be nearer to the exact flow than DDIM."""
    deviation = 0.3
    schedule = NoiseSchedule(DiffusionSettings())
    start = torch.full((1, 1, 1, 1), 0.9)

    def predict_x_0(x_t: torch.Tensor, t: int) -> torch.Tensor:
        alpha, sigma = schedule.alpha[t], schedule.sigma[t]
        return alpha * deviation**2 / ((alpha * deviation) ** 2 + sigma**2) * x_t

    visited = levels(schedule, settings(steps=10))
    ends = {}
    for name in ("dpm_solver", "ddim"):
        *_, last = solve(predict_x_0, lambda number: start, visited, name)
        ends[name] = last.x_t.item()
    exact = deviation * 0.9
    assert abs(ends["dpm_solver"] - exact) < 0.5 * abs(ends["ddim"] - exact)
