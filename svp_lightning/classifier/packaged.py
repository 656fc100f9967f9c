"""A trained classifier as a folder to be passed on: weights, what they mean, and a card.

=====================  ===========================================================================
``model.safetensors``  the network's tensors, in torchvision's naming
``config.json``        :class:`PackagedConfig`: all that is needed to use the weights
``README.md``          the card
``model.onnx``         optional: the same function for other programs
further files          results and predictions without the images' names, as a run has them
=====================  ===========================================================================

Every file but the card is named in ``config.json`` with its SHA-256. Nothing is pickled.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic import model_validator as checked
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svp_lightning.classifier.backbones import fixed_stem_stride
from svp_lightning.classifier.network import Classifier
from svp_lightning.classifier.settings import (
    PACKAGED_CONFIG,
    PACKAGED_WEIGHTS,
    Backbone,
    ClassifierSettings,
)
from svp_lightning.data.classes import ClassName
from svp_lightning.errors import ArtifactError, CheckpointError
from svp_lightning.runtime.files import replacing, sha256_of_file, write_json
from svp_lightning.runtime.settings import FileName, read_stored

CONFIG, WEIGHTS, CARD, ONNX = PACKAGED_CONFIG, PACKAGED_WEIGHTS, "README.md", "model.onnx"
CHECKPOINT = "classifier.ckpt"
"""Of a run's folder, which :func:`open_classifier` reads as well."""
FORMAT: Literal["svp_lightning classifier 1"] = "svp_lightning classifier 1"
REMEDY = "Export the classifier again, or fetch the folder again from where it came."
MAX_CONFIG_BYTES = 10_000_000

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Preprocessing(_Part):
    """What the network takes: ``scale`` times the grey level (0 to 255) plus ``offset``."""

    scale: Positive
    offset: float


MODEL_RANGE = Preprocessing(scale=1 / 127.5, offset=-1.0)
"""That of every classifier trained here."""


class PackagedCalibration(_Part):
    """Fitted on validation images: log likelihoods over ``temperature``, plus ``biases``."""

    temperature: Positive
    biases: dict[str, float]


class PackagedConfig(_Part):
    """All of ``config.json``."""

    format: Literal["svp_lightning classifier 1"] = FORMAT
    name: str
    backbone: Backbone
    stem_stride: Literal[1, 2, 4]
    """How much the first layers shrink the image."""
    wide_stem: bool
    """Whether the first convolution is 7 x 7 at any stride, as ImageNet weights have it."""
    image_size: int = Field(ge=16, le=1024, multiple_of=16)
    """Side of the images, px; one grey channel."""
    class_names: tuple[ClassName, ...] = Field(min_length=2, max_length=1000)
    """In the order of the outputs."""
    preprocessing: Preprocessing
    trained_shares: dict[str, Share]
    """Class name -> share that the probabilities answer for. At other shares a probability is
    multiplied by the ratio of the shares, and each image's are divided by their sum."""
    prevalence: dict[str, Share] | None = None
    """Class name -> share in the field at which results are stated."""
    pixel_um: tuple[Positive, Positive] | None = None
    """Smallest and largest pixel of the training images, µm; None: not known."""
    calibration: PackagedCalibration | None = None
    preparation: dict[str, Any] | None = None
    """How the training images were read (background, fit, pixel, instrument)."""
    training: dict[str, Any] = {}
    """What it was trained on, and by what."""
    files: dict[FileName, Sha256]
    """Every file of the folder but the card and this one."""

    @checked(mode="after")
    def _one_set_of_classes(self) -> Self:
        names = self.class_names
        given = {"trained_shares": self.trained_shares, "prevalence": self.prevalence}
        if self.calibration is not None:
            given |= {"calibration.biases": self.calibration.biases}
        for part, values in given.items():
            if values is not None and sorted(values) != sorted(names):
                raise ValueError(f"class_names are {names}, {part} is of {sorted(values)}")
        if WEIGHTS not in self.files:
            raise ValueError(f"files does not name {WEIGHTS}")
        return self


def write_packaged(
    folder: Path,
    module: Classifier,
    *,
    name: str,
    further: Iterable[str] = (),
    preprocessing: Preprocessing = MODEL_RANGE,
    **facts: Any,
) -> PackagedConfig:
    """Write weights and ``config.json``; the card is written elsewhere.

    Args:
        folder: to write into; :func:`~svp_lightning.stages.publishing.writing_whole` makes it
            whole or not there.
        module: the classifier.
        name: shown to users.
        further: names of files that lie in the folder already and belong to it.
        preprocessing: of the network's input.
        facts: further fields of :class:`PackagedConfig`.
    """
    network = module.network
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
        temporary.chmod(0o644)  # it is for others
    config = PackagedConfig(
        name=name,
        **network_facts(module),
        preprocessing=preprocessing,
        files={file: sha256_of_file(folder / file) for file in (WEIGHTS, *further)},
        **facts,
    )
    write_json(folder / CONFIG, config.model_dump(mode="json"))
    return config


def network_facts(module: Classifier) -> dict[str, Any]:
    """The fields of :class:`PackagedConfig` that decide the network and name its outputs."""
    settings = module.settings
    stride = fixed_stem_stride(settings.backbone, module.image_size, settings.stem_stride)
    return {
        "backbone": settings.backbone,
        "stem_stride": stride,
        "wide_stem": module.wide_stem,
        "image_size": module.image_size,
        "class_names": module.class_names,
        "trained_shares": module.trained_shares,
    }


def read_config(folder: Path) -> PackagedConfig:
    """Read and check ``config.json`` and the hashes of the files it names.

    Raises:
        ArtifactError: a file is missing, broken, not what the folder was made with, or a link.
    """
    file = folder / CONFIG
    if file.is_file() and file.stat().st_size > MAX_CONFIG_BYTES:
        raise ArtifactError(f"{file} is too large for a classifier's.", REMEDY)
    config = read_stored(file, PackagedConfig, FORMAT, REMEDY, key="format")
    _require_files(folder, config.files)
    return config


def _require_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, wanted in files.items():
        file = folder / name
        if file.is_symlink() or not file.is_file():
            raise ArtifactError(f"{file} is missing, or a link.", REMEDY)
        if sha256_of_file(file) != wanted:
            raise ArtifactError(f"{file} is not the file that {CONFIG} names (SHA-256).", REMEDY)


def read_packaged(folder: Path) -> tuple[PackagedConfig, Classifier]:
    """Read a folder of :func:`write_packaged`; the classifier is in evaluation mode, on the CPU.

    Raises:
        ArtifactError: see :func:`read_config`.
        CheckpointError: the weights do not fit what ``config.json`` says.
    """
    config = read_config(folder)
    try:
        module = empty_module(
            config.backbone,
            config.stem_stride,
            config.wide_stem,
            config.image_size,
            config.class_names,
            config.trained_shares,
        )
        module.network.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{folder / WEIGHTS} does not hold the classifier of {CONFIG} ({reason}).", REMEDY
        ) from error
    apply_preprocessing(module.network, config.preprocessing)
    return config, module.eval()


def empty_module(
    backbone: Backbone,
    stem_stride: Literal[1, 2, 4],
    wide_stem: bool,
    image_size: int,
    class_names: tuple[str, ...],
    trained_shares: Mapping[str, float],
) -> Classifier:
    """A classifier with weights yet to come; arguments as in :class:`PackagedConfig`.

    Raises:
        SettingsError: the backbone cannot be built for this image size.
    """
    settings = ClassifierSettings(
        backbone=backbone,
        stem_stride=stem_stride,
        pretrained_weights=None,
        # How it is trained plays no part in what it says.
        steps=1,
        validate_every=1,
        batch_size=2,
        optimizer="adamw",
        learning_rate=1e-3,
        warmup_steps=0,
        weight_decay=0.0,
        keep="last",
    )
    return Classifier(
        settings, class_names, image_size, trained_shares=trained_shares, wide_stem=wide_stem
    )


def apply_preprocessing(network: nn.Module, wanted: Preprocessing) -> None:
    """Let a network that takes another range take images in [-1, 1]."""
    if wanted == MODEL_RANGE:
        return
    scale, offset = 127.5 * wanted.scale, 127.5 * wanted.scale + wanted.offset

    def rescale(_network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.add(inputs[0] * scale, offset), *inputs[1:])

    network.register_forward_pre_hook(rescale)


def open_classifier(folder: Path) -> Classifier:
    """The classifier of an evaluated run's folder, or of a packaged one.

    Raises:
        ArtifactError: see :func:`read_config`.
        CheckpointError: the weights cannot be used.
    """
    if is_packaged(folder):
        return read_packaged(folder)[1]
    return Classifier.load(folder / CHECKPOINT)


def is_packaged(folder: Path) -> bool:
    """Whether a folder claims to be a packaged classifier."""
    return (folder / CONFIG).is_file() and not (folder / CHECKPOINT).is_file()
