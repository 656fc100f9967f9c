"""torchvision networks for small single-channel images.

The ImageNet stem shrinks an image four times before the first block, which leaves 2 x 2
positions of a 64-pixel particle at the last. The stem is therefore chosen by image size.
"""

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, ResNet

from svp_lightning.classifier.foreign_weights import map_weights, of_head, read_state_dict
from svp_lightning.classifier.settings import StemStride
from svp_lightning.errors import SettingsError

NARROW = {"resnet18_half": 32, "resnet18_quarter": 16}
"""Channels of the first stage."""
SMALL_MAP = 2
"""Largest side, px, at which a matrix product is faster than a convolution."""


def build_backbone(
    name: str,
    num_classes: int,
    image_size: int,
    stem_stride: StemStride = "auto",
    wide_stem: bool = False,
) -> nn.Module:
    """A network from (B, 1, H, W) images in [-1, 1] to (B, K) logits, randomly initialised.

    Stem of the ResNets (He et al. 2016, https://arxiv.org/abs/1512.03385): stride 1 and 2 have
    a 3 x 3 convolution and no pooling, stride 4 the original 7 x 7 convolution of stride 2
    and the pooling. ConvNeXt (Liu et al. 2022, https://arxiv.org/abs/2201.03545) cuts patches
    of 4 x 4 pixels, 2 or 4 apart.

    Args:
        name: a :data:`~.settings.Backbone`.
        num_classes: K.
        image_size: H = W, px; a multiple of 16.
        stem_stride: 1, 2, 4, or "auto" for :func:`auto_stem_stride`.
        wide_stem: keep the 7 x 7 convolution at every stride, so that ImageNet weights fit.

    Raises:
        SettingsError: a stride that does not fit.
    """
    stride = fixed_stem_stride(name, image_size, stem_stride)
    network: nn.Module
    if name in NARROW:
        network = _narrow_resnet18(num_classes, NARROW[name])
    else:
        network = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    if name.startswith("convnext"):
        _patch_stem(network, stride)
    else:
        _resnet_stem(network, stride, keep_kernel=wide_stem)
        for module in network.modules():
            if type(module) is nn.Conv2d and module.kernel_size == (3, 3) and module.groups == 1:
                module.__class__ = SmallMapConv2d  # same parameters and names
    return network


def _narrow_resnet18(num_classes: int, width: int) -> nn.Module:
    """ResNet-18 with ``width`` channels in its first stage, not 64.

    A CPU trains one of half the channels (2.8 million weights) on twice as many images a second
    as the whole, one of a quarter (0.7 million) on six times as many.
    """
    network: Any = ResNet(BasicBlock, [1, 1, 1, 1], num_classes)
    network.bn1 = nn.BatchNorm2d(width)
    network.inplanes = width
    for stage in range(4):
        stride = 1 if stage == 0 else 2
        layer = network._make_layer(BasicBlock, width << stage, 2, stride=stride)
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        setattr(network, f"layer{stage + 1}", layer)
    network.fc = nn.Linear(8 * width, num_classes)
    built: nn.Module = network
    return built


class SmallMapConv2d(nn.Conv2d):
    """A 3 x 3 convolution, padded by 1, that CPUs train as a matrix product on the smallest maps.

    oneDNN's convolutions reach a fifteenth of the speed on maps of 2 x 2 that they have on 16 x 16:
    the last stage then takes most of the time of a ResNet. Elsewhere it is its base class.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, H) -> (B, D, H / stride, H / stride), rounded up."""
        step = self.stride[0]
        side = -(-images.shape[-1] // step)
        if not self.training or images.device.type != "cpu" or side > SMALL_MAP:
            return super().forward(images)
        padded = pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        reach = step * (side - 1) + 1
        places = product(range(3), repeat=2)
        near = [padded[:, y : y + reach : step, x : x + reach : step] for y, x in places]
        # (B, H, W, 9 C) @ (9 C, D): in channels-last memory no weight is moved.
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return linear(torch.cat(near, dim=-1), weight).permute(0, 3, 1, 2)


def auto_stem_stride(image_size: int) -> int:
    """1 up to 32 px, 2 up to 96 px, 4 above."""
    if image_size <= 32:
        return 1
    return 2 if image_size <= 96 else 4


def fixed_stem_stride(name: str, image_size: int, stem_stride: int | str) -> int:
    """The stride that a backbone's stem gets.

    Raises:
        SettingsError: a stride that does not fit.
    """
    fitting = auto_stem_stride(image_size)
    stride = fitting if isinstance(stem_stride, str) else stem_stride
    if name.startswith("convnext") and stride == 1:
        if stem_stride == 1:
            raise SettingsError(f"{name} has no stem of stride 1.", "Choose auto, 2 or 4.")
        return 2
    return stride


def _resnet_stem(network: Any, stride: int, keep_kernel: bool) -> None:
    kernel = 7 if keep_kernel or stride == 4 else 3
    width = network.bn1.num_features
    network.conv1 = nn.Conv2d(
        1, width, kernel, stride=min(stride, 2), padding=kernel // 2, bias=False
    )
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if stride < 4:
        network.maxpool = nn.Identity()


def _patch_stem(network: Any, stride: int) -> None:
    stem = network.features[0]
    padding = (4 - stride) // 2  # the output is H / stride
    stem[0] = nn.Conv2d(1, stem[0].out_channels, 4, stride=stride, padding=padding)
    nn.init.trunc_normal_(stem[0].weight, std=0.02)
    nn.init.zeros_(stem[0].bias)


def fold_batch_norms(network: nn.Module) -> None:
    """Merge each batch norm with the convolution before it, in place: predicts more quickly.

    The network answers the same up to rounding. It can no longer be trained or saved.
    """
    for parent in list(network.modules()):
        for (name, first), (following, norm) in pairwise(list(parent.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(first.eval(), norm.eval()))
                setattr(parent, following, nn.Identity())


def load_pretrained(network: nn.Module, path: Path) -> None:
    """Start from local weights; the head stays as initialised.

    A stem of three channels is summed over them: the sum answers a grey image as the original
    answers the same image in R, G and B.

    Args:
        network: of :func:`build_backbone`, with the stem of the file.
        path: a state dict of torchvision or timm (:mod:`~.foreign_weights`), or a checkpoint of a
            classifier of this program.

    Raises:
        CheckpointError: no such file, not plain tensors, or of another network.
    """
    found = map_weights(read_state_dict(path), network)
    found.require_body(path)
    body = {name: value for name, value in found.tensors.items() if not of_head(name)}
    network.load_state_dict(body, strict=False)
