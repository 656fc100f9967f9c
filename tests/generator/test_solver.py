"""Levels of noise, and the steps between them."""

from collections.abc import Callable

import pytest
import torch

from svp_lightning.generator.schedule import NoiseSchedule
from svp_lightning.generator.solver import ParticleScheduler
from tests import configured


def a_scheduler(process: NoiseSchedule, **changes: object) -> ParticleScheduler:
    """The scheduler of a process; a prediction is the clean image itself."""
    zeros, ones = [0.0] * process.timesteps, [1.0] * process.timesteps
    chosen = {"sampler": "dpm_solver", "spacing": "karras", **changes}
    return ParticleScheduler(process.noise_ratio, zeros, ones, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("spacing", ["karras", "uniform"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "rectified"])
@pytest.mark.parametrize("steps", [2, 20, 90, 100])
def test_levels_fall_to_the_clean_image(spacing: str, schedule: str, steps: int) -> None:
    values = {"schedule": schedule, "timesteps": 100}
    process = NoiseSchedule(configured.diffusion(**values))
    scheduler = a_scheduler(process, spacing=spacing)
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.tolist()
    assert len(times) == steps
    assert times == sorted(set(times), reverse=True)
    assert times[0] >= 90
    assert times[-1] < 100 / steps
    ratios = [process.noise_ratio[t] for t in times]
    assert scheduler.sigmas.tolist() == pytest.approx([*ratios, 0.0])


def solved(
    scheduler: ParticleScheduler,
    predict_x_0: Callable[[torch.Tensor, int], torch.Tensor],
    draw_noise: Callable[[int], torch.Tensor],
    steps: int,
) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    x = draw_noise(0)
    for number, t in enumerate(scheduler.timesteps.tolist()):
        noise = draw_noise(number + 1)
        x = scheduler.step(predict_x_0(x, t), t, x, variance_noise=noise).prev_sample
    return x


@pytest.mark.parametrize("name", ["dpm_solver", "ddim", "ddpm"])
@pytest.mark.parametrize("spacing", ["karras", "uniform"])
def test_exact_denoiser_of_a_gaussian_yields_that_gaussian(name: str, spacing: str) -> None:
    """For x_0 ~ N(m, s^2) the ideal denoiser is known, so the solver alone is on trial."""
    mean, deviation = 0.3, 0.1
    process = NoiseSchedule(configured.diffusion())

    def predict_x_0(x_t: torch.Tensor, t: int) -> torch.Tensor:
        alpha, sigma = process.alpha[t], process.sigma[t]
        gain = alpha * deviation**2 / ((alpha * deviation) ** 2 + sigma**2)
        return mean + gain * (x_t - alpha * mean)

    def draw_noise(number: int) -> torch.Tensor:
        return torch.randn(1, 1, 100, 100, generator=torch.Generator().manual_seed(number))

    scheduler = a_scheduler(process, sampler=name, spacing=spacing)
    last = solved(scheduler, predict_x_0, draw_noise, 40 if name == "dpm_solver" else 200)
    assert last.mean() == pytest.approx(mean, abs=0.01)
    assert last.std() == pytest.approx(deviation, rel=0.1)


def test_second_order_beats_first_order() -> None:
    """With few steps DPM-Solver must be nearer to the exact flow than DDIM."""
    deviation = 0.3
    process = NoiseSchedule(configured.diffusion())
    start = torch.full((1, 1, 1, 1), 0.9)

    def predict_x_0(x_t: torch.Tensor, t: int) -> torch.Tensor:
        alpha, sigma = process.alpha[t], process.sigma[t]
        return alpha * deviation**2 / ((alpha * deviation) ** 2 + sigma**2) * x_t

    ends = {
        name: solved(a_scheduler(process, sampler=name), predict_x_0, lambda _: start, 10).item()
        for name in ("dpm_solver", "ddim")
    }
    exact = deviation * 0.9
    assert abs(ends["dpm_solver"] - exact) < 0.5 * abs(ends["ddim"] - exact)
