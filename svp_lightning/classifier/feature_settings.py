"""Settings of the feature network, free of torch like the classifier's."""

from pydantic import Field

from svp_lightning.classifier.settings import ClassifierSettings
from svp_lightning.settings import Settings


class FeatureSettings(Settings):
    """The network in whose features images are compared; trained on real images alone."""

    classifier: ClassifierSettings
    components: int = Field(64, ge=2)
    """Principal components kept; fewer where there are fewer training images."""
    seed: int = Field(0, ge=0)
