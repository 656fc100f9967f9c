"""Which precision ``sampler.precision=auto`` stands for on a device."""

import torch

from svp_lightning.generator.settings import SamplerSettings


def resolve_precision(
    settings: SamplerSettings, device: torch.device | str = "cpu"
) -> SamplerSettings:
    """The settings with ``auto`` replaced by what suits ``device``.

    Rounding to bfloat16 changes images a little, so what was chosen belongs to the identity of
    a pool: resolve the settings before making it.

    Args:
        settings: the sampler.
        device: where images will be drawn.
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
