"""The sampler of an exported generator: diffusers' DPM-Solver on this generator's noise levels.

One solver serves all samplers of the framework: second order is DPM-Solver++(2M), first order
is DDIM, and first order with fresh noise is ancestral sampling (DDPM).

References:
    Lu et al., DPM-Solver++, 2022, arXiv 2211.01095, algorithm 2 and section 3.5.
"""

from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from svp_lightning.generator.spacing import karras_times, uniform_times


class ParticleScheduler(DPMSolverMultistepScheduler):
    """DPM-Solver++, DDIM or DDPM from a table of noise levels.

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
        self, num_inference_steps: int, device: torch.device | str | None = None, **_: Any
    ) -> None:
        """Choose the noise levels of a run of ``num_inference_steps``."""
        ratio = np.asarray(self.config.noise_ratio)
        if self.config.spacing == "karras":
            times = karras_times(ratio, num_inference_steps)
        else:
            times = uniform_times(len(ratio), num_inference_steps)
        super().set_timesteps(timesteps=times.tolist(), device=device)
        # Not by way of 1 - alpha^2, which has few digits left where there is little noise.
        self.sigmas = torch.from_numpy(np.append(ratio[times], 0.0)).float()

    def convert_model_output(
        self, model_output: Tensor, *_: Any, sample: Tensor, **__: Any
    ) -> Tensor:
        """The clean images that the network's output amounts to, (B, 1, H, W)."""
        t = int(self.timesteps[self.step_index])
        x_0 = self.config.clean_skip[t] * sample + self.config.clean_out[t] * model_output
        return x_0 if self.config.sampler == "dpm_solver" else x_0.clamp(-1, 1)
