"""A trained generator on disk: ``model.safetensors`` and ``generator.json``.

Plain data only; nothing is unpickled. Sampling needs no more than the folder.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from svp_lightning.errors import CheckpointError
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.settings import WEIGHTS, GeneratorSettings
from svp_lightning.runtime.files import replacing, sha256_of_file, write_json
from svp_lightning.runtime.settings import Settings, first_problem

INFO = "generator.json"
SCHEMA = 2
RETRAIN = "Train it again with task=train_generator, or give the folder of another generator."


class GeneratorInfo(Settings):
    """What a generator is: everything but its weights."""

    settings: GeneratorSettings
    class_names: tuple[str, ...] = Field(min_length=1)
    image_size: int = Field(ge=16)
    """H = W, px."""
    pixel_size_um: float | None = Field(None, gt=0)
    """µm/px."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Provenance: data hash, counts, package versions, wall time."""


@dataclass(frozen=True)
class Generator:
    """A generator ready to sample from; the denoiser is in evaluation mode, on the CPU."""

    denoiser: Denoiser
    info: GeneratorInfo

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


def save_generator(directory: Path, denoiser: Denoiser, info: GeneratorInfo) -> None:
    """Write the weights (float32) and ``info`` into ``directory``."""
    weights = {name: value.float().contiguous() for name, value in denoiser.state_dict().items()}
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

    Raises:
        CheckpointError: they do not fit one another.
    """
    theirs, ours = (
        (
            d.settings.model_dump(include={"timesteps", "schedule", "prediction"}),
            # Not the number of classes, the first dimension of their embedding.
            {name: value.shape[1:] for name, value in d.state_dict().items()},
        )
        for d in (generator.denoiser, denoiser)
    )
    if theirs != ours:
        raise CheckpointError(
            "generator.initial: these weights are of another network or noising process than "
            "generator.network, generator.diffusion and the image size ask for.",
            "Set generator.initial=null, or take the settings that it was trained with.",
        )
    known, source = generator.info.class_names, generator.denoiser
    rows = [known.index(c) if c in known else source.null_label for c in (*class_names, "")]
    weights = source.state_dict()
    for name, module in source.named_modules():
        if isinstance(module, nn.Embedding):
            weights[f"{name}.weight"] = weights[f"{name}.weight"][rows]
    denoiser.load_state_dict(weights)


def _read_info(directory: Path) -> tuple[dict[str, Any], GeneratorInfo]:
    path = directory / INFO
    if not path.is_file():
        raise CheckpointError(f"{directory} is no generator: {INFO} is missing.", RETRAIN)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError(f"it does not describe a generator of schema {SCHEMA}")
        return content, GeneratorInfo.model_validate(content.get("generator"))
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_problem(error)}.", RETRAIN) from error
    except ValueError as error:  # no UTF-8, or no JSON
        raise CheckpointError(f"{path} is damaged: {error}.", RETRAIN) from error
