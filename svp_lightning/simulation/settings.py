"""Settings of the simulator; ``conf/data/simulation.yaml`` and an instrument's file give them."""

import math
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.runtime.settings import Settings, runtime

SPLITS = ("train", "val", "test")


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("the lower end of a range must not exceed the upper end")
    return value


_End = TypeVar("_End")
_Between = Annotated[tuple[_End, _End], AfterValidator(_ordered)]
_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]
_Range = _Between[_Positive]
_Count = Annotated[int, Field(ge=1)]
_ClassCounts = Annotated[
    dict[Literal[PAPER_CLASSES], _Count],  # type: ignore[valid-type]
    Field(min_length=1),
]
_Counts = Annotated[dict[Literal[SPLITS], _ClassCounts], Field(min_length=1)]  # type: ignore[valid-type]


class MediumSettings(Settings):
    """What particles are in; every range is uniform over sessions (instrument runs).

    Attributes:
        medium_index: refractive index of the formulation.
    """

    medium_index: _Range


class OpticsSettings(MediumSettings):
    """The microscope; every range is uniform over sessions (instrument runs).

    Attributes:
        wavelength_um: centre of the illumination, in vacuum.
        objective_na: numerical aperture of the objective.
        condenser_na: numerical aperture at which the illumination, which fades outwards, ends
            (:mod:`svp_lightning.simulation.source`); an even disc of 0.71 times this aperture is
            as wide (rms).
        pixel_scale: pixel size of a session over the nominal one.
        sensor_pixel_um: pixel of the camera's sensor in the object. Where images are finer, the
            crop was enlarged: light and noise are as smooth as on the sensor's pixels.
        aberration_waves: median rms of each aberration (spherical, coma, astigmatism,
            trefoil), log-normal from image to image.
    """

    wavelength_um: float = Field(gt=0.2, lt=1.2)
    objective_na: _Between[Annotated[float, Field(gt=0, le=0.6)]]  # what the model is good for
    condenser_na: _Between[Annotated[float, Field(ge=0.05, le=0.2)]]
    pixel_scale: _Range
    sensor_pixel_um: _Between[Annotated[float, Field(gt=0, le=50)]]
    aberration_waves: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _lights_the_objective(self) -> Self:
        if self.condenser_na[1] > self.objective_na[0]:
            raise ValueError(
                f"condenser_na up to {self.condenser_na[1]:g} is wider than objective_na from "
                f"{self.objective_na[0]:g}: light must pass the objective without a particle, too"
            )
        return self


class InstrumentSettings(Settings):
    """What differs between instruments apart from the optics (``conf/data/instrument``).

    The particle priors are those of a FlowCam with a 10X objective; another instrument sees
    its own range of sizes and depths, so they are magnified to it.

    Attributes:
        name: shown in the manifest.
        field_of_view_um: width of an image. The nominal pixel is this over ``image_size``: a
            smaller image is a coarser camera, not a crop.
        camera_pixel_um: pixel of the camera in the object, on which ``crop=box`` cuts.
        background: mean and spread over sessions of an empty field's grey level.
        noise: rms of read and shot noise together on an empty field, grey levels.
        size_scale: of the radii of whole particles.
        depth_scale: of the distances from focus.
        min_area_um2: smallest area (above 5 % contrast) that triggers a detection.
        min_contrast: smallest peak contrast that does.
    """

    name: str
    field_of_view_um: float = Field(ge=2, le=400)
    camera_pixel_um: float = Field(ge=0.05, le=50)
    background: tuple[Annotated[float, Field(ge=50, le=250)], Annotated[float, Field(ge=0, le=50)]]
    noise: _Between[Annotated[float, Field(gt=0, le=50)]]
    size_scale: float = Field(ge=0.1, le=3)
    depth_scale: float = Field(ge=0.1, le=10)
    min_area_um2: float = Field(ge=0)
    min_contrast: float = Field(ge=0, le=1)


class LabelNoiseSettings(Settings):
    """Wrong labels in the training and validation images; the test images' stay right.

    Attributes:
        kind: ``uniform``: any other class; ``confusion``: oil and air are taken for one
            another and compact protein for oil; ``ambiguity``: the same mistakes, as likely
            as the image is ambiguous (:func:`svp_lightning.simulation.label_noise.ambiguity`).
        rate: chance of a wrong label for an image the kind can act on; with ``ambiguity``
            that of a fully ambiguous image.
    """

    kind: Literal["uniform", "confusion", "ambiguity"]
    rate: float = Field(ge=0, le=0.9)


class Sessions(Settings):
    """Number of instrument runs of each split."""

    train: _Count
    val: _Count
    test: _Count


class SharedSettings(Settings):
    """What microscopes at random have in common (:mod:`svp_lightning.simulation.microscopes`).

    Attributes:
        source_points: least number of points of the condenser lattice (an odd number
            squared): 25 stays below the sensor noise, with more far from the focus, where a
            droplet images the condenser; 9 serves previews and stays 9.
        optics: of the microscopes.
        neighbour_share: share of images with a second particle, off the centre and at its
            own depth.
        crop: ``window``: every image shows the same width, so sizes can be compared. ``box``:
            the rectangle around what the instrument detects, stretched to the square image, as
            the published crops are; pixels then differ from image to image (``pixel_um``), and
            only large bubbles are seen through the window.
        chunk_size: images rendered and written at a time.
        workers: rendering processes; 0 renders in the calling one, None takes one per core.
        device: where the optics are computed. On ``cuda`` the workers only draw the
            particles, chunks of a few thousand images keep it busy, and single grey levels
            differ from those of ``cpu``.
    """

    source_points: Literal[9, 25, 49, 81]
    optics: MediumSettings
    neighbour_share: float = Field(ge=0, le=1)
    crop: Literal["window", "box"]
    chunk_size: int = runtime(ge=1)
    workers: int | None = runtime(ge=0)
    device: Literal["cpu", "cuda"]


class SimulationSettings(SharedSettings):
    """What to simulate and how finely.

    Attributes:
        counts: split -> class -> number of images.
        sessions_per_split: number of instrument runs; runs never cross splits.
        optics: the microscope.
        instrument: its scale and camera.
        difficulty: 0 to 1, how far the classes overlap beyond what they do anyway: the chance
            that a particle comes from a prior of size and focus that makes it look like
            another class (:mod:`svp_lightning.simulation.particles`).
        label_noise: wrong labels, with the truth kept in ``true_label``.
        air_indices: effective refractive indices small air bubbles draw from. Pure air is
            1.0; the others are a *discrepancy model* (they widen small bubbles' looks as
            seen on a real instrument), not physics.
        air_halo_gain: range of the gain on the bright halo of small air bubbles, whose real
            crops lose less light than a sphere of air does; bubbles that ``difficulty`` makes
            look like oil have none. Also a *discrepancy model*; (1, 1)
            with ``air_indices`` of 1.0 alone is pure physics.
        large_bubble_share: share of air-bubble images that show part of a large bubble.
    """

    counts: _Counts
    sessions_per_split: Sessions
    optics: OpticsSettings
    instrument: InstrumentSettings
    difficulty: float = Field(ge=0, le=1)
    label_noise: LabelNoiseSettings
    air_indices: tuple[Annotated[float, Field(ge=1.0, le=1.3)], ...] = Field(min_length=1)
    air_halo_gain: _Range
    large_bubble_share: float = Field(ge=0, le=1)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes that get images, in the paper's order."""
        used = {name for classes in self.counts.values() for name in classes}
        return tuple(name for name in PAPER_CLASSES if name in used)

    @property
    def lattice_side(self) -> int:
        """Points along one side of the condenser lattice."""
        return math.isqrt(self.source_points)

    @property
    def num_images(self) -> int:
        """Images in all splits together."""
        return sum(sum(classes.values()) for classes in self.counts.values())
