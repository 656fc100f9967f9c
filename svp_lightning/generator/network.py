"""The U-Net behind the denoiser, shaped by the settings and the data."""

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

from svp_lightning.errors import SettingsError
from svp_lightning.generator.augmentation import AugmentedEmbedding
from svp_lightning.generator.paper_unet import PaperUNet
from svp_lightning.generator.radial import RADIAL_CHANNELS, radial_maps
from svp_lightning.generator.settings import NetworkSettings

MIN_BOTTLENECK = 4
"""Fewest positions along a side of the lowest level, so that shape is still resolved."""
ATTENTION_HEAD_CHANNELS = 32


def build_network(
    settings: NetworkSettings, image_size: int, num_labels: int, augmented: bool = False
) -> nn.Module:
    """A network (x_t (B, 1, H, W), t (B,), labels (B,)) -> (B, 1, H, W).

    Args:
        settings: the wanted shape.
        image_size: H = W, px.
        num_labels: class labels, the null class included.
        augmented: whether it takes the description of an augmentation besides (``unet``).

    Raises:
        SettingsError: the images are too small for so many levels.
    """
    patch = fitting_patch(settings, image_size)
    if settings.kind == "paper":
        return PaperUNet(settings.block_channels, num_labels, settings.dropout)
    return PatchUNet(settings, image_size, num_labels, patch, augmented)


def fitting_patch(settings: NetworkSettings, image_size: int) -> int:
    """The largest folding factor up to ``settings.patch`` that leaves a usable lowest level.

    Raises:
        SettingsError: there is none.
    """
    levels = len(settings.block_channels)
    patch: int = settings.patch
    while patch:
        side, rest = divmod(image_size, patch * 2 ** (levels - 1))
        if not rest and side >= MIN_BOTTLENECK:
            return patch
        patch //= 2
    fitting = max(image_size // MIN_BOTTLENECK, 1).bit_length()
    raise SettingsError(
        f"generator.network.block_channels: {levels} levels do not fit images of "
        f"{image_size} px, whose side must be a multiple of {MIN_BOTTLENECK * 2 ** (levels - 1)}.",
        f"Use at most {fitting} levels, or another image size.",
    )


class PatchUNet(nn.Module):
    """A U-Net on pixel blocks: each ``patch`` x ``patch`` block becomes channels.

    Folding costs almost no detail here, since the skip connections carry every pixel's value
    to the output, and saves a factor of up to patch^2 in time.
    """

    radial: Tensor

    def __init__(
        self,
        settings: NetworkSettings,
        image_size: int,
        num_labels: int,
        patch: int,
        augmented: bool,
    ) -> None:
        # Here: it takes seconds, and a study's cells without generated images do without it.
        from svp_lightning.generator.unet import ParticleUNet

        super().__init__()
        self.patch = patch
        channels = settings.block_channels
        groups = gcd(32, *channels)
        down = ["AttnDownBlock2D" if here else "DownBlock2D" for here in settings.attention]
        up = ["AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(settings.attention)]
        self.unet = ParticleUNet(
            sample_size=image_size // patch,
            in_channels=patch**2 + RADIAL_CHANNELS,
            out_channels=patch**2,
            block_out_channels=channels,
            layers_per_block=settings.layers_per_block,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            dropout=settings.dropout,
            resnet_time_scale_shift="scale_shift",
            attention_head_dim=gcd(ATTENTION_HEAD_CHANNELS, *channels),
            norm_num_groups=groups,
            # Without it diffusers leaves the middle attention's input unnormalised whenever
            # ``scale_shift`` is used: its logits grow into the millions and gradients explode.
            attn_norm_num_groups=groups,
            num_class_embeds=num_labels,
        )
        if augmented:
            embedding = self.unet.class_embedding
            self.unet.class_embedding = AugmentedEmbedding(num_labels, embedding.embedding_dim)
        self.register_buffer("radial", radial_maps(image_size // patch), persistent=False)

    def forward(
        self, x_t: Tensor, t: Tensor, labels: Tensor, augmentation: Tensor | None = None
    ) -> Tensor:
        blocks = functional.pixel_unshuffle(x_t, self.patch)
        radial = self.radial.expand(len(blocks), -1, -1, -1)
        inputs = torch.cat((blocks, radial), dim=1)
        # diffusers hands class_labels to the embedding as they are.
        condition = labels if augmentation is None else (labels, augmentation)
        prediction = self.unet(inputs, t, class_labels=condition, return_dict=False)[0]
        return functional.pixel_shuffle(prediction, self.patch)
