"""Images of a trained denoiser, each a function of (weights, class, seed, settings) alone."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import SettingsError
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.noise import gaussian
from svp_lightning.generator.sampler_settings import SamplerSettings


def sample(
    denoiser: Denoiser,
    labels: NDArray[np.int64],
    seeds: NDArray[np.int64],
    settings: SamplerSettings,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
    starts: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Draw one image for each label and seed: grey levels (n, H, W).

    Args:
        denoiser: trained; moved to ``device`` and set to evaluation.
        labels: classes (n,), 0 to K - 1 (K: any class).
        seeds: image seeds (n,), see :func:`~svp_lightning.generator.noise.image_seeds`.
        settings: the sampler.
        device: where to compute.
        progress: called with the number of images finished, batch by batch.
        starts: images (n, H, W) that ``settings.start_ratio`` starts from.

    Raises:
        SettingsError: the process has fewer time steps than the sampler.
    """
    pipeline = _ready(denoiser, settings, device)
    options: tuple[Any, ...] = ()
    images: NDArray[np.uint8] = np.empty(
        (len(labels), denoiser.image_size, denoiser.image_size), np.uint8
    )
    for start in range(0, len(labels), settings.batch_size):
        batch = slice(start, start + settings.batch_size)
        y = torch.from_numpy(labels[batch]).to(device)
        if starts is not None:
            clean = to_model_range(torch.from_numpy(starts[batch])[:, None]).to(device)
            options = (None, None, None, (clean, settings.start_ratio))
        images[batch] = pipeline.draw(y, _noise(seeds[batch], denoiser, device), *options)
        if progress is not None:
            progress(len(y))
    return images


def trajectory(
    denoiser: Denoiser,
    labels: NDArray[np.int64],
    seeds: NDArray[np.int64],
    settings: SamplerSettings,
    at: Sequence[int],
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The way from noise to image of labels (n,) and seeds (n,), for a strip of pictures.

    ``at`` are step numbers, ascending; 0 is pure noise, -1 the finished image.

    Returns:
        Noisy images x_t and the clean images predicted from them, each (len(at), n, H, W).
    """
    pipeline = _ready(denoiser, settings, device)
    y = torch.from_numpy(labels).to(device)
    states = list(pipeline.states(y, _noise(seeds, denoiser, device)))
    noisy, clean = zip(*(states[step] for step in at), strict=True)
    return (
        np.stack([pipeline.grey_levels(images) for images in noisy]),
        np.stack([pipeline.grey_levels(images) for images in clean]),
    )


def interpolate(
    denoiser: Denoiser,
    label: int,
    seeds: tuple[int, int],
    shares: NDArray[np.float64],
    settings: SamplerSettings,
    device: torch.device | str = "cpu",
) -> NDArray[np.uint8]:
    """Images of one class between those of two seeds: of noise on the arc from one to the other.

    Noise of many pixels lies near a sphere; the arc stays on it, where a straight line would pass
    through noise of too little variance (Song et al. 2021, arXiv 2010.02502, section 5.3).
    ``shares`` (n,) in 0 to 1 say how far along.

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
    a, b = _noise(np.array(seeds), denoiser, device)(0)
    noise = slerp(a, b, torch.as_tensor(shares, dtype=torch.float32, device=device))
    y = torch.full((len(shares),), label, device=device)
    images: NDArray[np.uint8] = _ready(denoiser, settings, device).draw(y, lambda _: noise)
    return images


def slerp(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    """Points on the arc from ``a`` to ``b`` (both (C, H, W)), (len(shares), C, H, W).

    Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985.
    """
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
    angle = torch.acos(cosine.clamp(-1, 1))
    share = shares.view(-1, 1, 1, 1)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def build_pipeline(denoiser: Denoiser, settings: SamplerSettings, **facts: Any) -> Any:
    """The sampler of a denoiser, a :class:`~svp_lightning.generator.sampling.ParticlePipeline`.

    ``facts`` are ``class_names`` and ``pixel_size_um``, which only exports need.

    Raises:
        SettingsError: the process has fewer time steps than the sampler.
    """
    # Here: diffusers takes a second to import, which most commands do without.
    from svp_lightning.generator.sampling import ParticlePipeline
    from svp_lightning.generator.solver import ParticleScheduler

    schedule = denoiser.schedule
    if settings.steps > schedule.timesteps:
        raise SettingsError(
            f"sampler.steps: {settings.steps} steps were asked of a generator that has "
            f"{schedule.timesteps}.",
            f"Use at most {schedule.timesteps}.",
        )
    scheduler = ParticleScheduler(
        noise_ratio=schedule.noise_ratio,
        clean_skip=schedule.skip.tolist(),
        clean_out=schedule.out.tolist(),
        sampler=settings.name,
        spacing=settings.spacing if settings.name == "dpm_solver" else "uniform",
    )
    network: Any = denoiser.network
    return ParticlePipeline(
        unet=network,
        scheduler=scheduler,
        image_size=denoiser.image_size,
        guidance_scale=settings.guidance,
        guidance_interval=settings.guidance_interval and list(settings.guidance_interval),
        num_inference_steps=settings.steps,
        reorient=settings.reorient,
        **facts,
    )


def resolve_precision(
    settings: SamplerSettings, device: torch.device | str = "cpu"
) -> SamplerSettings:
    """The settings with ``auto`` replaced by what suits ``device``.

    Rounding to bfloat16 changes images a little, so what was chosen belongs to the identity of a
    pool: resolve the settings before making it.
    """
    if settings.precision != "auto":
        return settings
    chosen = "bfloat16" if multiplies_bfloat16(torch.device(device)) else "float32"
    return settings.model_copy(update={"precision": chosen})


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether in hardware; emulated it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def _ready(denoiser: Denoiser, settings: SamplerSettings, device: torch.device | str) -> Any:
    """The sampler on a device, silent, in the precision that the settings ask for."""
    pipeline = build_pipeline(denoiser.to(device).eval(), settings)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.bfloat16 = resolve_precision(settings, device).precision == "bfloat16"
    if settings.compile:
        denoiser.fuse()
    return pipeline


def _noise(
    seeds: NDArray[np.int64], denoiser: Denoiser, device: torch.device | str
) -> Callable[[int], Tensor]:
    """The noise of images, by its number."""
    on_device, size = torch.from_numpy(seeds).to(device), denoiser.image_size
    return lambda number: gaussian(on_device, number, size, size)
