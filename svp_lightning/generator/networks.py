"""The denoising networks, as diffusers models.

Nothing of this package is imported: an exported generator carries this file.

References:
    Ho et al. 2020, arXiv 2006.11239 (U-Net and time embedding).
    Qiao et al. 2019, arXiv 1903.10520 (weight standardisation).
    Shen et al. 2018, arXiv 1812.01243 (linear attention).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention as DiffusersAttention
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional

RADIAL_CHANNELS = 8
"""Maps that say how far a position is from the centre. Crops are centred on their particle, so
round shapes are learnt sooner."""
ATTENTION_HEAD_CHANNELS = 32
AMOUNTS = 7
"""Numbers that describe an augmentation, see :mod:`~svp_lightning.generator.warping`."""
GROUPS = 8
HEADS = 4
HEAD_CHANNELS = 32


class AugmentedEmbedding(nn.Embedding):
    """Class labels, and how the images were augmented, as one vector.

    There is no bias: without augmentation this is a plain embedding of labels.

    Args:
        num_labels: class labels, the null class included.
        width: of the vector.
    """

    def __init__(self, num_labels: int, width: int) -> None:
        super().__init__(num_labels, width)
        self.augmentation = nn.Linear(AMOUNTS, width, bias=False)

    def forward(self, condition: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Labels (B,), or labels and amounts (B, :data:`AMOUNTS`) -> (B, width)."""
        if isinstance(condition, Tensor):
            return super().forward(condition)
        labels, amounts = condition
        embedding: Tensor = super().forward(labels) + self.augmentation(amounts)
        return embedding


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
        augmented: whether it takes the description of an augmentation besides the label.
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
    ) -> None:
        super().__init__()
        channels = tuple(block_channels)
        groups = math.gcd(32, *channels)
        down = ["AttnDownBlock2D" if here else "DownBlock2D" for here in attention]
        up = ["AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attention)]
        self.patch = patch
        self.unet: Any = UNet2DModel(
            sample_size=image_size // patch,
            in_channels=patch**2 + RADIAL_CHANNELS,
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
        for module in self.unet.modules():
            if isinstance(module, DiffusersAttention):
                # torch's fused kernel takes a sixth of a bfloat16 training step on a CPU for these
                # few positions; plain products take next to nothing.
                module.set_processor(AttnProcessor())
        if augmented:
            width = self.unet.class_embedding.embedding_dim
            self.unet.class_embedding = AugmentedEmbedding(num_labels, width)
        self.register_buffer("radial", _radial_maps(image_size // patch), persistent=False)

    def forward(
        self, x_t: Tensor, t: Tensor, labels: Tensor, augmentation: Tensor | None = None
    ) -> Tensor:
        """(B, 1, H, W), (B,), (B,) and perhaps (B, :data:`AMOUNTS`) -> (B, 1, H, W)."""
        blocks = functional.pixel_unshuffle(x_t, self.patch)
        radial = self.radial.to(blocks).expand(len(blocks), -1, -1, -1)
        # diffusers hands class_labels to the embedding as they are.
        condition = labels if augmentation is None else (labels, augmentation)
        inputs = torch.cat((blocks, radial), dim=1)
        prediction = self.unet(inputs, t, class_labels=condition, return_dict=False)[0]
        return functional.pixel_shuffle(prediction, self.patch)


def _radial_maps(side: int) -> Tensor:
    """Bumps at rising distances from the centre, (1, RADIAL_CHANNELS, side, side) in 0 to 1."""
    positions = (torch.arange(side) + 0.5) / side * 2 - 1
    distance = torch.hypot(positions[:, None], positions[None, :])
    centres = torch.linspace(0, 2**0.5, RADIAL_CHANNELS).view(1, -1, 1, 1)
    width = 2**0.5 / (RADIAL_CHANNELS - 1)
    return torch.exp(-(((distance - centres) / width) ** 2))


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose filters have zero mean and unit variance (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        # In float32 even under autocast: a variance over many weights loses its digits.
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) * (variance + 1e-5).rsqrt()
        convolved: Tensor = self._conv_forward(x, weight, self.bias)
        return convolved


class ResidualBlock(nn.Module):
    """Two standardised convolutions; the embedding scales and shifts after the first."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = StandardisedConv2d(inputs, outputs, 3, padding=1)
        self.norm_1 = nn.GroupNorm(GROUPS, outputs)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = StandardisedConv2d(outputs, outputs, 3, padding=1)
        self.norm_2 = nn.GroupNorm(GROUPS, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        modulation = self.modulation(functional.silu(embedding))[:, :, None, None]
        scale, shift = modulation.chunk(2, dim=1)
        h = self.norm_1(self.conv_1(x)) * (1 + scale) + shift
        h = self.dropout(functional.silu(h))
        h = functional.silu(self.norm_2(self.conv_2(h)))
        residual: Tensor = h + self.skip(x)
        return residual


class Attention(nn.Module):
    """Residual self-attention over positions, with full or linear cost in their number.

    The linear form normalises keys over positions and queries over channels, then multiplies
    keys with values first (Shen et al. 2018), so its memory does not grow with H W squared.
    """

    def __init__(self, channels: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        hidden = HEADS * HEAD_CHANNELS
        self.norm = nn.GroupNorm(1, channels)
        self.to_qkv = nn.Conv2d(channels, 3 * hidden, 1, bias=False)
        output = nn.Conv2d(hidden, channels, 1)
        self.to_output = nn.Sequential(output, nn.GroupNorm(1, channels)) if linear else output

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        qkv = self.to_qkv(self.norm(x)).view(batch, 3, HEADS, HEAD_CHANNELS, height * width)
        q, k, v = qkv.unbind(1)
        if self.linear:
            context = torch.einsum("bhdn,bhen->bhde", k.softmax(dim=-1), v)
            h = torch.einsum("bhde,bhdn->bhen", context, q.softmax(dim=-2) * HEAD_CHANNELS**-0.5)
        else:
            q, k, v = (part.transpose(-1, -2) for part in (q, k, v))
            h = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        residual: Tensor = x + self.to_output(h.reshape(batch, -1, height, width))
        return residual


class Level(nn.Module):
    """Two residual blocks, linear attention, and a change of resolution and width."""

    def __init__(
        self, width: int, skip: int, embedding: int, dropout: float, resize: nn.Module
    ) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(width + skip, width, embedding, dropout)
        self.block_2 = ResidualBlock(width + skip, width, embedding, dropout)
        self.attention = Attention(width, linear=True)
        self.resize = resize


class DownLevel(Level):
    """A level on the way down; it leaves two feature maps for its counterpart."""

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        x = self.block_1(x, embedding)
        skips.append(x)
        x = self.attention(self.block_2(x, embedding))
        skips.append(x)
        resized: Tensor = self.resize(x)
        return resized


class UpLevel(Level):
    """A level on the way up; it takes two feature maps of its counterpart."""

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        x = self.block_1(torch.cat((x, skips.pop()), dim=1), embedding)
        x = self.block_2(torch.cat((x, skips.pop()), dim=1), embedding)
        resized: Tensor = self.resize(self.attention(x))
        return resized


class PaperUNet(ModelMixin, ConfigMixin):
    """The network of the paper's recipe, written from its description.

    Ozbulak et al. 2025 (arXiv 2508.06021) name a U-Net of width 64 with multipliers 1-2-4-8,
    linear attention and weight-standardised convolutions, 35.7 M parameters. Details that the
    description leaves open follow common practice: two residual blocks and one linear attention
    per level, full attention at the lowest resolution, GroupNorm + SiLU, time as scale and shift.

    The paper trains one network per class: ``generator.classes=silicone_oil`` gives one. By
    default one network serves all classes: a class embedding is added to the time embedding.

    Args:
        block_channels: width of each level; the paper's are (64, 128, 256, 512).
        num_labels: class labels, the null class included.
        dropout: inside every residual block.
    """

    @register_to_config
    def __init__(
        self, block_channels: Sequence[int], num_labels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        channels = tuple(block_channels)
        first = channels[0]
        self.embedding_width = first
        embedding = 4 * first
        self.time = nn.Sequential(
            nn.Linear(first, embedding), nn.GELU(), nn.Linear(embedding, embedding)
        )
        self.label = nn.Embedding(num_labels, embedding)
        self.inlet = nn.Conv2d(1, first, 7, padding=3)
        inputs, outputs = (first, *channels[:-1]), channels
        last = len(channels) - 1
        self.down = nn.ModuleList(
            DownLevel(a, 0, embedding, dropout, _narrow(a, b, halve=level < last))
            for level, (a, b) in enumerate(zip(inputs, outputs, strict=True))
        )
        self.middle_1 = ResidualBlock(channels[-1], channels[-1], embedding, dropout)
        self.middle_attention = Attention(channels[-1], linear=False)
        self.middle_2 = ResidualBlock(channels[-1], channels[-1], embedding, dropout)
        self.up = nn.ModuleList(
            UpLevel(b, a, embedding, dropout, _widen(b, a, double=level > 0))
            for level, (a, b) in reversed(list(enumerate(zip(inputs, outputs, strict=True))))
        )
        self.outlet_block = ResidualBlock(2 * first, first, embedding, dropout)
        self.outlet = nn.Conv2d(first, 1, 1)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """(B, 1, H, W), (B,), (B,) -> (B, 1, H, W)."""
        embedding = self.time(_sinusoidal(t, self.embedding_width)) + self.label(labels)
        x = inlet = self.inlet(x_t)
        skips: list[Tensor] = []
        for level in self.down:
            x = level(x, embedding, skips)
        x = self.middle_attention(self.middle_1(x, embedding))
        x = self.middle_2(x, embedding)
        for level in self.up:
            x = level(x, embedding, skips)
        output: Tensor = self.outlet(self.outlet_block(torch.cat((x, inlet), dim=1), embedding))
        return output


def _narrow(inputs: int, outputs: int, halve: bool) -> nn.Module:
    if not halve:
        return nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * inputs, outputs, 1))


def _widen(inputs: int, outputs: int, double: bool) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv) if double else conv


def _sinusoidal(t: Tensor, width: int) -> Tensor:
    """(B,) -> (B, width), Vaswani et al. 2017, section 3.5."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=t.device) * (-math.log(10_000) / (half - 1)))
    angles = t.float()[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)
