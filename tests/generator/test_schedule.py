from statistics import NormalDist

import pytest
import torch

from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.schedule import COARSE, NoiseSchedule
from tests import configured

T = 200
PREDICTIONS = ["epsilon", "v_prediction", "velocity", "residual"]


def a_schedule(**changes: object) -> NoiseSchedule:
    return NoiseSchedule(configured.diffusion(**{"timesteps": T} | changes))


def random_noising() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    t = torch.tensor([0, 1, 20, 100, 180])
    return torch.rand(5, 1, 8, 8) * 2 - 1, torch.randn(5, 1, 8, 8), t


@pytest.mark.parametrize("name", ["linear", "cosine", "rectified"])
def test_noise_only_grows_and_variance_is_kept(name: str) -> None:
    schedule = a_schedule(schedule=name)
    torch.testing.assert_close(schedule.alpha**2 + schedule.sigma**2, torch.ones(T))
    assert (schedule.sigma.diff() > 0).all()
    assert schedule.sigma[0] < 0.04
    expected = (schedule.sigma / schedule.alpha)[:-1]
    torch.testing.assert_close(torch.tensor(schedule.noise_ratio)[:-1], expected, rtol=1e-3, atol=0)


def test_linear_schedule_is_that_of_the_paper() -> None:
    schedule = a_schedule(schedule="linear", timesteps=500)
    betas = torch.linspace(1e-4, 0.02, 500, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha**2, (1 - betas).cumprod(0).float())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_prediction_gives_back_the_image(prediction: str) -> None:
    schedule = a_schedule(prediction=prediction)
    x_0, eps, t = random_noising()
    x_t, target = schedule.add_noise(x_0, eps, t), schedule.target(x_0, eps, t)
    torch.testing.assert_close(schedule.x_0(target, x_t, t), x_0, atol=2e-4, rtol=1e-3)


def test_residual_asks_for_the_image_in_noise_and_for_little_in_clear() -> None:
    """Unlike v, its target holds no copy of the noise where noise drowns the image."""
    schedule = a_schedule(prediction="residual")
    x_0, eps, _ = random_noising()
    late, early = torch.full((5,), 150), torch.zeros(5, dtype=torch.long)
    other = schedule.target(x_0, torch.randn_like(eps), late)
    torch.testing.assert_close(schedule.target(x_0, eps, late), other, atol=0.05, rtol=0)
    x_t = schedule.add_noise(x_0, eps, early)
    bare = schedule.x_0(torch.zeros_like(x_t), x_t, early)
    assert (bare - x_0).abs().mean() < (torch.zeros_like(x_0) - x_0).abs().mean()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_edm_weighs_errors_of_the_clean_image(prediction: str) -> None:
    """Karras et al. 2022, table 1, (s^2 + d^2) / (s d)^2 with s = sigma / alpha, up to a factor."""
    schedule = a_schedule(prediction=prediction, weighting="edm")
    x_0, eps, t = random_noising()
    x_t, target = schedule.add_noise(x_0, eps, t), schedule.target(x_0, eps, t)
    wrong = target + 0.1
    loss = schedule.weight(t) * (wrong - target).square().mean(dim=(1, 2, 3))
    error = (schedule.x_0(wrong, x_t, t) - x_0).square().mean(dim=(1, 2, 3))
    s = schedule.sigma[t] / schedule.alpha[t]
    ratio = loss / (error * (s**2 + COARSE**2) / (s * COARSE) ** 2)
    torch.testing.assert_close(ratio, ratio[-1].expand(5), atol=0, rtol=0.02)


LEVELS = {"mean": -1.0, "std": 1.4, "uniform_share": 0.25}


@pytest.mark.parametrize("weighting", ["uniform", "edm"])
@pytest.mark.parametrize("levels", [None, LEVELS])
def test_weights_are_one_on_average(levels: object, weighting: str) -> None:
    """Else the limit on gradients and their scale would depend on the weighting."""
    schedule = a_schedule(weighting=weighting, noise_levels=levels)
    times = schedule.draw((torch.arange(100_000) + 0.5) / 100_000)
    assert schedule.weight(times).mean().item() == pytest.approx(1, rel=1e-3)


def test_noise_levels_are_log_normal_with_a_share_of_all_times() -> None:
    schedule = a_schedule(noise_levels=LEVELS | {"uniform_share": 0.2}, timesteps=1000)
    times = schedule.draw((torch.arange(100_000) + 0.5) / 100_000)
    found = torch.tensor(schedule.noise_ratio).log()[times]
    for z in (-1.0, 0.0, 1.0):
        level = -1.0 + 1.4 * z
        uniform = (torch.tensor(schedule.noise_ratio).log() <= level).float().mean().item()
        expected = 0.8 * NormalDist().cdf(z) + 0.2 * uniform
        assert (found <= level).float().mean().item() == pytest.approx(expected, abs=0.01)


def test_rectified_paths_are_straight() -> None:
    """Scaled back, x_t = (1 - s) x_0 + s eps with s = t / T (Liu et al. 2023, eq. 1)."""
    schedule = a_schedule(schedule="rectified", prediction="velocity")
    x_0, eps, t = random_noising()
    alpha, sigma = (table[t].view(-1, 1, 1, 1) for table in (schedule.alpha, schedule.sigma))
    straight = schedule.add_noise(x_0, eps, t) / (alpha + sigma)
    s = ((t + 1) / T).view(-1, 1, 1, 1)
    torch.testing.assert_close(straight, (1 - s) * x_0 + s * eps, atol=1e-5, rtol=1e-4)
    assert torch.equal(schedule.target(x_0, eps, t), eps - x_0)


@pytest.mark.parametrize(("size", "signal"), [(16, 2.0), (32, 1.0), (64, 0.5), (96, 1 / 3)])
def test_signal_follows_the_image_size_unless_it_is_given(size: int, signal: float) -> None:
    assert configured.diffusion(signal="auto").for_images(size).signal == pytest.approx(signal)
    assert configured.diffusion(signal=0.7).for_images(size).signal == 0.7
    settings = configured.generator(
        network={"block_channels": (8,), "attention": (False,)},
        diffusion={"signal": "auto", "timesteps": T},
    )
    denoiser = Denoiser(settings, size, 2)
    torch.testing.assert_close(denoiser.schedule.alpha, a_schedule(signal=signal).alpha)


def test_v_and_epsilon_are_turned_into_each_other() -> None:
    """Salimans & Ho 2022, appendix D: eps = sigma x_t + alpha v."""
    by_v, by_eps = a_schedule(prediction="v_prediction"), a_schedule(prediction="epsilon")
    x_t, v, t = random_noising()
    alpha, sigma = (table[t].view(-1, 1, 1, 1) for table in (by_v.alpha, by_v.sigma))
    eps = sigma * x_t + alpha * v
    torch.testing.assert_close(by_eps.x_0(eps, x_t, t), by_v.x_0(v, x_t, t), atol=1e-3, rtol=1e-3)
