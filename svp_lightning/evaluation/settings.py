"""Settings of ``task=assess``, free of torch."""

from pydantic import Field

from svp_lightning.runtime.settings import Settings


class AssessSettings(Settings):
    """How generated images are compared with real ones."""

    images: int = Field(ge=4)
    """Generated images, and held-out real ones, of each class that are looked at, at most."""
    draws: int = Field(ge=2)
    """Random halves behind each interval."""
    seed: int = Field(ge=0)
