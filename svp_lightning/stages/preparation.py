"""How a classifier's images were prepared, and whether those to predict are alike."""

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from svp_lightning.data.importers.marks import is_box
from svp_lightning.data.importers.summary import as_range, pixel_range
from svp_lightning.data.settings import FolderSettings
from svp_lightning.data.store import Store
from svp_lightning.errors import ArtifactError, SettingsError
from svp_lightning.evaluation.schema import read_results
from svp_lightning.runtime.files import sha256_of_file
from svp_lightning.runtime.settings import config_folder
from svp_lightning.stages.run_folder import RESULTS
from svp_lightning.stages.settings import DataSettings, SimulatedData

PREPARATION = "preparation"
"""Its name in the provenance of ``results.json``."""
MAX_GREY_APART = 5.0
"""Grey levels; lamps and cameras of one setting differ by less."""
MAX_PIXEL_APART = 0.02
"""Relative; calibrations of one magnification differ by less."""
MAX_IMAGES = 1000
"""Images of a store whose background is looked at."""

_SAID = {
    "fit": "Particles larger than the images are scaled down",
    "background": "Backgrounds are {said}",
    "bit_depth": "16-bit files are read as {} bit",
    "mask": "data.mask={} is replaced by background",
    "margin_px": "Crops keep a margin of {} px",
}
"""Setting -> what is said where the training run's is used."""


class Preparation(BaseModel):
    """What has been done to the images of a store, and what came out."""

    model_config = ConfigDict(frozen=True)

    source: str
    """``data.source``."""
    background: int | None
    """``data.background``: grey level that backgrounds were scaled to; None: as recorded."""
    fit: Literal["cut", "shrink"] = "cut"
    """``data.fit``: what became of particles larger than the images."""
    background_grey: float | None
    """Median grey level along the images' borders, in the store; None: it holds no image."""
    pixel_um: tuple[float, float] | None = None
    """Smallest and largest pixel size, µm; None: not known."""
    image_size: int | None = None
    """Side of the images, px; None: not recorded."""
    bit_depth: int | None = None
    """Bits that 16-bit files of a folder are read with; None: there are none, or no folder."""
    mask: str | None = None
    """``data.mask`` of a folder: a box, or the name of an image."""
    mask_sha256: str | None = None
    """Of the image that the mask is."""
    margin_px: int | None = None
    """``data.margin_px`` of MFI runs."""

    @classmethod
    def of(cls, data: DataSettings, store: Store) -> Self:
        """Of the images that ``data`` made ``store`` of."""
        mask = data.mask if isinstance(data, FolderSettings) else None
        image = data.root / mask if isinstance(data, FolderSettings) and mask else None
        return cls(
            source=data.source,
            background=getattr(data, "background", None),
            fit=getattr(data, "fit", "cut"),
            background_grey=_background_grey(store),
            pixel_um=pixel_range(store),
            image_size=store.image_size,
            bit_depth=store.manifest.made_by.get("bit_depth_of_16_bit_files"),
            mask=mask,
            mask_sha256=sha256_of_file(image) if image and image.is_file() else None,
            margin_px=getattr(data, "margin_px", None),
        )

    @property
    def mask_box(self) -> str | None:
        """The mask, if it is a box, which other images can have too."""
        return self.mask if self.mask and is_box(self.mask) else None


def trained_preparation(run: Path) -> Preparation | None:
    """That of the images an evaluated run trained on; None where the run does not record it.

    Raises:
        ArtifactError: the run's ``results.json`` is damaged.
    """
    if not (run / RESULTS).is_file():
        return None
    recorded = (read_results(run / RESULTS).provenance.model_extra or {}).get(PREPARATION)
    if recorded is None:
        return None
    try:
        return Preparation.model_validate(recorded)
    except ValidationError as error:
        raise ArtifactError(
            f"{run / RESULTS}: provenance.{PREPARATION} is {recorded!r}.", "Evaluate the run again."
        ) from error


def trained_image_size(run: Path, trained: Preparation | None) -> int:
    """Side of the images that the run's classifier reads, px."""
    if trained is not None and trained.image_size is not None:
        return trained.image_size
    # Imported when needed: it brings torch.
    from svp_lightning.classifier.packaged import open_classifier

    return open_classifier(run).image_size


def unlabelled(data: DataSettings, image_size: int) -> DataSettings:
    """The same data, imported without labels at the size the classifier reads."""
    if isinstance(data, SimulatedData):
        return data
    return data.model_copy(update={"labelled": False, "image_size": image_size})


def prepared_as_trained(data: DataSettings, trained: Preparation | None) -> DataSettings:
    """The same data with the training run's settings of how images are read, unless others are set.

    These are ``background`` and ``fit``, ``bit_depth`` and a ``mask`` that is a box (folders), and
    ``margin_px`` (MFI). A value other than that of ``conf/data`` counts as set. Where the
    classifier was trained on simulated images, ``data`` is left as it is.

    Raises:
        SettingsError: training scaled backgrounds to another level than the one set here, or
            cut the large particles that are to be shrunk here.
    """
    if trained is None or trained.source == "simulated" or isinstance(data, SimulatedData):
        return data
    usual = _usual(data.source)
    used: dict[str, Any] = {}
    for name, there, free in (("background", trained.background, None), ("fit", trained.fit, "")):
        own = getattr(data, name)
        if own == usual[name]:
            used[name] = there
        elif there not in (free, own):
            raise SettingsError(
                f"data.{name}={'null' if own is None else own}, but the classifier was trained on "
                f"images with data.{name}={there}.",
                "Leave it out: the training run's is used.",
            )
    optional = {
        "bit_depth": trained.bit_depth,
        "mask": trained.mask_box,
        "margin_px": trained.margin_px,
    }
    for name, value in optional.items():
        if value is not None and name in usual and getattr(data, name) == usual[name]:
            used[name] = value
    return data.model_copy(update=used)


def changes(given: DataSettings, used: DataSettings) -> list[str]:
    """A sentence for each setting in which :func:`prepared_as_trained` has changed ``given``."""
    lines = []
    for name, done in _SAID.items():
        value = getattr(used, name, None)
        if value != getattr(given, name, None):
            said = "kept as recorded" if value is None else f"scaled to grey level {value}"
            lines.append(f"{done.format(value, said=said)}, as for the classifier's training.")
    return lines


def _usual(source: str) -> dict[str, Any]:
    """The settings of ``data=<source>`` where none is given."""
    files = [config_folder() / "data" / f"{name}.yaml" for name in ("base", source)]
    base, own = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)
    return {**base, **own}


def differences(run: Path, trained: Preparation | None, found: Preparation) -> list[str]:
    """A sentence for each way in which images differ from those that ``run`` was trained on."""
    if trained is None:
        evaluated = (run / RESULTS).is_file()  # imported weights cannot be
        return [
            f"Warning: {run} does not record how its images were prepared: background and pixel "
            "size are not compared." + " Evaluate it again to have that checked." * evaluated
        ]
    if found.background_grey is None or trained.background_grey is None:
        return []  # a blank has no background
    lines = _read_otherwise(trained, found)
    if abs(found.background_grey - trained.background_grey) > MAX_GREY_APART:
        remedy = ""
        if "simulated" not in (found.source, trained.source) and trained.background is None:
            remedy = f" data.background={trained.background_grey:.0f} scales it to that."
        lines.append(
            f"Warning: the background of these images is at grey level "
            f"{found.background_grey:.0f} (median), that of the classifier's training images at "
            f"{trained.background_grey:.0f}.{remedy}"
        )
    return lines + _pixels_apart(trained.pixel_um, found.pixel_um)


def _read_otherwise(there: Preparation, here: Preparation) -> list[str]:
    """Settings of the reading of files that are not those of the training run."""
    lines = []
    if None not in (there.bit_depth, here.bit_depth) and there.bit_depth != here.bit_depth:
        lines.append(
            f"Warning: 16-bit files are read as {here.bit_depth} bit, those of the classifier's "
            f"training images as {there.bit_depth} bit: grey levels differ by that."
        )
    masks = (there.mask_sha256 or there.mask, here.mask_sha256 or here.mask)
    if here.source == there.source and masks[0] != masks[1]:
        lines.append(
            f"Warning: these images are read with {_mask_named(here)}, the classifier's training "
            f"images with {_mask_named(there)}: it sees other things where they differ."
        )
    if None not in (there.margin_px, here.margin_px) and there.margin_px != here.margin_px:
        lines.append(
            f"Warning: crops have a margin of {here.margin_px} px of the frame, those of the "
            f"classifier's training images {there.margin_px} px (data.margin_px)."
        )
    return lines


def _mask_named(one: Preparation) -> str:
    image = f" (sha256 {one.mask_sha256[:8]})" if one.mask_sha256 else ""
    return f"data.mask={one.mask}{image}" if one.mask else "no data.mask"


def _pixels_apart(there: tuple[float, float] | None, here: tuple[float, float] | None) -> list[str]:
    if here is None or there is None:
        whose = "these images" if here is None else "the classifier's training images"
        return [f"Pixel sizes are not compared: that of {whose} is not known."]
    if here[1] <= there[1] * (1 + MAX_PIXEL_APART) and here[0] >= there[0] * (1 - MAX_PIXEL_APART):
        return []
    seen = as_range((there[0] / here[1], there[1] / here[0]), ".0%")
    return [
        f"Warning: a pixel is {as_range(here)} µm in these images, {as_range(there)} µm in the "
        f"classifier's training images: it sees particles at {seen} of their size."
    ]


def _background_grey(store: Store) -> float | None:
    if not len(store):
        return None
    rows = np.linspace(0, len(store) - 1, min(len(store), MAX_IMAGES)).astype(np.int64)
    images = np.asarray(store.images[rows])
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    return float(np.median(np.median(np.concatenate(edges, axis=1), axis=1)))
