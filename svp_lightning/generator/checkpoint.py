"""A trained generator on disk: ``model.safetensors`` and ``generator.json``.

Plain data only; nothing is unpickled. Sampling needs no more than the folder.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svp_lightning.data.classes import ClassName
from svp_lightning.errors import CheckpointError
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.settings import INFO, WEIGHTS, GeneratorSettings
from svp_lightning.generator.traits import Traits
from svp_lightning.runtime.files import replacing, sha256_of_file, write_json
from svp_lightning.runtime.settings import Settings, first_problem

SCHEMA = 3
RETRAIN = "Train it again with task=train_generator, or give the folder of another generator."


class GeneratorInfo(Settings):
    """What a generator is: everything but its weights."""

    settings: GeneratorSettings
    class_names: tuple[ClassName, ...] = Field(min_length=1)
    image_size: int = Field(ge=16)
    """H = W, px."""
    pixel_size_um: float | None = Field(None, gt=0)
    """µm/px, as the data said when it was trained."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Provenance: data hash, counts, package versions, wall time."""


@dataclass(frozen=True)
class Generator:
    """A generator ready to sample from; the denoiser is in evaluation mode, on the CPU."""

    denoiser: Denoiser
    info: GeneratorInfo

    def with_pixels(self, pixel_size_um: float | None) -> "Generator":
        """The same for images of such pixels, µm/px; None: unknown."""
        info = self.info.model_copy(update={"pixel_size_um": pixel_size_um})
        return Generator(self.denoiser, info)

    def label_of(self, class_name: str) -> int:
        """The label of a class.

        Raises:
            CheckpointError: the generator has not learnt that class.
        """
        if class_name not in self.info.class_names:
            raise CheckpointError(
                f"The generator knows the classes {', '.join(self.info.class_names)}, "
                f"not {class_name!r}.",
                "Train a generator on data with that class.",
            )
        return self.info.class_names.index(class_name)


def save_generator(
    directory: Path, denoiser: Denoiser, info: GeneratorInfo, dtype: torch.dtype = torch.float32
) -> None:
    """Write the weights and ``info`` into ``directory``."""
    weights = {name: value.to(dtype).contiguous() for name, value in denoiser.state_dict().items()}
    with replacing(directory / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    content = {
        "schema": SCHEMA,
        "kind": "svp_lightning generator",
        "weights_sha256": sha256_of_file(directory / WEIGHTS),
        "generator": info.model_dump(mode="json"),
    }
    write_json(directory / INFO, content)


def load_generator(directory: Path) -> Generator:
    """Read a generator written by :func:`save_generator`.

    Raises:
        CheckpointError: files are missing, damaged, or not a generator of ours.
    """
    content, info = _read_info(directory)
    path = directory / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{directory} has no {WEIGHTS}.", RETRAIN)
    if sha256_of_file(path) != content.get("weights_sha256"):
        raise CheckpointError(
            f"{path} is not the file that {INFO} was written for (SHA-256 differs).",
            "Copy the whole folder again, or train again.",
        )
    denoiser = Denoiser(info.settings, info.image_size, len(info.class_names))
    try:
        denoiser.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} does not hold the weights of {INFO}.", RETRAIN) from error
    return Generator(denoiser.eval(), info)


def copy_weights(generator: Generator, denoiser: Denoiser, class_names: Sequence[str]) -> None:
    """Start ``denoiser`` from a trained generator; its classes, in label order, by their names.

    Images of another size fit where both networks fold them to equally many blocks.

    Raises:
        CheckpointError: they do not fit one another.
    """
    known, source = generator.info.class_names, generator.denoiser
    rows = [known.index(c) if c in known else source.null_label for c in (*class_names, "")]
    weights = source.state_dict()
    for name, module in source.named_modules():
        of_labels = ["weight"] if isinstance(module, nn.Embedding) else []
        if isinstance(module, Traits):
            of_labels = [part for part, _ in module.named_buffers()]
        for part in of_labels:
            weights[f"{name}.{part}"] = weights[f"{name}.{part}"][rows]
    patches = [getattr(d.network, "patch", 1) for d in (source, denoiser)]
    blocks_agree = source.image_size * patches[1] == denoiser.image_size * patches[0]
    if blocks_agree and patches[0] < patches[1]:
        _refold(weights, *patches)
    theirs, ours = (
        (
            d.settings.model_dump(include={"timesteps", "schedule", "prediction"}),
            {name: value.shape for name, value in state.items()},
        )
        for d, state in ((source, weights), (denoiser, denoiser.state_dict()))
    )
    if theirs != ours:
        raise CheckpointError(
            "generator.initial: these weights are of another network or noising process than "
            "generator.network, generator.augmentation, generator.diffusion and the image size ask "
            "for.",
            "Set generator.initial=null, or take the settings that it was trained with.",
        )
    denoiser.load_state_dict(weights)


def _refold(weights: dict[str, Tensor], old: int, new: int) -> None:
    """Make a network of ``old`` x ``old`` blocks of pixels one of ``new`` x ``new`` finer ones.

    A block then reads the mean of the finer pixels in place of a pixel, and answers all of them
    alike. The time steps keep their meaning: the schedule's ``signal`` allows for such means. A
    linear filter's leavings, which follow the pixels, are noise of unit variance at any size; so
    are their sums over the ratio.
    """
    from svp_lightning.generator.networks import RADIAL_CHANNELS

    ratio = new / old
    for name, value in weights.items():
        pixels = old**2
        if name.endswith("conv_in.weight"):  # (out, pixels and radial maps, 3, 3)
            images, maps = value[:, :-RADIAL_CHANNELS], value[:, -RADIAL_CHANNELS:]
            shares = (1 / ratio**2, 1 / ratio)
            fine = [
                _spread(image.movedim(1, 0), old, new).movedim(0, 1) * share
                for image, share in zip(images.split(pixels, dim=1), shares, strict=False)
            ]
            weights[name] = torch.cat((*fine, maps), dim=1)
        elif name.endswith(("conv_out.weight", "conv_out.bias")):  # (pixels, ...)
            weights[name] = _spread(value, old, new)


def _spread(value: Tensor, old: int, new: int) -> Tensor:
    """(old^2, ...) values of the pixels of a block -> (new^2, ...), the nearest old pixel's."""
    nearest = torch.arange(new) * old // new
    spread: Tensor = value.unflatten(0, (old, old))[nearest][:, nearest].flatten(0, 1)
    return spread


def _read_info(directory: Path) -> tuple[dict[str, Any], GeneratorInfo]:
    path = directory / INFO
    if not path.is_file():
        raise CheckpointError(f"{directory} is no generator: {INFO} is missing.", RETRAIN)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError(f"it does not describe a generator of schema {SCHEMA}")
        match content.get("generator"):
            case {"settings": {"diffusion": {"prediction": "auto"}}}:  # looked up in `initial`
                raise ValueError("it does not say what the network predicts")
        return content, GeneratorInfo.model_validate(content.get("generator"))
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_problem(error)}.", RETRAIN) from error
    except ValueError as error:  # no UTF-8, or no JSON
        raise CheckpointError(f"{path} is damaged: {error}.", RETRAIN) from error
