"""The denoising network of the paper's recipe, as a diffusers model.

Nothing of this package is imported: an exported generator carries this file.

References:
    Ho et al. 2020, arXiv 2006.11239 (U-Net and time embedding).
    Qiao et al. 2019, arXiv 1903.10520 (weight standardisation).
    Shen et al. 2018, arXiv 1812.01243 (linear attention).
"""

import math
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 8
HEADS = 4
HEAD_CHANNELS = 32


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
