"""Settings of the generator: network, diffusion process, training, sampling.

Kept free of torch so that the command line can check a configuration at once. Image size
and number of classes are facts of the data and appear nowhere here.
"""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from svp_lightning.generator.selection_settings import SelectionSettings
from svp_lightning.settings import Settings, runtime


class NetworkSettings(Settings):
    """Shape of the denoising U-Net.

    ``unet`` is an attention U-Net on ``patch`` x ``patch`` pixel blocks folded into channels,
    which is what makes it fast. ``paper`` follows Ozbulak et al. (arXiv 2508.06021): four
    levels, linear attention in each, weight-standardised convolutions, no folding.
    """

    kind: Literal["unet", "paper"] = "unet"
    block_channels: tuple[int, ...] = Field((64, 96, 128), min_length=1, max_length=6)
    """Channels per level, multiples of 8; each level halves the resolution. ``paper`` reads
    the multipliers from it: ``(64, 128, 256, 512)``."""
    layers_per_block: int = Field(1, ge=1, le=4)
    """Residual blocks per level; ``paper`` always has two."""
    attention: tuple[bool, ...] = (False, False, True)
    """Whether each level attends over positions (``unet`` only)."""
    patch: Literal[1, 2, 4] = 4
    """Largest folding factor. Small images use less, so that the lowest level keeps at
    least 4 x 4 positions."""
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if any(channels % 8 or channels < 8 for channels in self.block_channels):
            raise ValueError("block_channels must be multiples of 8")
        if self.kind == "unet" and len(self.attention) != len(self.block_channels):
            raise ValueError("attention needs one entry per level of block_channels")
        if self.kind == "paper" and (self.patch != 1 or self.layers_per_block != 2):
            raise ValueError("the paper's network has patch 1 and layers_per_block 2")
        return self


class DiffusionSettings(Settings):
    """The noising process and the training objective."""

    timesteps: int = Field(1000, ge=10, le=4000)
    schedule: Literal["linear", "cosine"] = "cosine"
    """``linear``: variances 1e-4 to 0.02 (Ho et al. 2020); ``cosine``: Nichol & Dhariwal
    2021, eq. 17."""
    signal: float = Field(1.0, gt=0)
    """``cosine`` only: alpha / sigma times this at every time step. Below 1 it moves training
    to where the outline of a smooth, large particle is decided (Hoogeboom et al. 2023)."""
    prediction: Literal["epsilon", "v_prediction", "residual"] = "residual"
    """What the network predicts: the noise; v = alpha eps - sigma x0 (Salimans & Ho 2022); or
    what is missing to the clean image, x0 = c_skip x_t + c_out F. The last never asks the
    network to copy noise and learns several times faster on images that are mostly smooth."""
    weighting: Literal["uniform", "min_snr"] = "uniform"
    """``min_snr``: Hang et al. 2023, with gamma 5."""
    loss: Literal["l1", "l2"] = "l2"
    class_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of training images whose class is hidden, which makes guidance possible."""


class GeneratorSettings(Settings):
    """How a generator is built and trained."""

    network: NetworkSettings = NetworkSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    steps: int = Field(2000, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(32, ge=1)
    """Images per optimiser step over all processes."""
    class_sampling: Literal["natural", "balanced"] = "balanced"
    """Whether classes appear in training as often as in the store, or equally often."""
    symmetry: bool = True
    """Random flips and right-angle rotations of every training image."""
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(100, ge=0)
    decay: Literal["constant", "cosine"] = "cosine"
    """What the learning rate does after warming up; ``cosine`` falls to zero at ``steps``."""
    weight_decay: float = Field(0.01, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    ema_decay: float | None = Field(0.995, gt=0, lt=1)
    """Decay of the exponential moving average of the weights; ``None``: no average."""
    seed: int = Field(0, ge=0)
    checkpoint_every: int = runtime(500, ge=1)
    """Optimiser steps between checkpoints for resuming."""
    selection: SelectionSettings = SelectionSettings()

    def identity(self) -> dict[str, Any]:
        """Settings of the selection that are not read are left out."""
        return super().identity() | {"selection": self.selection.identity()}


class SamplerSettings(Settings):
    """How images are drawn from a trained generator."""

    name: Literal["dpm_solver", "ddim", "ddpm"] = "dpm_solver"
    steps: int = Field(20, ge=2)
    """Evaluations of the network per image (twice as many with guidance)."""
    guidance: float = Field(1.5, ge=0)
    """Classifier-free guidance weight: 1 samples the class as learnt, more exaggerates it
    at the cost of variety, 0 ignores it."""
    spacing: Literal["karras", "uniform"] = "karras"
    """Noise levels visited by ``dpm_solver``: Karras et al. 2022, eq. 5, or equal steps in
    time. The others always take equal steps."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = Field(0, ge=0)
    batch_size: int = runtime(64, ge=1)
    """Images in flight at once."""
