"""The paper's network as a diffusers model."""

from typing import Any

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from svp_lightning.generator.paper_unet import PaperUNet


class PaperUNetModel(ModelMixin, ConfigMixin):
    """:class:`PaperUNet` behind the call of diffusers' ``UNet2DModel``.

    Args:
        channels: width of each level.
        num_class_embeds: class labels, the null class included.
        dropout: inside every residual block.
    """

    @register_to_config
    def __init__(
        self, channels: tuple[int, ...], num_class_embeds: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.network = PaperUNet(tuple(channels), num_class_embeds, dropout)

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor, **_: Any
    ) -> tuple[Tensor]:
        """(B, 1, H, W) noisy, (B,) time steps, (B,) labels -> what it predicts, in a tuple."""
        return (self.network(sample, timestep, class_labels),)
