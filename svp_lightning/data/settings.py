"""Settings of the data stage: where images come from.

Kept free of torch and numpy so that the command line can check a configuration at once.
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from svp_lightning.runtime.files import sha256_of_given
from svp_lightning.runtime.settings import GivenPath, Seed, Settings, runtime

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"})
"""Files that importers read as images."""
RUN_SUFFIXES = frozenset({".lst", ".csv", ".txt", ".ctx", ".cla", ".flb"})
"""Other files that importers of instrument runs read."""
MIN_IMAGE_SIZE = 16
MAX_IMAGE_SIZE = 128

ImageSize = Annotated[int, Field(ge=MIN_IMAGE_SIZE, le=MAX_IMAGE_SIZE, multiple_of=16)]
BitDepth = Annotated[int, Field(ge=8, le=16)]


class SplitFractions(Settings):
    """Shares of the images held out; the rest trains.

    The split is made by group (run or vial) and stratified by class, so shares are met as
    closely as whole groups allow. A share of 0 leaves that split out, which serves a generator
    alone: classifiers need all three.
    """

    val: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError(
                f"val + test must stay below 1 (given {self.val} + {self.test}), "
                "what is left over trains"
            )
        return self


class UseSettings(Settings):
    """How the images are used, whatever their source.

    See :func:`svp_lightning.data.rarity.limit_rare`; validation has at most half as many.
    """

    prevalence: dict[str, Annotated[float, Field(gt=0)]] | None
    """Class name -> relative frequency in the field, at which every number is stated
    (``{protein: 1000, silicone_oil: 1}``). ``None``: ``evaluation.prevalence`` says."""
    label_overrides: Path | None
    """CSV of decisions on labels, as the gallery of ``task=audit`` saves it
    (:func:`svp_lightning.data.overrides.with_overrides`). ``None``: labels as given."""
    rare_images: int | None = Field(ge=1)
    """Real training images kept of each rare class, for learning curves. ``None``: all."""
    rare_seed: Seed
    """Which images are kept: with one seed, fewer are a subset of more. As ``seed``, so that each
    repetition keeps others."""

    def identity(self) -> dict[str, Any]:
        """The contents of a file of decisions count, not its place, and only seeds that choose."""
        values = super().identity()
        if self.rare_images is None:
            del values["rare_seed"]
        del values["label_overrides"]
        if self.label_overrides is not None:
            values["label_overrides"] = sha256_of_given(self.label_overrides)
        return values


def _volumes(given: Any) -> Any:
    """A volume or each run's, checked: a message of pydantic's would not name the run."""
    found = _by_run(given)
    for run, ml in found.items() if isinstance(found, dict) else [("", found)]:
        try:
            usable = found is None or (ml is not True and 0 < float(ml) < math.inf)
        except (TypeError, ValueError):
            usable = False
        if not usable:
            raise ValueError(f"{f'that of {run} ' * bool(run)}must be a number above 0")
    return found


def _by_run(given: Any) -> Any:
    """``run 1 = 0.5, it's = 0.4`` as a dictionary; those of Hydra hold no such names."""
    if not isinstance(given, str) or re.fullmatch(r"\s*[\d.eE+-]+\s*", given):
        return given
    found, end = {}, 0
    for match in re.finditer(r"=\s*([\d.eE+-]+)\s*(?:,|$)", given):
        found[given[end : match.start()].strip()], end = match[1], match.end()
    if found and "" not in found and not given[end:].strip():  # what is left over is no volume
        return found
    raise ValueError(
        "give a volume in mL with a decimal point, or of several runs each one's: run 1 = 0.5, "
        "run 2 = 0.4"
    )


class WindowSettings(Settings):
    """Which particles the automatic side of the stored images is chosen for."""

    holds: float = Field(gt=0, le=1)
    """Share of these particles that fit."""
    at_least_um: float = Field(ge=0)
    """Their smallest diameter, µm: small particles are many and would decide alone."""


class _IngestSettings(UseSettings):
    """What every importer of real images has in common."""

    root: GivenPath
    image_size: ImageSize | None
    """Side of the stored images, px. ``None``: from 16 to 128, as :attr:`window` says."""
    window: WindowSettings
    fit: Literal["cut", "shrink"]
    """Particles larger than the stored images are cut, or scaled down to fit (and then look
    smaller than they are, which ``scale`` in the particle table records)."""
    background: int | None = Field(ge=1, le=255)
    """Grey level every crop's background is scaled to, so that a run is not recognised by its
    lamp; ``data=mfi`` takes the usual MFI level. ``None`` keeps the levels as recorded."""
    fractions: SplitFractions
    seed: Seed
    labelled: bool
    """``False`` imports images without class names, for prediction: no split is made."""
    unreadable: Literal["refuse", "skip"]
    """What to do with an image that cannot be decoded, a table row that cannot be used, or a run
    that is a copy of another; skipped ones are listed."""
    num_threads: int = runtime(ge=1, le=64)


class VolumeSettings(Settings):
    """How much was imaged, where the files do not say so or contradict one another."""

    volume_ml: Annotated[float | dict[str, float] | None, BeforeValidator(_volumes)]
    """Volume imaged, mL, for the concentrations of ``task=predict``: a number for one run, run ->
    mL for several, also as text (``run 1 = 0.5, run 2 = 0.4``). It takes precedence over the
    files', and the program says so. Of a sample that was diluted, ``dilution`` divides it."""
    dilution: float | None = Field(gt=0)
    """Factor that concentrations are multiplied by. ``None``: none, or of FlowCam runs that of the
    context, where the printed concentration shows that the vendor's software applies it."""


class FolderSettings(_IngestSettings, VolumeSettings):
    """A folder of images, one subfolder per class, or a CSV that lists them.

    See :mod:`svp_lightning.data.importers.folder` for the layouts.
    """

    source: Literal["folder"]
    table: Path | None
    """CSV with columns ``path,label``; relative to ``root``. ``None``: subfolders."""
    labels: Path | None
    """CSV with the columns ``id,label`` (an id is the path below ``root``), and ``group,split`` if
    known, for images that lie in no class folders; those it does not list stay unlabelled."""
    pixel_size_um: float | None = Field(gt=0)
    bit_depth: BitDepth | None
    """Bits used by 16-bit images. ``None``: the smallest of 8, 10, 12, 14, 16 that holds nearly
    all pixels of nearly all images."""
    layout: Literal["auto", "class_first", "run_first"]
    """Which of two levels of folders holds the classes: ``root/<class>/<run>`` or
    ``root/<run>/<class>``."""
    group_pattern: str | None
    """Regular expression with one group, which finds the run in a file's name."""
    mask: str | None
    """What to replace by background in every image, such as a burnt-in scale bar: a box
    ``left:top:right:bottom`` in px (negative from the right and bottom, empty for an edge), or
    an image in ``root`` that is not black there."""

    @field_validator("group_pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"no regular expression ({error})") from error
        if groups != 1:
            raise ValueError("give one pair of brackets, around the run: (.+)_")
        return pattern


class RunSettings(_IngestSettings):
    """What the importers of instrument runs have in common."""

    source: str
    labels: Path | None
    """CSV with the columns ``id,label`` or ``run,particle_id,label``, relative to ``root``.
    ``None``: what is saved with the runs. A column ``group`` (or ``vial``) joins the runs of one
    vial, ``split`` sets splits."""


class FlowCamSettings(RunSettings, VolumeSettings):
    """FlowCam runs as VisualSpreadsheet leaves them: one folder per run.

    ``root`` is a run's folder, or a folder of such folders.
    """

    source: Literal["flowcam"]
    classification: int | str | None
    """Which classification of each ``.cla`` gives the labels: its name, or its number from 1.
    ``None``: all of them; particles that they label differently stay without a label."""
    size: Literal["abd", "esd"]
    """The vendor's diameter that ``ecd_um``, and so every size bin, is: ABD (of the circle of
    equal area) or ESD (mean Feret diameter)."""
    pixel_size_um: float | None = Field(gt=0)
    """Calibration, µm/px; sizes of another are scaled to it. ``None``: that of the list, or
    else of the context, which must agree."""


class MfiSettings(RunSettings, VolumeSettings):
    """MFI runs: particle tables with the frames they refer to, or with crops of the particles.

    ``root`` is a run's folder, or a folder of such folders.
    """

    source: Literal["mfi"]
    pixel_size_um: float | None = Field(gt=0)
    """Pixel size, µm. ``None``: the slope of each run's ECD over the diameter in px."""
    margin_px: int = Field(ge=0, le=64)
    """Pixels of the frame kept around each particle's box."""


class CollageSettings(RunSettings, VolumeSettings):
    """Bare collages without a table: split into particles by the gaps between them.

    ``root`` is an image, or a folder of them.
    """

    source: Literal["collage"]
    pixel_size_um: float | None = Field(gt=0)
