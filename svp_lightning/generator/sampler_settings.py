"""Settings of drawing images from a trained generator, and what they ask of it.

Kept free of torch so that the command line can check a configuration at once.
"""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from svp_lightning.errors import SettingsError
from svp_lightning.generator.settings import GeneratorSettings
from svp_lightning.runtime.settings import Seed, Settings, runtime


class SamplerSettings(Settings):
    """How images are drawn from a trained generator."""

    name: Literal["dpm_solver", "ddim", "ddpm"]
    steps: int = Field(ge=2)
    """Evaluations of the network per image (twice as many with guidance)."""
    guidance: float = Field(ge=0)
    """Classifier-free guidance weight: 1 samples the class as learnt, more exaggerates it
    at the cost of variety, 0 ignores it."""
    guidance_interval: tuple[float, float] | None
    """Noise ratios sigma / alpha between which guidance acts, ends included (Kynkäänniemi et al.
    2024); outside, the class is sampled as learnt, at half the cost. ``None``: everywhere."""
    spacing: Literal["karras", "uniform"]
    """Noise levels visited by ``dpm_solver``: Karras et al. 2022, eq. 5, or equal steps in
    time. The others always take equal steps."""
    precision: Literal["auto", "float32", "bfloat16"]
    """Of the network. ``auto``: bfloat16 where the device multiplies it in hardware. Which one
    it was is part of a pool's identity and manifest."""
    start_ratio: float | None = Field(gt=0)
    """Noise ratio sigma / alpha from which simulated images of other microscopes are denoised, so
    that they keep their shapes and take on the look of the real images (SDEdit, Meng et al. 2022,
    arXiv 2108.01073). ``None``: images start from pure noise."""
    reorient: bool
    """Whether every step sees the images in another of their eight orientations (quarter turns,
    mirrored or not). A network trained on all of them answers nearly alike, and the error that
    depends on the orientation averages out over the steps instead of adding up. Large particles
    come out nearer to real ones, small ones farther (experiments/generator_recipe). Needs a
    generator trained with ``symmetry``."""
    compile: bool
    """Fuse the network with ``torch.compile`` (needs a C++ compiler on a CPU): some 20 s of
    start-up, then faster steps. In bfloat16 it rounds less often, which changes images a little."""
    seed: Seed
    batch_size: int = runtime(ge=1)
    """Images in flight at once."""

    @model_validator(mode="after")
    def _starts_with_chosen_steps(self) -> Self:
        if self.start_ratio is not None and (self.name, self.spacing) != ("dpm_solver", "karras"):
            raise ValueError(
                f"start_ratio={self.start_ratio:g} needs name=dpm_solver and spacing=karras, whose "
                "steps can begin at any noise"
            )
        return self

    @field_validator("guidance_interval")
    @classmethod
    def _interval_is_ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] < value[1]:
            raise ValueError("the lower end must be at least 0 and below the upper end")
        return value


def require_learnt(sampler: SamplerSettings, generator: GeneratorSettings) -> None:
    """Refuse a sampler that asks a generator for what it has never been trained on.

    Raises:
        SettingsError: ``guidance`` is not 1 and no class was ever hidden: what is predicted without
            a class is as good as random, and guidance subtracts it. Or ``reorient`` of a generator
            trained without ``symmetry``.
    """
    if sampler.reorient and not generator.symmetry:
        raise SettingsError(
            "sampler.reorient=true needs a generator that was trained on images in all "
            "orientations, but its generator.symmetry is false.",
            "Set sampler.reorient=false.",
        )
    if sampler.guidance != 1 and generator.diffusion.class_dropout == 0:
        raise SettingsError(
            f"sampler.guidance={sampler.guidance:g} needs a generator that was trained with some "
            "classes hidden, but its generator.diffusion.class_dropout is 0.",
            "Set sampler.guidance=1, or train one with generator.diffusion.class_dropout=0.1.",
        )
