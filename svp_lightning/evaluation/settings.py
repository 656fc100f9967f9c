"""Settings of ``task=assess``, free of torch."""

from pydantic import Field

from svp_lightning.runtime.settings import Settings, runtime


class AssessSettings(Settings):
    """How generated images are compared with real ones."""

    images: int = Field(ge=4)
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
