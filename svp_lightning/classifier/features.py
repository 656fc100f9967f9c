"""Feature vectors of particle images, from a classifier trained on real images alone.

The outputs of all residual stages, averaged over positions, are projected on their whitened
principal components over the real training images. The last stage alone would not do: a
classifier ends by making all images of a class alike, and it is differences within a class that
tell good generated images from bad ones. Square roots tame the few images that excite a channel
strongly, and whitening gives every component a variance of 1: without them such images decide
KID, whose kernel grows with the third power of the features and has no scale of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svp_lightning.classifier.network import Classifier
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import CheckpointError
from svp_lightning.runtime.files import replacing

CLASSIFIER = "classifier.ckpt"
PROJECTION = "projection.safetensors"
STAGES = ("layer1", "layer2", "layer3", "layer4")
BATCH_SIZE = 256
MIN_DEVIATION = 1e-3


@dataclass(frozen=True)
class Described:
    """What the feature network says of n images.

    Attributes:
        features: (n, D) float32.
        probabilities: (n, K) float32, of the classes.
    """

    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]


class FeatureNetwork(nn.Module):
    """A trained classifier, read at all its stages, with a linear projection behind.

    ``mean`` (C,) is subtracted from the pooled stage outputs, ``basis`` (C, D) multiplied from the
    right. The classifier is in evaluation mode.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, classifier: Classifier, mean: Tensor, basis: Tensor) -> None:
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)

    @property
    def num_features(self) -> int:
        """D."""
        return self.basis.shape[1]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) in [-1, 1] -> features (B, D) and class probabilities (B, K)."""
        stages, logits = pooled_stages(self.classifier, images)
        features = (torch.cat(stages, dim=1) - self.mean) @ self.basis
        return features, logits.float().softmax(dim=1)


def pooled_stages(classifier: Classifier, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Root of the mean over positions of each stage, (B, C) float32 each, and logits (B, K).

    A mean below 0, which ConvNeXt has, keeps its sign.
    """
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.append(signed_root(output.float().mean(dim=(2, 3))))

    hooks = [stage.register_forward_hook(keep) for stage in _stages(classifier.network)]
    try:
        logits = classifier(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found, logits


def signed_root(values: Tensor) -> Tensor:
    """Root of the size, with the sign."""
    return values.sign() * values.abs().sqrt()


def _stages(network: Any) -> list[nn.Module]:
    """The residual stages of a ResNet or a ConvNeXt."""
    if hasattr(network, STAGES[0]):
        return [getattr(network, stage) for stage in STAGES]
    return [network.features[at] for at in (1, 3, 5, 7)]


def fit_features(
    classifier: Classifier,
    images: NDArray[np.uint8],
    components: int,
    device: torch.device | str = "cpu",
) -> FeatureNetwork:
    """Find the projection of a trained classifier to at most ``components`` features D.

    ``images`` (n, H, W) are real training images, classes about equally often.
    """
    classifier = classifier.to(device).eval()
    with torch.inference_mode():
        batches = [pooled_stages(classifier, batch)[0] for batch in _batches(images, device)]
    stages = [torch.cat(parts).cpu().double().numpy() for parts in zip(*batches, strict=True)]
    mean, basis = whitening(stages, components)
    tensors = (torch.from_numpy(x).float() for x in (mean, basis))
    return FeatureNetwork(classifier, *tensors).to(device)


def whitening(
    blocks: Sequence[NDArray[np.float64]], components: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most ``components`` D whitened principal components of blocks that weigh alike.

    The ``blocks`` are (n, ...) each, of the same images.

    Returns:
        Mean (C,) of all blocks side by side, and basis (C, D) that is multiplied from the right.
    """
    from sklearn.decomposition import PCA  # takes long; who only predicts does without

    # By block and not by channel: a channel that is nearly always off would become the loudest.
    spread = [np.full(x.shape[1], np.sqrt(x.var(axis=0).sum())) for x in blocks]
    joined, scale = np.concatenate(blocks, axis=1), 1 / np.maximum(np.concatenate(spread), 1e-12)
    mean = joined.mean(axis=0)
    scaled = (joined - mean) * scale
    analysis = PCA(min(components, *scaled.shape), svd_solver="full").fit(scaled)
    deviation = np.sqrt(analysis.explained_variance_)
    # Few images leave components that hold rounding errors only; they must not be blown up.
    deviation = np.maximum(deviation, MIN_DEVIATION * deviation[0])
    return mean, (analysis.components_ * scale).T / deviation


def describe(
    network: FeatureNetwork,
    images: NDArray[np.uint8],
    device: torch.device | str = "cpu",
    rows: NDArray[np.int64] | None = None,
) -> Described:
    """Features and class probabilities of ``rows`` (n,) of (N, H, W) images; None: of all.

    Images are read batch by batch, so that those of a store need not fit into memory.
    """
    network = network.to(device).eval()
    with torch.inference_mode():
        parts = [network(batch) for batch in _batches(images, device, rows)]
    features, probabilities = (torch.cat(p).cpu().numpy() for p in zip(*parts, strict=True))
    return Described(features, probabilities)


def save_projection(folder: Path, network: FeatureNetwork) -> None:
    """Write ``projection.safetensors``; the classifier's checkpoint lies in the same folder."""
    tensors = {"mean": network.mean.cpu(), "basis": network.basis.cpu().contiguous()}
    with replacing(folder / PROJECTION) as temporary:
        save_file(tensors, temporary)


def load_features(folder: Path) -> FeatureNetwork:
    """Read a feature network, ready to use, on the CPU.

    Raises:
        CheckpointError: a file is missing or broken.
    """
    classifier = Classifier.load(folder / CLASSIFIER)
    try:
        tensors = load_file(folder / PROJECTION)
        return FeatureNetwork(classifier, tensors["mean"], tensors["basis"])
    except Exception as error:
        raise CheckpointError(
            f"{folder} holds no feature network ({error}).",
            "Delete the folder and run the command again to train it.",
        ) from error


def _batches(
    images: NDArray[np.uint8], device: torch.device | str, rows: NDArray[np.int64] | None = None
) -> Iterator[Tensor]:
    rows = np.arange(len(images)) if rows is None else rows
    for start in range(0, len(rows), BATCH_SIZE):
        batch = np.asarray(images[rows[start : start + BATCH_SIZE]])
        yield to_model_range(torch.from_numpy(batch).to(device))[:, None]
