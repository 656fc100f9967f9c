"""Settings of the classifier and of the feature network: which one, and how it is trained.

Kept free of torch so that the command line can check a configuration at once.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from svp_lightning.runtime.files import sha256_of_given
from svp_lightning.runtime.settings import Seed, Settings

RELEASED = Path(__file__).parents[1] / "pretrained" / "flow_imaging_64px"
"""The packaged classifier that comes with the package (experiments/released_classifiers)."""
PACKAGED_CONFIG, PACKAGED_WEIGHTS = "config.json", "model.safetensors"
"""Of a packaged classifier (:mod:`svp_lightning.classifier.packaged`)."""

Backbone = Literal[
    "resnet18",
    "resnet18_half",
    "resnet18_quarter",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "convnext_tiny",
]
RELEASED_BACKBONE: Backbone = "resnet18_quarter"
StemStride = Literal["auto", 1, 2, 4]


class ClassifierSettings(Settings):
    """Network, optimiser and schedule of one classifier.

    Training runs for a fixed number of optimiser steps whatever the training set, so that
    augmented and plain runs see the same number of images.
    """

    backbone: Backbone
    stem_stride: StemStride
    """How much the first layers shrink the image: 1, 2 or 4 times (4 is the ImageNet stem,
    fast). ``auto``: 1 up to 32 px (ConvNeXt: 2), 2 up to 96 px, 4 above."""
    pretrained_weights: Path | None
    """Local ``.safetensors`` or ``.pt`` state dict in torchvision's naming, or the checkpoint of a
    classifier trained before. An RGB stem is summed to one channel; the head is left out.
    ``released``: the classifier that comes with the package, of the smallest backbone. None: random
    start, or that of ``pretraining``."""
    steps: int = Field(ge=1)
    """Optimiser steps; a multiple of ``validate_every``."""
    validate_every: int = Field(ge=1)
    """Optimiser steps between validations. This is one epoch to Lightning."""
    batch_size: int = Field(ge=2)
    """Images of one optimiser step over all processes together."""
    optimizer: Literal["adamw", "sgd"]
    """``sgd`` has Nesterov momentum 0.9."""
    learning_rate: float = Field(gt=0)
    """At the top of the schedule: linear warm-up, then cosine to 0 at the last step."""
    warmup_steps: int = Field(ge=0)
    """Shortened to a tenth of ``steps`` in short runs."""
    weight_decay: float = Field(ge=0)
    """Of matrices and kernels; biases, normalisation and scales of layers are left alone."""
    keep: Literal["best", "last"]
    """Which weights: those that validation scores best, or those of the last step. With few
    validation images of a class the score is noisy, and choosing by it costs more than it gains."""

    def identity(self) -> dict[str, Any]:
        """The contents of a weights file decide, not its place."""
        values = super().identity()
        values["pretrained_weights"] = sha256_of_given(self.pretrained_weights)
        if self.backbone.startswith("convnext"):
            values["weight_decay_spares"] = "vectors"  # its scales of layers, too
        return values

    @field_validator("pretrained_weights")
    @classmethod
    def _file_of_released(cls, value: Path | None) -> Path | None:
        return RELEASED / PACKAGED_WEIGHTS if value == Path("released") else value

    @model_validator(mode="after")
    def _network_of_released(self) -> Self:
        released = self.pretrained_weights == RELEASED / PACKAGED_WEIGHTS
        if released and self.backbone != RELEASED_BACKBONE:
            raise ValueError(
                f"pretrained_weights=released are of {RELEASED_BACKBONE}; add "
                f"classifier={RELEASED_BACKBONE}"
            )
        return self

    @model_validator(mode="after")
    def _whole_epochs(self) -> Self:
        if self.steps % self.validate_every:
            raise ValueError(
                f"steps ({self.steps}) must be a multiple of validate_every "
                f"({self.validate_every}), so that the last steps are validated too"
            )
        return self


class FeatureSettings(Settings):
    """The network in whose features images are compared; trained on real images alone."""

    classifier: ClassifierSettings
    components: int = Field(ge=2)
    """Principal components kept; fewer where there are fewer training images."""
    seed: Seed
