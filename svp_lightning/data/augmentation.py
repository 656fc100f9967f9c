"""Settings of one arm of the comparison: images added, batches, loss and transforms.

Kept free of torch and numpy so that the command line can check a configuration at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from svp_lightning.errors import SettingsError
from svp_lightning.runtime.settings import Settings

Extra = Literal["duplicate", "diffusion", "oracle", "simulated"]
Loss = Literal["class_weights", "logit_adjustment"]
POOLS = ("diffusion", "oracle", "simulated")
"""What :attr:`AugmentationSettings.extra` takes from a pool of images that serve training alone."""


class FilterSettings(Settings):
    """Which generated images are kept; a network trained on real images alone decides.

    Rejected are images that it takes for another class, and images that lie further from the
    real training images of their class than nearly all validation images do. Others are drawn in
    their place, so that a filtered arm trains on as many images as an unfiltered one.
    """

    quantile: float = Field(gt=0, le=1)
    """Share of the validation images that a filter of distances would keep."""
    neighbours: int = Field(ge=1)
    """Distances are to this nearest training image of the class, in feature space."""
    max_draws: float = Field(ge=1)
    """Images drawn per image wanted, at most."""


class AugmentationSettings(Settings):
    """One arm of the comparison, put together from parts that combine.

    ``symmetry`` and ``illumination`` act in every arm alike. No part changes the number of
    optimiser steps or the images in a step.
    """

    method: str
    """Name of the arm in results and reports. It must name the parts that act
    (:attr:`parts`), so that a result cannot be taken for another arm's; ``none`` if none does.
    """
    extra: Literal["none", Extra]
    """Images added to the rare classes: copies of real ones, generated ones, fresh ones of
    the simulator that the real images come from (what a perfect generator would draw), or simulated
    ones of other microscopes (:mod:`svp_lightning.simulation.microscopes`)."""
    microscopes: int = Field(ge=1, le=1000)
    """How many microscopes simulated images are of."""
    candidates: int | None = Field(ge=1, le=10_000)
    """They are those of so many whose images look most like the training images
    (:mod:`svp_lightning.simulation.matching`); None: the first ones, whatever the data."""
    simulated_classes: tuple[str, ...]
    """Rare classes whose images ``diffusion`` takes from other simulated microscopes instead of the
    generator."""
    ratio: float = Field(ge=0, le=1000)
    """Images added per real image of each rare class."""
    plentiful_ratio: float = Field(ge=0, le=1000)
    """Generated images added per real image of the other classes. Where only rare classes have
    generated images, what these have in common may tell a rare class without showing one."""
    hard_negatives: float = Field(ge=0, le=1)
    """Share of the real images of the other classes that are drawn more often: those that a network
    trained on real images takes for a rare class most readily (hard negative mining, Sung and
    Poggio 1998)."""
    hard_share: float = Field(gt=0, lt=1)
    """Share of the draws of their class that are of these alone. They stay among the other draws,
    so ``hard_share`` + (1 - ``hard_share``) ``hard_negatives`` of all are of them."""
    sampling: Literal["natural", "balanced"] | dict[str, Annotated[float, Field(gt=0)]]
    """Class shares of the draws: ``natural`` as the rows are, added ones included; ``balanced``
    draws every class equally often; or a relative frequency for each class."""
    pool_share: float | None = Field(gt=0, le=1)
    """Share of the added images in the draws of each class that has any. ``None``: as many as
    the rows are, so that every row is drawn equally often within its class."""
    loss: Literal["plain", Loss]
    """``class_weights``: inverse class frequency; ``logit_adjustment``: the logits of the loss
    are shifted by ``tau`` * log(class frequency) (Menon et al. 2021, eq. 10)."""
    tau: float = Field(gt=0)
    """Strength of ``logit_adjustment``; 1 is consistent for the balanced error."""
    mixup: float = Field(ge=0)
    """Parameter of the Beta distribution of mixup (Zhang et al. 2018); 0: none."""
    strength: float = Field(ge=0, le=1)
    """Strength of the classical set (rotation, shift, scale, defocus, noise, light); 0: none."""
    symmetry: bool
    """Random flips and right-angle rotations of every training image."""
    illumination: float = Field(ge=0, le=1)
    """Largest random change of gain and of background level, as a share of the range."""
    filter: FilterSettings | None
    """Which generated images ``diffusion`` leaves out; None: it takes all."""

    @property
    def adds(self) -> bool:
        """Whether any image is added to the real ones."""
        return self.extra != "none" and self.ratio > 0

    @property
    def _acting(self) -> dict[str, bool]:
        """Every part by name, and whether it acts in this arm."""
        generated = self.extra == "diffusion"
        other_classes = generated and bool(self.simulated_classes)
        return {
            **{name: name == self.extra for name in get_args(Extra)},
            "simulated": (simulated := self.extra == "simulated" or other_classes),
            "matched": simulated and self.candidates is not None,
            "all_classes": self.plentiful_ratio > 0 and generated,
            "hard_negatives": self.hard_negatives > 0,
            "filtered": generated and self.filter is not None,
            "balanced_sampling": self.sampling == "balanced",
            **{name: name == self.loss for name in get_args(Loss)},
            "mixup": self.mixup > 0,
            "classical": self.strength > 0,
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that this arm is made of."""
        return tuple(name for name, acts in self._acting.items() if acts)

    @property
    def needs_pool(self) -> bool:
        """Whether images of a pool are trained on."""
        return self.extra in POOLS and self.ratio > 0

    @property
    def simulates(self) -> bool:
        """Whether simulated images are added."""
        return self.needs_pool and (not self.needs_generator or bool(self.simulated_classes))

    @property
    def needs_generator(self) -> bool:
        """Whether generated images are trained on."""
        return self.extra == "diffusion" and self.ratio > 0

    @property
    def filters(self) -> bool:
        """Whether some of the generated images are left out."""
        return self.needs_generator and self.filter is not None

    @property
    def needs_features(self) -> bool:
        """Whether a network trained on real images decides which images are drawn."""
        return self.filters or self.hard_negatives > 0

    @model_validator(mode="after")
    def _only_generated_images_for_all(self) -> Self:
        if self.plentiful_ratio > 0 and self.extra != "diffusion":
            raise ValueError(
                f"plentiful_ratio={self.plentiful_ratio:g} adds generated images; choose "
                "extra=diffusion or plentiful_ratio=0"
            )
        if self.plentiful_ratio > 0 and self.hard_negatives > 0:
            raise ValueError(
                f"plentiful_ratio={self.plentiful_ratio:g} and hard_negatives="
                f"{self.hard_negatives:g} both share out the draws of the other classes; choose one"
            )
        return self

    @model_validator(mode="after")
    def _enough_candidates(self) -> Self:
        if self.candidates is not None and self.candidates < self.microscopes:
            raise ValueError(
                f"candidates={self.candidates} are fewer than the microscopes={self.microscopes} "
                "that are chosen among them"
            )
        return self

    @model_validator(mode="after")
    def _one_remedy_for_the_frequencies(self) -> Self:
        if self.sampling != "natural" and self.loss != "plain":
            raise ValueError(
                f"sampling={self.sampling} and loss={self.loss} both make up for the class "
                "frequencies; choose one"
            )
        return self

    @model_validator(mode="after")
    def _named_truly(self) -> Self:
        wanted = "_".join(self.parts) or "none"
        missing = [part for part in self.parts if part not in self.method]
        others = {name for name, acts in self._acting.items() if not acts}
        foreign = [name for name in others if name in self.method]
        if missing or foreign or (not self.parts and self.method != "none"):
            raise ValueError(
                f"method={self.method} does not name what acts; add augmentation.method={wanted}"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """What the arm does: its name and the settings without effect in it are left out.

        So ``diffusion`` at ratio 0 is the same training as ``none``, and shares its result.
        """
        values = super().identity()
        del values["method"]
        if not self.adds:
            values["extra"] = "none"
            for name in ("ratio", "pool_share"):
                del values[name]
        if not self.needs_generator or not self.simulated_classes:
            del values["simulated_classes"]
            if self.extra != "simulated":
                del values["microscopes"], values["candidates"]
        if values.get("candidates", 0) is None:
            del values["candidates"]
        if not self.adds or self.plentiful_ratio == 0:
            del values["plentiful_ratio"]
        if self.hard_negatives == 0:
            del values["hard_negatives"], values["hard_share"]
        if self.loss != "logit_adjustment":
            del values["tau"]
        if not self.filters:
            del values["filter"]
        return values


def require_images(counts: Mapping[str, int]) -> None:
    """Refuse a pool without images, before anything is made for it.

    ``counts``: class name -> images wanted.

    Raises:
        SettingsError: they are none.
    """
    if not any(counts.values()):
        raise SettingsError(
            f"augmentation.ratio times the real images of {', '.join(counts) or 'no class'} is no "
            "image.",
            "Raise augmentation.ratio." if counts else "Let the generator learn a rare class.",
        )
