"""Settings of the generator: network, diffusion process, training.

Kept free of torch so that the command line can check a configuration at once. Image size
and number of classes are facts of the data and appear nowhere here.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from svp_lightning.errors import SettingsError
from svp_lightning.runtime.settings import GivenPath, Seed, Settings, as_path, runtime

WEIGHTS, INFO = "model.safetensors", "generator.json"
"""In the folder of a generator."""
PHYSICS = Path(__file__).parents[1] / "pretrained" / "physics_32px"
"""The generator that ``initial=physics`` starts from."""
MIN_BOTTLENECK = 4
"""Fewest positions along a side of the lowest level, so that shape is still resolved."""
OF_THE_START = (("diffusion", "prediction", "residual"), ("network", "traits", False))
"""Settings that are those of ``initial`` if ``auto``, and what they are without one."""
UNSHIFTED_SIZE = 32
"""Image size, px, at which ``signal: auto`` is 1."""


class NetworkSettings(Settings):
    """Shape of the denoising U-Net.

    ``unet`` is an attention U-Net on ``patch`` x ``patch`` pixel blocks folded into channels,
    which is what makes it fast. ``paper`` follows Ozbulak et al. (arXiv 2508.06021): four
    levels, linear attention in each, weight-standardised convolutions, no folding.
    """

    kind: Literal["unet", "paper"]
    block_channels: tuple[int, ...] = Field(min_length=1, max_length=6)
    """Channels per level, multiples of 8; each level halves the resolution. ``paper`` reads
    the multipliers from it: ``(64, 128, 256, 512)``."""
    layers_per_block: int = Field(ge=1, le=4)
    """Residual blocks per level; ``paper`` always has two."""
    attention: tuple[bool, ...]
    """Whether each level attends over positions (``unet`` only)."""
    patch: Literal[1, 2, 4]
    """Largest folding factor. Small images use less, so that the lowest level keeps at
    least 4 x 4 positions."""
    dropout: float = Field(ge=0, lt=1)
    traits: bool
    """Whether the network is given what a particle looks like (size, contrast, tone, elongation),
    and images are drawn with such traits as the training images have (``unet`` only). See
    :mod:`~svp_lightning.generator.traits`. ``auto`` in the configuration: as the generator in
    ``generator.initial`` has it, or not without one."""

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if any(channels % 8 or channels < 8 for channels in self.block_channels):
            raise ValueError("block_channels must be multiples of 8")
        if self.kind == "unet" and len(self.attention) != len(self.block_channels):
            raise ValueError("attention needs one entry per level of block_channels")
        if self.kind == "paper" and (self.patch != 1 or self.layers_per_block != 2):
            raise ValueError("the paper's network has patch 1 and layers_per_block 2")
        if self.kind == "paper" and self.traits:
            raise ValueError("the paper's network takes no traits")
        return self

    def for_images(self, size: int) -> Self:
        """The same with the largest ``patch`` up to it that fits square images of ``size`` px.

        Raises:
            SettingsError: there is none.
        """
        levels, patch = len(self.block_channels), int(self.patch)
        while patch:
            side, rest = divmod(size, patch * 2 ** (levels - 1))
            if not rest and side >= MIN_BOTTLENECK:
                return self.model_copy(update={"patch": patch})
            patch //= 2
        fitting = max(size // MIN_BOTTLENECK, 1).bit_length()
        raise SettingsError(
            f"generator.network.block_channels: {levels} levels do not fit images of {size} px, "
            f"whose side must be a multiple of {MIN_BOTTLENECK * 2 ** (levels - 1)}.",
            f"Use at most {fitting} levels, or another image size.",
        )


class NoiseLevels(Settings):
    """How often training visits each noise level.

    ln(sigma / alpha) is normal (Karras et al. 2022), and a share of the images has a time step that
    is as likely as any other, so that the large noise in which outlines are decided is not
    neglected.
    """

    mean: float
    std: float = Field(gt=0)
    uniform_share: float = Field(ge=0, lt=1)


class DiffusionSettings(Settings):
    """The noising process and the training objective."""

    timesteps: int = Field(ge=20, le=4000)
    schedule: Literal["linear", "cosine", "rectified"]
    """``linear``: variances 1e-4 to 0.02 (Ho et al. 2020); ``cosine``: Nichol & Dhariwal
    2021, eq. 17; ``rectified``: alpha / sigma = (1 - s) / s, the straight paths of Liu et al.
    2023 scaled to unit variance."""
    signal: Literal["auto"] | Annotated[float, Field(gt=0)]
    """Not for ``linear``: alpha / sigma times this at every time step. Below 1 it moves training
    to where the outline of a smooth, large particle is decided: on twice as many pixels the same
    outline is visible in twice as much noise (Hoogeboom et al. 2023). ``auto``: 0.5 at 64 px, in
    inverse proportion to the image size."""
    prediction: Literal["epsilon", "v_prediction", "velocity", "residual", "filtered"]
    """What the network predicts: the noise; v = alpha eps - sigma x0 (Salimans & Ho 2022); the
    velocity eps - x0 of a straight path (flow matching, with ``rectified``); or what is missing
    to the clean image, x0 = c_skip x_t + c_out F (Karras et al. 2022, with a skip of our own).
    The latter never asks the network to copy noise and learns several times faster on images
    that are mostly smooth. ``filtered`` (``unet`` only): what the best linear filter misses of the
    clean image, in units of the error that this filter makes at each noise level, see
    :class:`~svp_lightning.generator.networks.LinearFilter`. ``auto`` in the configuration: that of
    the generator in ``generator.initial``, or ``residual`` without one."""
    weighting: Literal["uniform", "edm"]
    """Of the squared error of the prediction: none, or so that an error of the clean image counts
    as in Karras et al. 2022, (s^2 + d^2) / (s d)^2 with s = sigma / alpha and d the images'
    standard deviation."""
    noise_levels: NoiseLevels | None
    """``None``: all time steps equally often."""
    loss: Literal["l1", "l2"]
    class_dropout: float = Field(ge=0, lt=1)
    """Share of training images whose class is hidden, which makes guidance possible."""

    def for_images(self, size: int) -> Self:
        """The same with a number for ``signal``, for square images of ``size`` px."""
        if self.signal != "auto":
            return self
        return self.model_copy(update={"signal": UNSHIFTED_SIZE / size})


class SelectionSettings(Settings):
    """Which weights of a training become the generator.

    ``last``: those after the last step. ``denoising``: every ``every`` steps noise is taken out of
    fixed images of the validation split, and the weights that do it best over all noise levels
    are kept. Held-out images never train anything: the batches hold none, only an error comes
    back. The test split is not touched.
    """

    method: Literal["last", "denoising"]
    every: int = Field(ge=1)
    """Optimiser steps between measurements; the last step is always measured."""
    patience: int | None = Field(ge=1)
    """Measurements without a better one after which training stops; None: never."""

    def identity(self) -> dict[str, Any]:
        """``last`` reads none of the others."""
        values = super().identity()
        return values if self.method == "denoising" else {"method": "last"}


class GeneratorSettings(Settings):
    """How a generator is built and trained."""

    classes: Literal["all", "rare"] | tuple[str, ...]
    """Classes it learns: ``rare`` (those that synthetic images are drawn of; all where none is
    rare), ``all`` (for synthetic images of the plentiful ones too; at an equal budget the rare
    ones come out worse), or names; one name makes a generator of that class alone, as the paper
    has it."""
    network: NetworkSettings
    diffusion: DiffusionSettings
    initial: GivenPath | None
    """Folder of the generator whose weights training starts from, of the same network and noising
    process; ``physics`` is the one in this package, trained on simulated images of many
    microscopes. ``None``: random weights."""
    steps: int = Field(ge=1)
    """Optimiser steps."""
    batch_size: int = Field(ge=1)
    """Images per optimiser step over all processes."""
    class_sampling: Literal["natural", "balanced"]
    """Whether classes appear in training as often as in the store, or equally often."""
    symmetry: bool
    """Random flips and right-angle rotations of every training image."""
    augmentation: float = Field(ge=0, le=1)
    """Chance of each of scaling, turning, moving and lighting a training image; the network gets
    the amounts, so that samples show none of it (``unet`` only). See
    :mod:`~svp_lightning.generator.warping`."""
    optimizer: Literal["muon", "adamw"]
    """``muon`` (Jordan et al. 2024, see :mod:`~svp_lightning.generator.muon`) moves all directions
    of a weight matrix alike, for which each step takes longer than one of ``adamw``."""
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    decay: Literal["constant", "cosine"]
    """What the learning rate does after warming up; ``cosine`` falls to zero at ``steps``."""
    weight_decay: float = Field(ge=0)
    gradient_clip: float = Field(gt=0)
    """Largest gradient norm."""
    ema_decay: float | None = Field(gt=0, lt=1)
    """Decay of the exponential moving average of the weights; ``None``: no average."""
    seed: Seed
    checkpoint_every: int = runtime(ge=1)
    """Optimiser steps between checkpoints for resuming."""
    selection: SelectionSettings

    @property
    def initial_weights(self) -> Path | None:
        """The weights that training starts from; identities hold their hash, not their place.

        Raises:
            SettingsError: there is none.
        """
        if self.initial is None:
            return None
        file = _folder(self.initial) / WEIGHTS
        if not file.is_file():
            raise SettingsError(
                f"generator.initial={self.initial}: there is no {file}.",
                "Give the folder of a trained generator, or null.",
            )
        return file

    @model_validator(mode="before")
    @classmethod
    def _those_of_the_start(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given, start = values.get("initial"), None
        if isinstance(given, str | int | Path) and given != "":  # else it is refused by itself
            start = _folder(Path(as_path(given)))
        found = dict(values)
        for part, name, without in OF_THE_START:
            if isinstance(values.get(part), dict) and values[part].get(name) == "auto":
                chosen = without if start is None else _setting_of(start, part, name, without)
                found[part] = values[part] | {name: chosen}
        return found

    @field_validator("classes", mode="before")
    @classmethod
    def _lone_name(cls, value: Any) -> Any:
        lone = isinstance(value, str) and value not in ("all", "rare")
        return (value,) if lone else value

    @model_validator(mode="after")
    def _network_can(self) -> Self:
        paper, weighted = self.network.kind == "paper", self.diffusion.weighting != "uniform"
        if self.diffusion.prediction == "filtered" and (paper or weighted):
            raise ValueError("prediction=filtered needs network.kind=unet and weighting=uniform")
        if self.augmentation and paper:
            raise ValueError("the paper's network takes no description of an augmentation")
        return self


def _folder(initial: Path) -> Path:
    return PHYSICS if initial == Path("physics") else initial


def _setting_of(folder: Path, part: str, name: str, without: Any) -> Any:
    """A setting of a trained generator; reading its weights refuses what is none."""
    try:
        stored = json.loads((folder / INFO).read_text(encoding="utf-8"))
        return stored["generator"]["settings"][part][name]
    except (OSError, ValueError, KeyError, TypeError):
        return without
