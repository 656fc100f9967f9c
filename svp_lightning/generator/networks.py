"""Our denoising network, as a diffusers model.

An exported generator carries this file and the one that it imports.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn
from torch.nn import functional

from svp_lightning.generator.traits import DescribedEmbedding, Traits

RADIAL_CHANNELS = 8
"""Maps that say how far a position is from the centre. Crops are centred on their particle, so
round shapes are learnt sooner."""
ATTENTION_HEAD_CHANNELS = 32
FINE, COARSE, CENTRE = 0.005, 0.3, 0.3
"""Of images in [-1, 1]: standard deviation of sensor noise, and of grey levels over all images;
mean grey level."""


class LinearFilter(nn.Module):
    """The best linear estimate of a clean image from a noisy one (Wiener 1949).

    A network without it has to carry fine detail through all its layers, which it learns last.
    Images are taken to have the spectrum of particles in many microscopes,
    power (COARSE N)^2 exp(-2.44 sqrt(k) - 2 (k / 30)^4) + FINE^2 at k half waves across N px.

    Args:
        image_size: H = W = N, px.
        noise_ratio: sigma / alpha of each time step.
    """

    power: Tensor
    ratio: Tensor
    cosines: Tensor
    errors: Tensor
    left: Tensor

    def __init__(self, image_size: int, noise_ratio: Sequence[float]) -> None:
        super().__init__()
        k = torch.arange(image_size, dtype=torch.float64)
        waves = torch.hypot(k[:, None], k[None, :])
        falling = torch.exp(-2.44 * waves.sqrt() - 2 * (waves / 30) ** 4)
        power = (COARSE * image_size) ** 2 * falling + FINE**2
        noise = torch.tensor(noise_ratio, dtype=torch.float64) ** 2
        cosines = torch.cos(torch.pi / image_size * (k + 0.5) * k[:, None])  # DCT-II
        cosines *= torch.where(k == 0, 1, 2).div(image_size).sqrt()[:, None]
        parts = [(power * n / (power + n), n * n / (power + n)) for n in noise]
        errors, left = (
            torch.stack([part.mean().sqrt() for part in side]) for side in zip(*parts, strict=True)
        )
        tables = {"power": power, "ratio": noise.sqrt(), "cosines": cosines}
        for name, table in (tables | {"errors": errors, "left": left}).items():
            self.register_buffer(name, table.float(), persistent=False)

    def missed(self, t: Tensor) -> Tensor:
        """The filter's root mean square error at times (B,), (B, 1, 1, 1)."""
        return self.errors[t].view(-1, 1, 1, 1)

    def forward(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, N, N), (B,) -> estimates, and what they leave of the images at unit variance."""
        with torch.autocast(x_t.device.type, enabled=False):
            ratio = self.ratio[t].view(-1, 1, 1, 1)
            noisy = x_t.float() * torch.hypot(ratio, torch.ones_like(ratio))
            waves = self.cosines @ (noisy - CENTRE) @ self.cosines.T
            kept = waves * self.power / (self.power + ratio**2)
            estimate = self.cosines.T @ kept @ self.cosines + CENTRE
            return estimate, (noisy - estimate) / self.left[t].view(-1, 1, 1, 1)


class ParticleUNet(ModelMixin, ConfigMixin):
    """diffusers' U-Net on pixel blocks: each ``patch`` x ``patch`` block becomes channels.

    Folding costs almost no detail here, since the skip connections carry every pixel's value
    to the output, and saves a factor of up to patch^2 in time.

    Args:
        image_size: H = W, px.
        num_labels: class labels, the null class included.
        block_channels: width of each level, multiples of 8.
        layers_per_block: residual blocks of each level.
        attention: whether each level attends over positions.
        patch: side of a pixel block.
        dropout: inside every residual block.
        augmented: whether it takes the description of an augmentation with the label.
        traits: whether it takes what the particle looks like, too, see
            :mod:`~svp_lightning.generator.traits`.
        noise_ratio: None, or sigma / alpha of every time step: the network then answers with the
            clean image, which is a :class:`LinearFilter`'s estimate and what is missing to it.
    """

    radial: Tensor

    @register_to_config
    def __init__(
        self,
        image_size: int,
        num_labels: int,
        block_channels: Sequence[int],
        layers_per_block: int,
        attention: Sequence[bool],
        patch: int,
        dropout: float = 0.0,
        augmented: bool = False,
        traits: bool = False,
        noise_ratio: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.particle_traits = Traits(num_labels) if traits else None
        self.filter = None if noise_ratio is None else LinearFilter(image_size, noise_ratio)
        images = 1 if self.filter is None else 2
        channels = tuple(block_channels)
        groups = math.gcd(32, *channels)
        down = ["AttnDownBlock2D" if here else "DownBlock2D" for here in attention]
        up = ["AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attention)]
        self.patch = patch
        self.unet: Any = UNet2DModel(
            sample_size=image_size // patch,
            in_channels=images * patch**2 + RADIAL_CHANNELS,
            out_channels=patch**2,
            block_out_channels=channels,
            layers_per_block=layers_per_block,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            dropout=dropout,
            resnet_time_scale_shift="scale_shift",
            attention_head_dim=math.gcd(ATTENTION_HEAD_CHANNELS, *channels),
            norm_num_groups=groups,
            # Without it diffusers leaves the middle attention's input unnormalised whenever
            # ``scale_shift`` is used: its logits grow into the millions and gradients explode.
            attn_norm_num_groups=groups,
            num_class_embeds=num_labels,
        )
        # diffusers normalises, image by image, what the last convolution sees. With nearly as many
        # groups as channels that removes the image's own brightness and contrast: a window that a
        # large bubble darkens looks like one with a small particle.
        self.unet.conv_norm_out = nn.Identity()
        if self.filter is not None:  # training starts at the filter
            nn.init.zeros_(self.unet.conv_out.weight)
            nn.init.zeros_(self.unet.conv_out.bias)
        for module in self.unet.modules():
            if isinstance(module, Attention):
                # torch's fused kernel takes a sixth of a bfloat16 training step on a CPU for these
                # few positions; plain products take next to nothing.
                module.set_processor(AttnProcessor())
        if augmented or traits:
            width = self.unet.class_embedding.embedding_dim
            self.unet.class_embedding = DescribedEmbedding(num_labels, width, augmented, traits)
        self.register_buffer("radial", _radial_maps(image_size // patch), persistent=False)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        labels: Tensor,
        augmentation: Tensor | None = None,
        traits: Tensor | None = None,
    ) -> Tensor:
        """(B, 1, H, W), (B,), (B,), perhaps (B, 7) and (B, 4) -> (B, 1, H, W)."""
        estimate = x_t
        if self.filter is not None:
            estimate, left = self.filter(x_t, t)
            x_t = torch.cat((estimate / COARSE, left), dim=1).to(x_t)
        blocks = functional.pixel_unshuffle(x_t, self.patch)
        radial = self.radial.to(blocks).expand(len(blocks), -1, -1, -1)
        # diffusers hands class_labels to the embedding as they are.
        described = augmentation is not None or traits is not None
        condition = (labels, augmentation, traits) if described else labels
        inputs = torch.cat((blocks, radial), dim=1)
        prediction = self.unet(inputs, t, class_labels=condition, return_dict=False)[0]
        answer = functional.pixel_shuffle(prediction, self.patch)
        return answer if self.filter is None else estimate + self.filter.missed(t) * answer


def _radial_maps(side: int) -> Tensor:
    """Bumps at rising distances from the centre, (1, RADIAL_CHANNELS, side, side) in 0 to 1."""
    positions = (torch.arange(side) + 0.5) / side * 2 - 1
    distance = torch.hypot(positions[:, None], positions[None, :])
    centres = torch.linspace(0, 2**0.5, RADIAL_CHANNELS).view(1, -1, 1, 1)
    width = 2**0.5 / (RADIAL_CHANNELS - 1)
    return torch.exp(-(((distance - centres) / width) ** 2))
