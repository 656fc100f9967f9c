"""Settings of the stages: where images come from, how results are measured, how and where to run.

Kept free of torch so that the command line can check a configuration at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from svp_lightning.classifier.settings import Backbone, ClassifierSettings
from svp_lightning.data.classes import ClassName
from svp_lightning.data.settings import (
    CollageSettings,
    FlowCamSettings,
    FolderSettings,
    MfiSettings,
    UseSettings,
)
from svp_lightning.errors import SettingsError
from svp_lightning.runtime.files import sha256_of_json
from svp_lightning.runtime.settings import Seed, Settings, runtime
from svp_lightning.simulation.settings import SharedSettings, SimulationSettings

_STEPS = "generator.steps and classifier.steps"
_VALIDATION = "classifier.validate_every"
_IMAGES = "another scale, or data.rare_images for fewer real images"
INSTEAD = {
    "max_steps": _STEPS,
    "min_steps": _STEPS,
    "max_epochs": _STEPS,
    "min_epochs": _STEPS,
    "max_time": _STEPS,
    "fast_dev_run": "debug=default",
    "overfit_batches": "debug=overfit",
    "limit_train_batches": _IMAGES,
    "limit_val_batches": _IMAGES,
    "limit_test_batches": _IMAGES,
    "limit_predict_batches": "augmentation.ratio",
    "val_check_interval": _VALIDATION,
    "check_val_every_n_epoch": _VALIDATION,
    "accumulate_grad_batches": "trainer.accumulate, which leaves the batch of a step as it is,",
    "gradient_clip_val": "generator.gradient_clip",
    "gradient_clip_algorithm": "generator.gradient_clip",
    "sync_batchnorm": "trainer.devices, whose processes share the statistics of a batch anyway,",
}
"""Trainer arguments that would change what a stage makes, and what to set in their place.

They are no part of an artifact's identity, so a training cut short by one would be
taken for the whole one from then on.
"""


class SimulatedData(UseSettings):
    """The embedded default: images from the physics-based simulator."""

    source: Literal["simulated"]
    image_size: int = Field(ge=16, le=128, multiple_of=16)
    """Height and width, in pixels."""
    seed: Seed
    simulation: SimulationSettings


def require_simulated(data: "DataSettings") -> None:
    """Raise SettingsError for data that no simulator made, of which there are no fresh images."""
    if not isinstance(data, SimulatedData):
        raise SettingsError(
            "augmentation=oracle takes images of the simulator that the data come from, but "
            f"data={data.source} is not simulated.",
            "Use augmentation=simulated_matched, or data=simulated.",
        )


def fresh_data(
    data: "DataSettings", others: SharedSettings, image_size: int, seed: int
) -> SimulatedData:
    """A simulator of other images and instrument runs than the data have.

    It is the one that the data come from, with another seed; for real data one of ``others``.
    """
    own = data.seed if isinstance(data, SimulatedData) else None
    # 2**60 and more: no seed that anyone gives.
    key = 2**60 + int(sha256_of_json({"data": own, "pool": seed})[:15], 16)
    if isinstance(data, SimulatedData):
        return data.model_copy(update={"seed": key})
    from svp_lightning.simulation.microscopes import microscope  # brings numpy

    use = {name: getattr(data, name) for name in UseSettings.model_fields}
    one = microscope(others, 0)
    return SimulatedData(source="simulated", image_size=image_size, seed=key, simulation=one, **use)


ImportedData = FolderSettings | FlowCamSettings | MfiSettings | CollageSettings
DataSettings = Annotated[SimulatedData | ImportedData, Field(discriminator="source")]


class PretrainingSettings(Settings):
    """What a classifier is trained on before it sees the data: simulated images.

    They are of microscopes at random (:mod:`svp_lightning.simulation.microscopes`), whose images
    are weighed alike. The network, the batch and the optimiser are those of ``classifier``; its
    head is replaced afterwards, so the classes of the data may be others.
    """

    simulation: SharedSettings
    """What is not drawn for each microscope."""
    microscopes: int = Field(ge=1, le=1000)
    """None of them resembles the default instrument, on which the project is measured."""
    images: dict[str, Annotated[int, Field(ge=1)]]
    """Class name -> training images of each microscope."""
    steps: int = Field(ge=1)
    """Optimiser steps; a multiple of ``classifier.validate_every``."""
    seed: int = Field(ge=0, lt=2**53)  # times the microscopes it is the seed of one
    """Which microscopes, and of the training."""

    @property
    def num_images(self) -> int:
        """Of all microscopes, one each for validation and test included."""
        return (self.microscopes + 2) * sum(self.images.values())


def pretrained_settings(
    pretraining: PretrainingSettings, classifier: ClassifierSettings
) -> ClassifierSettings:
    """Of the classifier that ``classifier`` starts from.

    Raises:
        SettingsError: ``classifier`` starts from a file, or the steps are no multiple of its
            ``validate_every``.
    """
    if classifier.pretrained_weights is not None:
        raise SettingsError(
            "classifier.pretrained_weights and pretraining are two starts of one classifier.",
            "Set classifier.pretrained_weights=null, or pretraining=none.",
        )
    own = {"steps": pretraining.steps, "keep": "last"}
    return ClassifierSettings.parse(classifier.model_dump() | own, "pretraining")


class EvaluationSettings(Settings):
    """How results are measured."""

    bootstrap_resamples: int = Field(ge=10)
    resample: Literal["images", "groups"]
    """What the bootstrap redraws within a class: single images, or whole runs (vials). Groups
    where images of one run resemble one another; it takes many runs per class."""
    prevalence: Annotated[float, Field(gt=0)] | Literal["test"]
    """Particles of each plentiful class for each of a rare one, at which every number of a run is
    stated; ``test``: the shares of the test images. ``data.prevalence`` overrides it."""
    prevalence_ratios: tuple[Annotated[float, Field(gt=0)], ...] = runtime(min_length=1)
    """Particles of the common class (the largest of ``data.prevalence``) per particle of each
    other class, in ``prevalence.csv``."""
    batch_size: int = runtime(ge=1)


class AssessSettings(Settings):
    """How generated images are compared with real ones."""

    images: int = Field(ge=6)
    """Generated images, and held-out real ones, of each class that are looked at, at most."""
    draws: int = Field(ge=2)
    """Random halves behind each interval."""
    seed: int = Field(ge=0, lt=2**32)  # scikit-learn takes no larger ones


class AuditSettings(Settings):
    """How ``task=audit`` examines labels."""

    folds: int = Field(ge=3, le=20)
    """Parts that whole runs are divided into. Each is judged by a classifier of which the next part
    has chosen the checkpoint and the others are the training images. Fewer where a class comes
    from fewer runs."""
    neighbours: int = Field(ge=1, le=100)
    """Nearest training images whose labels are compared."""
    shown: int = runtime(ge=1)
    """Most suspect images in the gallery; the table lists all."""
    seed: int = Field(ge=0, lt=2**32)  # scikit-learn takes no larger ones


class LabReportSettings(Settings):
    """What the quality report of ``task=predict`` shows."""

    coverage: float = Field(gt=0, lt=1)
    """Share of each class whose prediction sets hold it, at least; a set of more than one class
    is uncertain."""
    false_alarms: float = Field(gt=0, lt=1)
    """Share of each class that may be called unfamiliar, at most."""
    blank: str | None
    """Name of the run whose particles are subtracted; None: nothing is subtracted."""
    compare: Path | None
    """Folder of an earlier prediction, whose first run the others are compared with."""
    container_ml: float | None = Field(gt=0)
    """Nominal volume of a container, mL, for particles per container and the limits of an
    injection; None: neither is shown."""
    product: Literal["injection", "ophthalmic"]
    """Whose limits are shown: those of USP <787> and <788>, or of USP <789>."""


class ImportWeightsSettings(Settings):
    """What ``task=import_weights`` reads and writes."""

    file: Path | None
    """State dict of torchvision or timm: ``.safetensors``, or ``.pt``/``.pth`` without code."""
    to: Path | None
    """The new directory; None: one named after the file's hash, in the study's outputs."""
    backbone: Backbone
    stem_stride: Literal[1, 2, 4]
    """Of the network that the weights are of; 4 is how torchvision and timm build it."""
    image_size: int = Field(ge=16, le=1024, multiple_of=16)
    """Side of the images to classify, px."""
    classes: tuple[ClassName, ...] | None = Field(min_length=2, max_length=1000)
    """Names of the head's outputs, in their order: the result is a classifier. None: the head is
    left out, and the result is for ``classifier.pretrained_weights``."""
    trained_shares: dict[str, float] | None
    """Class name -> relative frequency in the training; None: all alike."""
    stem: Literal["sum", "mean"]
    """What becomes of the three channels of a stem."""
    mean: float
    std: float = Field(gt=0)
    """The network was trained on (grey level / 255 - mean) / std."""


class TrainerSettings(Settings):
    """How and where to run; further keys go to :class:`pytorch_lightning.Trainer` as they are.

    Raises:
        SettingsError: no device is left, or a further key decides how long, or on what, it runs.
    """

    model_config = ConfigDict(extra="allow")

    accelerator: str
    devices: int | str | list[int]
    strategy: str
    num_nodes: int = Field(ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] | None
    """None: bf16 where the device multiplies it, on a CPU for training only; float32 elsewhere.
    Weights are float32 in each: in 16 bit averages and small steps round to nothing."""
    compile: bool
    """Fuse networks in training with ``torch.compile``: up to a minute of start-up, then faster
    steps on a GPU. It rounds less often, which changes the weights a little."""
    deterministic: bool
    """Refuse operations of a GPU that add in a changing order, and choose slower ones that do not:
    the same command on the same GPU then gives the same bits. A CPU always does."""
    accumulate: int = Field(ge=1)
    """Parts in which a process computes its share of a training batch, for less memory. Steps,
    draws and the batch of a step stay; batch normalisation takes the statistics of a part."""
    num_workers: int = Field(ge=0)
    """Processes per loader; reading a memory map needs none."""

    def identity(self) -> dict[str, object]:
        """What is stated of the arithmetic; where nothing is, outputs of all devices serve."""
        stated = {"precision": self.precision, "deterministic": self.deterministic}
        return {name: value for name, value in stated.items() if value}

    @property
    def listed_devices(self) -> list[int]:
        """The devices named one by one (``[1]``, ``"0,1"``); empty where only a number is given."""
        if isinstance(self.devices, list):
            return self.devices
        if isinstance(self.devices, str) and "," in self.devices:
            return [int(number) for number in self.devices.split(",") if number.strip().isdigit()]
        return []

    @property
    def processes(self) -> int | None:
        """Processes on this machine; None: one for each device that there is."""
        if self.listed_devices:
            return len(self.listed_devices)
        number = str(self.devices)
        if self.accelerator == "cpu" and not number.isdigit():
            return 1
        return int(number) if number.isdigit() else None  # "auto", or -1 for all

    def may_start_processes(self, visible: Callable[[], int]) -> bool:
        """Whether Lightning may run the command again for further processes.

        Its ``auto`` strategy does so too, as soon as there is more than one device or node.
        ``visible`` counts the devices there are; asked only where the settings leave it open.
        """
        if self.num_nodes > 1:
            return True
        found = self.processes
        return (visible() if found is None else found) > 1

    @model_validator(mode="after")
    def _only_how_and_where(self) -> Self:
        further = self.model_extra or {}
        for name in sorted(further.keys() & INSTEAD.keys()):
            raise SettingsError(
                f"trainer.{name} is not supported: it would change what is made without being part "
                "of its identity.",
                f"Set {INSTEAD[name]} instead.",
            )
        if self.processes == 0:
            raise SettingsError("trainer.devices=0 leaves no process.", "Give 1 or more, or auto.")
        if further.get("log_every_n_steps") == 0:
            raise SettingsError("trainer.log_every_n_steps=0 is no number.", "Give 1, or more.")
        return self
