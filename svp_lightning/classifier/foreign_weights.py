"""Weights of other programs in the naming of torchvision, for one-channel networks of this one.

State dicts of torchvision and timm are known, with any prefix (``module.``, ``backbone.``), any
name of the head, and stems of one or three channels. Files are safetensors, or what
``torch.load(weights_only=True)`` reads: no code in them is run.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from svp_lightning.errors import CheckpointError
from svp_lightning.runtime.files import require_unchanged

Stem = Literal["sum", "mean"]
WRAPPED = ("state_dict", "model_state_dict", "model", "weights")
"""Keys under which programs keep the state dict in a larger file."""
HEADS = ("fc", "classifier.2")
"""The last layer, in torchvision's naming of ResNet and ConvNeXt."""
COUNTERS = "num_batches_tracked"
BLOCK = re.compile(r"(layer\d|features)\.\d+\.")
"""Beginning of the names of what is between the stem and the head."""
WIDE = 7
"""Side of the first convolution of an ImageNet ResNet, px."""
TIMM_CONVNEXT = (
    (r"^stem\.(\d)\.", r"features.0.\1."),
    (r"^stages\.(\d)\.downsample\.", r"features.\1:even."),
    (r"^stages\.(\d)\.blocks\.(\d+)\.gamma$", r"features.\1:odd.\2.layer_scale"),
    (r"^stages\.(\d)\.blocks\.(\d+)\.conv_dw\.", r"features.\1:odd.\2.block.0."),
    (r"^stages\.(\d)\.blocks\.(\d+)\.norm\.", r"features.\1:odd.\2.block.2."),
    (r"^stages\.(\d)\.blocks\.(\d+)\.mlp\.fc1\.", r"features.\1:odd.\2.block.3."),
    (r"^stages\.(\d)\.blocks\.(\d+)\.mlp\.fc2\.", r"features.\1:odd.\2.block.5."),
    (r"^head\.norm\.", "classifier.0."),
)
"""timm's names and torchvision's, whose stages and downsamplings take turns."""


@dataclass(frozen=True)
class Mapped:
    """A state dict in the naming of one of our networks.

    Attributes:
        tensors: our name -> tensor.
        source: our name -> name in the file.
        skipped: name in the file -> why it is not used.
        missing: our names without a tensor; counters of batches are left out, nothing uses them.
        deeper: names in the file of blocks that our network does not have.
        channels: of the stem in the file.
        head: name of the last layer in the file; None: it has none.
    """

    tensors: dict[str, Tensor]
    source: dict[str, str]
    skipped: dict[str, str]
    missing: tuple[str, ...]
    deeper: tuple[str, ...]
    channels: int
    head: str | None

    def require_body(self, path: Path) -> None:
        """Refuse weights of a network that has fewer blocks than ours, or more.

        Raises:
            CheckpointError: naming the first tensor that is missing or not used.
        """
        lacking = [name for name in self.missing if not of_head(name)]
        if not lacking and not self.deeper:
            return
        unused = [f"{name} ({self.skipped[name]})" for name in self.deeper or self.skipped]
        found = {"are missing": lacking, "of the file are not used": unused}
        raise CheckpointError(
            f"{path} does not fit the backbone: "
            + "; ".join(f"{len(n)} tensors {what}, first {n[0]}" for what, n in found.items() if n)
            + ".",
            "Choose the backbone of the weights, whose names are those of torchvision or timm.",
        )

    def summary(self) -> str:
        """A sentence each about what is used, skipped and missing."""
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        lines = [
            f"{len(self.tensors)} tensors are used. The stem has {channels}; the last layer is "
            f"{self.head or 'missing'}."
        ]
        if self.skipped:
            key, why = next(iter(self.skipped.items()))
            lines.append(f"{len(self.skipped)} tensors are skipped, first {key}: {why}.")
        if self.missing:
            lines.append(f"{len(self.missing)} tensors are missing, first {self.missing[0]}.")
        return "\n".join(lines)

    def report(self) -> dict[str, Any]:
        """Plain values for a file: which tensors are used, skipped and missing."""
        return {
            "used": self.source,
            "skipped": self.skipped,
            "missing": list(self.missing),
            "stem_channels": self.channels,
            "head": self.head,
        }


def why_unreadable(error: Exception) -> str:
    """What is wrong with a file, without PyTorch's advice to run the code in it."""
    if isinstance(error, UnpicklingError):
        return "it is damaged, or holds more than tensors and plain values, which is never run"
    return " ".join(str(error).split())[:300] or "it is empty or cut short"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names.

    Raises:
        CheckpointError: no such file, more than plain tensors, or no state dict.
        ArtifactError: it is of a run, and has changed since the run was finished.
    """
    if path.suffix == ".ckpt":  # other programs' files may lie beside a record of another kind
        require_unchanged(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read as weights ({why_unreadable(error)}).",
            "Give a local .safetensors file, or a .pt or .pth file that holds only a state dict.",
        ) from error
    held = weights if isinstance(weights, dict) else {}
    held = next((held[key] for key in WRAPPED if isinstance(held.get(key), dict)), held)
    tensors = {str(key): value for key, value in held.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no state dict.", "Save it with model.state_dict().")
    return tensors


def has_wide_stem(weights: Mapping[str, Tensor]) -> bool:
    """Whether the first convolution of a state dict is the 7 x 7 one of an ImageNet ResNet."""
    first = next((value for value in weights.values() if value.ndim == 4), None)
    return first is not None and first.shape[-1] == WIDE


def map_weights(weights: Mapping[str, Tensor], network: nn.Module, stem: Stem = "sum") -> Mapped:
    """The tensors of a state dict that a network can take.

    Args:
        weights: of torchvision or timm, with any prefix.
        network: of :func:`~.backbones.build_backbone`, whose head's size does not matter.
        stem: what becomes of three input channels. The sum answers a grey image as the original
            answers it in R, G and B; the mean is for weights whose channels got a third each.

    Raises:
        CheckpointError: the stem has a number of channels that is neither 1 nor 3.
    """
    own = network.state_dict()
    named = {key: _renamed(key) if "features.0.0.weight" in own else key for key in weights}
    prefix = _prefix(named.values(), own)
    tensors: dict[str, Tensor] = {}
    source: dict[str, str] = {}
    skipped: dict[str, str] = {}
    deeper: list[str] = []
    head = _head(weights, named, own, prefix)
    first, channels = next(name for name, value in own.items() if value.ndim == 4), 1
    for key, value in weights.items():
        name = named[key].removeprefix(prefix)
        layer, _, kind = key.rpartition(".")
        if head is not None and layer == head:
            name = f"{_head_of(own)}.{kind}"
        if name == first:
            channels = value.shape[1] if value.ndim == 4 else 0
            value = _grey(value, stem, key)
        if name not in own or (not named[key].startswith(prefix) and layer != head):
            skipped[key] = "the backbone has no such tensor"
            if named[key].startswith(prefix) and BLOCK.match(name):
                deeper.append(key)
            continue
        if value.ndim + 2 == own[name].ndim and value.numel() == own[name].numel():
            value = value.view(own[name].shape)  # layer scale: (C,) is (C, 1, 1)
        if value.shape != own[name].shape and not of_head(name):
            skipped[key] = f"its shape is {tuple(value.shape)}, not {tuple(own[name].shape)}"
            continue
        tensors[name], source[name] = value, key
    missing = tuple(name for name in own if name not in tensors and COUNTERS not in name)
    return Mapped(tensors, source, skipped, missing, tuple(deeper), channels, head)


def _grey(value: Tensor, stem: Stem, key: str) -> Tensor:
    channels = value.shape[1] if value.ndim == 4 else 0
    if channels == 1:
        return value
    if channels != 3:
        raise CheckpointError(
            f"{key} has the shape {tuple(value.shape)}: no stem of 1 or 3 channels.",
            "Give weights of a network for grey or RGB images.",
        )
    return value.sum(dim=1, keepdim=True) if stem == "sum" else value.mean(dim=1, keepdim=True)


def _renamed(key: str) -> str:
    """The name in torchvision of a tensor of timm's ConvNeXt, after any prefix."""
    start = re.search(r"(^|\.)(stem|stages|head\.norm)\.", key)
    if start is None:
        return key
    at = start.end(1)
    before, name = key[:at], key[at:]
    for pattern, template in TIMM_CONVNEXT:
        name = re.sub(pattern, template, name)
    even = re.sub(r"(\d):even", lambda found: str(2 * int(found[1])), name)
    return before + re.sub(r"(\d):odd", lambda found: str(2 * int(found[1]) + 1), even)


def _prefix(names: Any, own: Mapping[str, Tensor]) -> str:
    """The prefix that most of the file's names have before ours."""
    found: Counter[str] = Counter()
    for name in names:
        for rest in _endings(name):
            if rest in own:
                found[name.removesuffix(rest)] += 1
                break
    return found.most_common(1)[0][0] if found else ""


def _endings(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[start:]) for start in range(len(parts)))


def _head_of(own: Mapping[str, Tensor]) -> str:
    return next(head for head in HEADS if f"{head}.weight" in own)


def of_head(name: str) -> bool:
    """Whether a tensor of our naming belongs to the last layer."""
    return name.rpartition(".")[0] in HEADS


def _head(
    weights: Mapping[str, Tensor], named: Mapping[str, str], own: Mapping[str, Tensor], prefix: str
) -> str | None:
    """The one linear layer of the file that takes our head's input and is no part of the body."""
    width = own[f"{_head_of(own)}.weight"].shape[1]
    body = {name for name in own if not of_head(name)}
    found = [
        key.removesuffix(".weight")
        for key, value in weights.items()
        if key.endswith(".weight") and value.ndim == 2 and value.shape[1] == width
        and named[key].removeprefix(prefix) not in body
    ]  # fmt: skip
    return found[0] if len(found) == 1 else None
