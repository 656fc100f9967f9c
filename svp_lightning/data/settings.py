"""Settings of the data stage: where images come from and how training rows are mixed.

Kept free of torch and numpy so that the command line can check a configuration at once.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from svp_lightning.settings import Settings, runtime

MIN_IMAGE_SIZE = 16
MAX_IMAGE_SIZE = 128

ImageSize = Annotated[int, Field(ge=MIN_IMAGE_SIZE, le=MAX_IMAGE_SIZE, multiple_of=16)]
BitDepth = Annotated[int, Field(ge=8, le=16)]


class SplitFractions(Settings):
    """Shares of the images held out; the rest trains.

    The split is made by group (run or vial) and stratified by class, so shares are met as
    closely as whole groups allow. A share of 0 leaves that split out.
    """

    val: float = Field(0.15, ge=0, lt=1)
    test: float = Field(0.15, ge=0, lt=1)

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError(
                f"val + test must stay below 1 (given {self.val} + {self.test}), "
                "what is left over trains"
            )
        return self


class _IngestSettings(Settings):
    """What every importer of real images has in common."""

    root: Path
    image_size: ImageSize | None = None
    """Side of the stored crops, px. ``None``: the smallest multiple of 16 that holds the
    95th percentile of the larger image side, between 16 and 128."""
    background: int | None = Field(None, ge=1, le=255)
    """Grey level every crop's background is scaled to, so that a run cannot be told by its
    lamp. ``None`` keeps the levels as recorded."""
    fractions: SplitFractions = SplitFractions()
    seed: int = Field(0, ge=0)
    labelled: bool = True
    """``False`` imports images without class names, for prediction: no split is made."""
    unreadable: Literal["refuse", "skip"] = "refuse"
    """What to do with an image that cannot be decoded, or a table row that cannot be used;
    skipped ones are listed."""
    prevalence: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Class name -> relative frequency in the field, for metrics at that prevalence
    (``{protein: 1000, silicone_oil: 1}``). ``None``: that of the test images."""
    num_threads: int = runtime(4, ge=1, le=64)


class FolderSettings(_IngestSettings):
    """A folder of images, one subfolder per class, or a CSV that lists them.

    See :mod:`svp_lightning.data.ingest.folder` for the layouts.
    """

    source: Literal["folder"] = "folder"
    table: Path | None = None
    """CSV with columns ``path,label``; relative to ``root``. ``None``: subfolders."""
    labels: Path | None = None
    """CSV with the columns ``id,label`` (an id is the path below ``root``) for images that
    lie in no class folders; those it does not list stay unlabelled."""
    pixel_size_um: float | None = Field(None, gt=0)
    bit_depth: BitDepth | None = None
    """Bits used by 16-bit images. ``None``: the smallest of 8, 10, 12, 14, 16 that holds
    the brightest pixel of all images together."""


class RunSettings(_IngestSettings):
    """What the importers of instrument runs have in common."""

    source: str
    labels: Path | None = None
    """CSV with the columns ``id,label`` or ``run,particle_id,label``, relative to ``root``.
    ``None``: what is saved with the runs."""


class FlowCamSettings(RunSettings):
    """FlowCam runs as VisualSpreadsheet leaves them: one folder per run.

    ``root`` is a run's folder, or a folder of such folders.
    """

    source: Literal["flowcam"] = "flowcam"


class MfiSettings(RunSettings):
    """MFI runs: particle tables with the frames they refer to, or with crops of the particles.

    ``root`` is a run's folder, or a folder of such folders.
    """

    source: Literal["mfi"] = "mfi"
    background: int | None = Field(210, ge=1, le=255)
    """As for every importer; by default each crop is brought to the usual MFI level."""
    pixel_size_um: float | None = Field(None, gt=0)
    """Calibration, µm/px. ``None``: derived from each run's ECD and area columns."""
    margin_px: int = Field(4, ge=0, le=64)
    """Pixels of the frame kept around each particle's box."""


class CollageSettings(RunSettings):
    """Bare collages without a table: split into particles by the gaps between them.

    ``root`` is an image, or a folder of them.
    """

    source: Literal["collage"] = "collage"
    pixel_size_um: float | None = Field(None, gt=0)


class AugmentationSettings(Settings):
    """How the training rows are enlarged, reweighted or transformed.

    ``symmetry`` and ``illumination`` act in every arm of a comparison alike; ``method`` is
    the arm. ``ratio`` (synthetic or copied images per real image of each rare class) acts in
    ``duplicate`` and ``diffusion``, ``strength`` in ``classical``.
    """

    method: Literal[
        "none", "duplicate", "class_weights", "balanced_sampling", "classical", "diffusion"
    ] = "none"
    ratio: float = Field(1.0, ge=0)
    strength: float = Field(0.5, ge=0, le=1)
    symmetry: bool = True
    """Random flips and right-angle rotations of every training image."""
    illumination: float = Field(0.1, ge=0, le=1)
    """Largest random change of gain and of background level, as a share of the range."""

    def identity(self) -> dict[str, Any]:
        """What the arm does: settings that have no effect in it are left out.

        So ``diffusion`` at ratio 0 is the same training as ``none``, and shares its result.
        """
        values = super().identity()
        enlarges = self.method in ("duplicate", "diffusion")
        if not enlarges:
            del values["ratio"]
        elif self.ratio == 0:
            values["method"] = "none"
            del values["ratio"]
        if self.method != "classical":
            del values["strength"]
        return values
