"""The noising process: x_t = alpha_t x_0 + sigma_t eps, with alpha_t^2 + sigma_t^2 = 1.

All conversions between what a network may predict live here.

References:
    Ho et al., Denoising diffusion probabilistic models, 2020, arXiv 2006.11239.
    Nichol & Dhariwal, Improved DDPM, 2021, arXiv 2102.09672 (cosine schedule).
    Salimans & Ho, Progressive distillation, 2022, arXiv 2202.00512 (v-prediction).
    Karras et al., Elucidating the design space, 2022, arXiv 2206.00364, table 1 (residual).
    Hoogeboom et al., Simple diffusion, 2023, arXiv 2301.11093, eq. 4 (shifted schedule).
    Liu et al., Flow straight and fast (rectified flow), 2023, arXiv 2209.03003.
    Hang et al., Efficient diffusion training via Min-SNR weighting, 2023, arXiv 2303.09556.
"""

import math

import torch
from torch import Tensor, nn

from svp_lightning.generator.settings import DiffusionSettings

FINE = 0.005
"""Standard deviation of what the surroundings of a pixel do not predict: sensor noise, about 0.6
grey levels at 32 px, less at 64 px. A network that has not learnt the last noise levels yet leaves
this much noise in the image. A larger value shows as grain, by which a classifier can tell
generated images from real ones: 0.014 left 1.5 grey levels where real images have 0.6."""
COARSE = 0.3
"""Standard deviation of pixels over all images, about 40 grey levels."""


class NoiseSchedule(nn.Module):
    """alpha_t and sigma_t for t = 0 (almost clean) to ``timesteps`` - 1 (almost pure noise).

    The tables are buffers, so they follow the denoiser to its device, but are not saved:
    the settings determine them.
    """

    alpha: Tensor
    sigma: Tensor
    skip: Tensor
    out: Tensor
    _weight: Tensor
    _cumulated: Tensor

    def __init__(self, settings: DiffusionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.timesteps = settings.timesteps
        alpha_squared = torch.cumprod(1 - _variances(settings), dim=0)
        alpha, sigma = alpha_squared.sqrt().float(), (1 - alpha_squared).sqrt().float()
        self.noise_ratio: list[float] = (sigma.double() / alpha.double()).tolist()
        """sigma_t / alpha_t of every t: the noise level in units of the image's own range."""
        self.register_buffer("alpha", alpha, persistent=False)
        self.register_buffer("sigma", sigma, persistent=False)
        skip, out = self._coefficients()
        self.register_buffer("skip", skip, persistent=False)
        self.register_buffer("out", out, persistent=False)
        self.register_buffer("_cumulated", self._cumulated_density(), persistent=False)
        self.register_buffer("_weight", self._weights(), persistent=False)

    def add_noise(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t from the clean images, all (B, 1, H, W)."""
        return _at(self.alpha, t) * x_0 + _at(self.sigma, t) * eps

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the network should predict, (B, 1, H, W)."""
        match self.settings.prediction:
            case "epsilon":
                return eps
            case "v_prediction":
                return _at(self.alpha, t) * eps - _at(self.sigma, t) * x_0
            case "velocity":
                return eps - x_0
            case _:
                x_t = self.add_noise(x_0, eps, t)
                return (x_0 - _at(self.skip, t) * x_t) / _at(self.out, t)

    def x_0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean images that a prediction amounts to, (B, 1, H, W)."""
        return _at(self.skip, t) * x_t + _at(self.out, t) * prediction

    def draw(self, shares: Tensor) -> Tensor:
        """Time steps at which training looks, (B,): the quantiles ``shares``, (B,) in 0 to 1."""
        times = torch.searchsorted(self._cumulated, shares, right=True)
        # Rounding may lift the last share to the very end.
        return times.clamp_(max=self.timesteps - 1)

    def weight(self, t: Tensor) -> Tensor:
        """Loss weight of each image, (B,), of mean one over the times that training visits."""
        return self._weight[t]

    def _cumulated_density(self) -> Tensor:
        """Share of training at times up to each one, rising to 1, (``timesteps``,)."""
        uniform = torch.arange(1, self.timesteps + 1) / self.timesteps
        levels = self.settings.noise_levels
        if levels is None:
            return uniform
        normal = torch.distributions.Normal(levels.mean, levels.std)
        below = normal.cdf(torch.tensor(self.noise_ratio).log())
        return torch.lerp(below / below[-1], uniform, levels.uniform_share)

    def _weights(self) -> Tensor:
        """Of all times, (``timesteps``,)."""
        if self.settings.weighting == "uniform":
            return torch.ones(self.timesteps)
        ratio = self.sigma / self.alpha
        weights = self.out.square() * (1 / ratio.square() + 1 / COARSE**2)
        # So that the limit on the gradient's norm means the same for every weighting.
        density = self._cumulated.diff(prepend=torch.zeros(1))
        return weights / (weights * density).sum()

    def _coefficients(self) -> tuple[Tensor, Tensor]:
        """``skip`` and ``out`` of x_0 = skip x_t + out F, F the prediction; (``timesteps``,) each.

        Of the residual, skip x_t is the best linear guess of an image's unpredictable part, of
        standard deviation ``FINE``; out gives the network's target unit variance on images of
        standard deviation ``COARSE``. With FINE = COARSE these are Karras et al.'s.
        """
        alpha, sigma = self.alpha, self.sigma
        match self.settings.prediction:
            case "epsilon":
                return 1 / alpha, -sigma / alpha
            case "v_prediction":
                return alpha, -sigma
            case "filtered":  # the network answers with the clean image
                return torch.zeros_like(alpha), torch.ones_like(alpha)
            case "velocity":
                return 1 / (alpha + sigma), -sigma / (alpha + sigma)
            case _:
                skip = alpha * FINE**2 / ((alpha * FINE) ** 2 + sigma**2)
                return skip, torch.hypot((1 - alpha * skip) * COARSE, skip * sigma)


def _at(table: Tensor, t: Tensor) -> Tensor:
    """The values of each image: (T,) and (B,) -> (B, 1, 1, 1)."""
    return table[t].view(-1, 1, 1, 1)


def _variances(settings: DiffusionSettings) -> Tensor:
    """beta_t, the variance added in step t, float64 (timesteps,)."""
    if settings.schedule == "linear":
        return torch.linspace(1e-4, 0.02, settings.timesteps, dtype=torch.float64)
    t = torch.arange(settings.timesteps + 1, dtype=torch.float64) / settings.timesteps
    if settings.schedule == "cosine":
        ratio = 1 / torch.tan((t + 0.008) / 1.008 * math.pi / 2)
    else:
        ratio = (1 - t) / t
    assert not isinstance(settings.signal, str), "settings.for_images gives the number"
    odds = (ratio * settings.signal) ** 2
    alpha_squared = 1 / (1 + 1 / odds)  # 1 at infinite odds
    return (1 - alpha_squared[1:] / alpha_squared[:-1]).clamp(max=0.999)
