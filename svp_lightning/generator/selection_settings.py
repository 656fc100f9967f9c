"""Settings of the choice of a generator's checkpoint, free of torch."""

from typing import Any, Literal

from pydantic import Field

from svp_lightning.runtime.settings import Settings


class SelectionSettings(Settings):
    """Which weights of a training become the generator.

    ``last``: those after the last step. ``fidelity``: every ``every`` steps a few images are
    drawn and compared with the validation split; kept are the weights with the smallest kernel
    distance (KID) among those that do not copy. The held-out images never train anything: the
    batches hold none, only a score comes back. The test split is not touched.
    """

    method: Literal["last", "fidelity"] = "last"
    every: int = Field(1000, ge=1)
    """Optimiser steps between comparisons; the last step is always compared."""
    images: int = Field(128, ge=4)
    """Images drawn of each rare class."""
    patience: int | None = Field(None, ge=1)
    """Comparisons without a better one after which training stops; None: never."""

    def identity(self) -> dict[str, Any]:
        """``last`` reads none of the others."""
        values = super().identity()
        return values if self.method == "fidelity" else {"method": "last"}
