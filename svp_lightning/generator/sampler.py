"""Images from a trained denoiser, each a function of (weights, class, seed, settings) alone."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.guidance import GuidedDenoiser
from svp_lightning.generator.noise import gaussian
from svp_lightning.generator.precision import resolve_precision
from svp_lightning.generator.schedule import NoiseSchedule
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.generator.solvers import State, levels, solve


def sample(
    denoiser: Denoiser,
    labels: NDArray[np.int64],
    seeds: NDArray[np.int64],
    settings: SamplerSettings,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """Draw one image for each label and seed.

    Args:
        denoiser: trained; moved to ``device`` and set to evaluation.
        labels: classes (n,), 0 to K - 1 (K: any class).
        seeds: image seeds (n,), see :func:`~svp_lightning.generator.noise.image_seeds`.
        settings: the sampler.
        device: where to compute.
        progress: called with the number of images finished, batch by batch.

    Returns:
        Grey levels (n, H, W).
    """
    images = np.empty((len(labels), denoiser.image_size, denoiser.image_size), np.uint8)
    for start in range(0, len(labels), settings.batch_size):
        batch = slice(start, start + settings.batch_size)
        states = _walk(denoiser, labels[batch], seeds[batch], settings, device)
        last = deque(states, maxlen=1).pop()  # keeps one state in memory, not all
        images[batch] = to_grey_levels(last.x_t)
        if progress is not None:
            progress(len(last.x_t))
    return images


def trajectory(
    denoiser: Denoiser,
    labels: NDArray[np.int64],
    seeds: NDArray[np.int64],
    settings: SamplerSettings,
    at: Sequence[int],
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The way from noise to image, for a strip of pictures.

    Args:
        denoiser: trained.
        labels: classes (n,).
        seeds: image seeds (n,).
        settings: the sampler.
        at: step numbers, ascending; 0 is pure noise, -1 the finished image.
        device: where to compute.

    Returns:
        Noisy images x_t and the clean images predicted from them, each (len(at), n, H, W).
    """
    states = list(_walk(denoiser, labels, seeds, settings, device))
    return (
        np.stack([to_grey_levels(states[step].x_t) for step in at]),
        np.stack([to_grey_levels(states[step].x_0) for step in at]),
    )


def _walk(
    denoiser: Denoiser,
    labels: NDArray[np.int64],
    seeds: NDArray[np.int64],
    settings: SamplerSettings,
    device: torch.device | str,
) -> Iterator[State]:
    """The states of one batch: one before each step, then the finished images."""
    device = torch.device(device)
    settings = resolve_precision(settings, device)
    denoiser = denoiser.to(device).eval()
    if settings.compile:
        denoiser.fuse()
    guided = GuidedDenoiser(denoiser, settings.guidance)
    y = torch.from_numpy(labels).to(device)
    image_seeds = torch.from_numpy(seeds).to(device)
    size = denoiser.image_size
    lowered = settings.precision == "bfloat16"

    @torch.inference_mode()
    def predict_x_0(x_t: Tensor, step: int) -> Tensor:
        t = torch.full_like(y, step)
        network = guided if _guided_at(step, denoiser.schedule, settings) else denoiser
        with torch.autocast(device.type, torch.bfloat16, enabled=lowered):
            prediction = network(x_t, t, y)
        return denoiser.schedule.x_0(prediction, x_t, t)

    def draw_noise(number: int) -> Tensor:
        return gaussian(image_seeds, number, size, size)

    return solve(predict_x_0, draw_noise, levels(denoiser.schedule, settings), settings.name)


def _guided_at(step: int, schedule: NoiseSchedule, settings: SamplerSettings) -> bool:
    """Whether the noise level of a time step lies where guidance acts."""
    if settings.guidance_interval is None:
        return True
    low, high = settings.guidance_interval
    return low <= schedule.noise_ratio(step) <= high


def to_grey_levels(images: Tensor) -> NDArray[np.uint8]:
    """(n, 1, H, W) in [-1, 1] -> (n, H, W) in 0 to 255, rounded, cut off outside."""
    levels = images[:, 0].float().add(1).mul(127.5).round().clamp(0, 255)
    array: NDArray[np.uint8] = levels.to(torch.uint8).cpu().numpy()
    return array
