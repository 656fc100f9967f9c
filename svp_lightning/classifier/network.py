"""A classifier as it is used: network, classes and what its probabilities answer for.

Without Lightning, whose import takes seconds; training adds it in :mod:`.module`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from svp_lightning.classifier.backbones import build_backbone
from svp_lightning.classifier.foreign_weights import has_wide_stem, read_state_dict, why_unreadable
from svp_lightning.classifier.settings import ClassifierSettings
from svp_lightning.data.classes import checked_class_name
from svp_lightning.errors import CheckpointError


class Classifier(nn.Module):
    """Takes images (B, 1, H, W) in [-1, 1].

    Args:
        settings: of the network; those of its training play no part.
        class_names: K names, in the order of the logits.
        image_size: H = W, px.
        seed: of the initial weights.
        trained_shares: class name -> share that its probabilities answer for (see
            :attr:`.Mixture.trained_shares`); None: all alike.
        wide_stem: a ResNet keeps its 7 x 7 convolution at every stride; None: as in
            ``settings.pretrained_weights``, if there are any.

    Raises:
        SettingsError: the backbone cannot be built for this image size.
        CheckpointError: the pretrained weights cannot be read.
    """

    def __init__(
        self,
        settings: ClassifierSettings,
        class_names: Sequence[str],
        image_size: int,
        seed: int = 0,
        trained_shares: Mapping[str, float] | None = None,
        wide_stem: bool | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self.seed = seed
        alike = dict.fromkeys(class_names, 1 / len(class_names))
        self.trained_shares = dict(trained_shares or alike)
        if wide_stem is None:
            start = settings.pretrained_weights
            wide_stem = start is not None and has_wide_stem(read_state_dict(start))
        self.wide_stem = wide_stem
        self.network = _seeded_network(settings, len(class_names), image_size, seed, wide_stem)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) images in [-1, 1] -> (B, K) logits."""
        logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) images in [-1, 1] -> (B, K) float32 probabilities."""
        probabilities: Tensor = self(images).float().softmax(dim=1)
        return probabilities

    @classmethod
    def load(cls, path: Path) -> Self:
        """Rebuild a classifier from a checkpoint, ready to test but not to be trained further.

        Args:
            path: ``best.ckpt`` or ``last.ckpt`` of :func:`~.validation.checkpoint_callbacks`.

        Returns:
            The classifier in evaluation mode, on the CPU.

        Raises:
            CheckpointError: the file is missing, broken, or not a classifier's.
        """
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            saved = checkpoint["hyper_parameters"]
            settings = ClassifierSettings.model_validate(saved["settings"])
            facts = {name: saved[name] for name in ("image_size", "seed", "trained_shares")}
            wide = has_wide_stem(checkpoint["state_dict"])
            names = [checked_class_name(name) for name in saved["class_names"]]
            module = cls(settings, names, **facts, wide_stem=wide)
            module.load_state_dict(checkpoint["state_dict"])
        except Exception as error:
            reason = f"{type(error).__name__}: {why_unreadable(error)}"
            raise CheckpointError(
                f"{path} cannot be used as a classifier ({reason}).",
                "Give the best.ckpt of a trained classifier, or train it again.",
            ) from error
        return module.eval()


def _seeded_network(
    settings: ClassifierSettings, num_classes: int, image_size: int, seed: int, wide_stem: bool
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_backbone(
            settings.backbone,
            num_classes,
            image_size,
            settings.stem_stride,
            wide_stem,
        )
    return network.to(memory_format=torch.channels_last)
