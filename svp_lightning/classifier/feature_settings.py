"""Settings of the feature network, free of torch like the classifier's."""

from typing import Any

from pydantic import Field

from svp_lightning.classifier.settings import ClassifierSettings
from svp_lightning.runtime.settings import Settings


class FeatureSettings(Settings):
    """The network in whose features images are compared; trained on real images alone."""

    classifier: ClassifierSettings
    components: int = Field(64, ge=2)
    """Principal components kept; fewer where there are fewer training images."""
    seed: int = Field(0, ge=0)

    def identity(self) -> dict[str, Any]:
        """As the classifier's own, where a file of weights counts by its contents."""
        return super().identity() | {"classifier": self.classifier.identity()}
