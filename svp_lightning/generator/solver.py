"""The noise levels of a run of the sampler, and the solver that steps from one to the next.

Needs torch and diffusers only. An exported generator carries this file.

References:
    Lu et al., DPM-Solver++, 2022, arXiv 2211.01095, algorithm 2 and section 3.5.
    Karras et al., Elucidating the design space, 2022, arXiv 2206.00364, eq. 5.
"""

from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import Tensor

KARRAS_RHO = 7.0
MAX_NOISE_RATIO = 80.0
"""Largest sigma/alpha that Karras spacing starts from; above it images are pure noise."""


class ParticleScheduler(DPMSolverMultistepScheduler):
    """DPM-Solver++, DDIM or DDPM from a table of noise levels.

    One solver serves all three: second order is DPM-Solver++(2M), first order is DDIM, and first
    order with fresh noise is ancestral sampling (DDPM).

    Args:
        noise_ratio: sigma/alpha of each training time step, rising.
        clean_skip: the clean image that a prediction F amounts to is
            ``clean_skip[t] * x_t + clean_out[t] * F``, whatever the network predicts.
        clean_out: see ``clean_skip``.
        sampler: ``dpm_solver``, ``ddim`` or ``ddpm``.
        spacing: ``karras`` or ``uniform`` time steps.
    """

    @register_to_config
    def __init__(
        self,
        noise_ratio: list[float],
        clean_skip: list[float],
        clean_out: list[float],
        sampler: str = "dpm_solver",
        spacing: str = "karras",
    ) -> None:
        alpha_squared = 1 / (1 + np.square(noise_ratio))
        before = np.concatenate(([1.0], alpha_squared[:-1]))
        super().__init__(
            num_train_timesteps=len(noise_ratio),
            trained_betas=(1 - alpha_squared / before).tolist(),
            algorithm_type="sde-dpmsolver++" if sampler == "ddpm" else "dpmsolver++",
            solver_order=2 if sampler == "dpm_solver" else 1,
            prediction_type="sample",
            final_sigmas_type="zero",
        )

    def set_timesteps(
        self,
        num_inference_steps: int,
        device: torch.device | str | None = None,
        start_ratio: float = MAX_NOISE_RATIO,
        **_: Any,
    ) -> None:
        """Choose the noise levels of a run of ``num_inference_steps``.

        Karras spacing begins at the sigma / alpha of ``start_ratio``.

        Raises:
            ValueError: the training had fewer.
        """
        ratio = np.asarray(self.config.noise_ratio)
        if num_inference_steps > len(ratio):
            raise ValueError(f"{num_inference_steps} steps; the training had {len(ratio)}.")
        if self.config.spacing == "karras":
            times = karras_times(ratio, num_inference_steps, start_ratio)
        else:
            times = uniform_times(len(ratio), num_inference_steps)
        self._times: list[int] = times.tolist()
        super().set_timesteps(timesteps=self._times, device=device)
        # Not by way of 1 - alpha^2, which has few digits left where there is little noise.
        self.sigmas = torch.from_numpy(np.append(ratio[times], 0.0)).float()

    def convert_model_output(
        self, model_output: Tensor, *_: Any, sample: Tensor, **__: Any
    ) -> Tensor:
        """The clean images that the network's output amounts to, (B, 1, H, W)."""
        t = self._times[self.step_index]
        x_0 = self.config.clean_skip[t] * sample + self.config.clean_out[t] * model_output
        return x_0 if self.config.sampler == "dpm_solver" else x_0.clamp(-1, 1)


def karras_times(
    ratio: NDArray[np.float64], steps: int, top_ratio: float = MAX_NOISE_RATIO
) -> NDArray[np.int64]:
    """The time steps nearest to Karras et al.'s noise ratios, each once, falling."""
    bottom = ratio[0] ** (1 / KARRAS_RHO)
    top = min(ratio[-1], top_ratio) ** (1 / KARRAS_RHO)
    wanted = np.linspace(bottom, top, steps) ** KARRAS_RHO
    nearest = np.interp(np.log(wanted), np.log(ratio), np.arange(len(ratio))).round()
    # Neighbours that round to one time step are moved apart, up first, then down.
    order = np.arange(steps)
    distinct = np.maximum.accumulate(nearest - order) + order
    return np.minimum(distinct, len(ratio) - steps + order).astype(np.int64)[::-1]


def uniform_times(timesteps: int, steps: int) -> NDArray[np.int64]:
    """Equally spaced time steps from the last one down."""
    return (np.linspace(timesteps, 0, steps + 1)[:-1].round() - 1).astype(np.int64)
