"""From noise to an image in N steps of a differential equation.

A step goes from noise level (alpha, sigma) to the next, (alpha', sigma'), given the clean
image x_0 that the denoiser predicts. With lambda = log(alpha / sigma) and h = lambda' - lambda:

    DPM-Solver++(2M)  x' = sigma'/sigma x + alpha' (1 - exp(-h)) D,
                      D = (1 + h / 2 h_before) x_0 - (h / 2 h_before) x_0_before
    DDIM              x' = alpha' x_0 + sigma' eps,   eps = (x - alpha x_0) / sigma
    DDPM              x' = alpha' x_0 + sqrt(sigma'^2 - s^2) eps + s z,   z ~ N(0, 1),
                      s = sigma'/sigma sqrt(1 - alpha^2 / alpha'^2)

References:
    Lu et al., DPM-Solver++, 2022, arXiv 2211.01095, algorithm 2.
    Song et al., Denoising diffusion implicit models, 2021, arXiv 2010.02502, eq. 12 and 16.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from svp_lightning.errors import SettingsError
from svp_lightning.generator.schedule import NoiseSchedule
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.generator.spacing import karras_times, uniform_times


@dataclass(frozen=True)
class Level:
    """A noise level: its time step, alpha and sigma."""

    t: int
    alpha: float
    sigma: float


@dataclass(frozen=True)
class State:
    """Images on their way: x_t and the clean images predicted from them, (B, 1, H, W)."""

    x_t: Tensor
    x_0: Tensor


CLEAN = Level(-1, 1.0, 0.0)


def levels(schedule: NoiseSchedule, settings: SamplerSettings) -> list[Level]:
    """The ``steps`` noise levels a sampler visits, falling, and then the clean image.

    Raises:
        SettingsError: the process has fewer time steps than the sampler.
    """
    if settings.steps > schedule.timesteps:
        raise SettingsError(
            f"sampler.steps: {settings.steps} steps were asked of a generator that has "
            f"{schedule.timesteps}.",
            f"Use at most {schedule.timesteps}.",
        )
    alpha = schedule.alpha.cpu().double().numpy()  # in this order: Apple's GPUs have no float64
    sigma = schedule.sigma.cpu().double().numpy()
    if settings.name == "dpm_solver" and settings.spacing == "karras":
        times = karras_times(sigma / alpha, settings.steps)
    else:
        times = uniform_times(schedule.timesteps, settings.steps)
    return [Level(t, float(alpha[t]), float(sigma[t])) for t in times.tolist()] + [CLEAN]


def solve(
    predict_x_0: Callable[[Tensor, int], Tensor],
    draw_noise: Callable[[int], Tensor],
    noise_levels: list[Level],
    name: str,
) -> Iterator[State]:
    """The states before each step, then the finished images.

    Args:
        predict_x_0: the denoiser, (x_t, t) -> x_0.
        draw_noise: standard normal noise number 0, 1, ...; 0 is the start.
        noise_levels: of :func:`levels`.
        name: of the sampler.
    """
    x = draw_noise(0)
    before: tuple[Level, Tensor] | None = None
    for step, (here, there) in enumerate(pairwise(noise_levels)):
        x_0 = predict_x_0(x, here.t)
        yield State(x, x_0)
        if name == "dpm_solver":
            x = _dpm_solver_step(x, x_0, here, there, before)
            before = here, x_0
        else:
            noise = draw_noise(step + 1) if name == "ddpm" else None
            x = _ddim_step(x, x_0, here, there, noise)
    yield State(x, x)


def _dpm_solver_step(
    x: Tensor, x_0: Tensor, here: Level, there: Level, before: tuple[Level, Tensor] | None
) -> Tensor:
    if there is CLEAN:  # first order: the second has no limit at sigma = 0
        return x_0
    h = _log_ratio(there) - _log_ratio(here)
    if before is not None:
        level, x_0_before = before
        weight = h / (2 * (_log_ratio(here) - _log_ratio(level)))
        x_0 = x_0 + weight * (x_0 - x_0_before)
    return there.sigma / here.sigma * x - there.alpha * math.expm1(-h) * x_0


def _ddim_step(x: Tensor, x_0: Tensor, here: Level, there: Level, noise: Tensor | None) -> Tensor:
    x_0 = x_0.clamp(-1, 1)
    eps = (x - here.alpha * x_0) / here.sigma
    if noise is None:
        return there.alpha * x_0 + there.sigma * eps
    fresh = there.sigma / here.sigma * math.sqrt(1 - (here.alpha / there.alpha) ** 2)
    kept = math.sqrt(there.sigma**2 - fresh**2)
    return there.alpha * x_0 + kept * eps + fresh * noise


def _log_ratio(level: Level) -> float:
    return math.log(level.alpha / level.sigma)
