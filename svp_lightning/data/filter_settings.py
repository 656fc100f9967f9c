"""Settings of the filter between a generator and the mix, free of torch."""

from pydantic import Field

from svp_lightning.runtime.settings import Settings


class FilterSettings(Settings):
    """Which generated images are kept; a network trained on real images alone decides.

    Rejected are images that it takes for another class, and images that lie further from the
    real training images of their class than nearly all validation images do. Others are drawn in
    their place, so that a filtered arm trains on as many images as an unfiltered one.
    """

    quantile: float = Field(0.99, gt=0, le=1)
    """Share of the validation images that a filter of distances would keep."""
    neighbours: int = Field(5, ge=1)
    """Distances are to this nearest training image of the class, in feature space."""
    max_draws: float = Field(10.0, ge=1)
    """Images drawn per image wanted, at most."""
