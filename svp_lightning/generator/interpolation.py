"""Images between two seeds: the network decodes noise on the arc from one to the other.

    x_T(a) = sin((1 - a) w) / sin(w) x_A + sin(a w) / sin(w) x_B,    w the angle between them

Noise of many pixels lies near a sphere; the arc stays on it, where a straight line would pass
through noise of too little variance.

References:
    Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985 (slerp).
    Song et al., Denoising diffusion implicit models, 2021, arXiv 2010.02502, section 5.3.
"""

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svp_lightning.errors import SettingsError
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.guidance import GuidedDenoiser
from svp_lightning.generator.noise import gaussian
from svp_lightning.generator.sampler import to_grey_levels
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.generator.solvers import levels, solve


def interpolate(
    denoiser: Denoiser,
    label: int,
    seeds: tuple[int, int],
    shares: NDArray[np.float64],
    settings: SamplerSettings,
    device: torch.device | str = "cpu",
) -> NDArray[np.uint8]:
    """Images of one class between those of two seeds.

    Args:
        denoiser: trained; moved to ``device`` and set to evaluation.
        label: the class, 0 to K - 1.
        seeds: A and B, see :func:`~svp_lightning.generator.noise.image_seeds`.
        shares: how far from A to B, (n,) in 0 to 1.
        settings: a sampler that adds no noise of its own: ``dpm_solver`` or ``ddim``.
        device: where to compute.

    Returns:
        Grey levels (n, H, W).

    Raises:
        SettingsError: the sampler is ``ddpm``.
    """
    if settings.name == "ddpm":
        raise SettingsError(
            "sampler=ddpm adds noise in every step: an image is not decided by its first noise.",
            "Use sampler=dpm_solver or ddim.",
        )
    device, size = torch.device(device), denoiser.image_size
    ends = gaussian(torch.tensor(seeds, device=device), 0, size, size)
    noise = slerp(ends[0], ends[1], torch.as_tensor(shares, dtype=torch.float32, device=device))
    guided = GuidedDenoiser(denoiser.to(device).eval(), settings.guidance)
    y = torch.full((len(noise),), label, device=device)

    @torch.inference_mode()
    def predict_x_0(x_t: Tensor, step: int) -> Tensor:
        t = torch.full_like(y, step)
        return denoiser.schedule.x_0(guided(x_t, t, y), x_t, t)

    states = solve(predict_x_0, lambda _: noise, levels(denoiser.schedule, settings), settings.name)
    return to_grey_levels(deque(states, maxlen=1).pop().x_t)


def slerp(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    """Points on the arc from ``a`` to ``b`` (both (C, H, W)), (len(shares), C, H, W)."""
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
    angle = torch.acos(cosine.clamp(-1, 1))
    share = shares.view(-1, 1, 1, 1)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
