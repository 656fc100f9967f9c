"""What makes runs in tests quick: a small network in place of the backbones, no pictures."""

from typing import Any

import pytest
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from tests.quick import write_blank_pictures


class NarrowResNet(ResNet):
    """A ResNet of one block a stage and an eighth of the channels.

    Training and storing 11 million weights are most of the time of a run at ``scale=tiny``.
    """

    def __init__(self, name: str, weights: None, num_classes: int) -> None:
        super().__init__(BasicBlock, [1, 1, 1, 1], num_classes)
        self.fc = nn.Linear(512 // 8, num_classes)

    def _make_layer(self, block: Any, planes: int, *rest: Any, **options: Any) -> nn.Sequential:
        return super()._make_layer(block, planes // 8, *rest, **options)


def use_narrow_backbones(patch: pytest.MonkeyPatch) -> None:
    """Whatever backbone is asked for, build a narrow one."""
    patch.setattr(torchvision.models, "get_model", NarrowResNet)


def leave_out_pictures_of_generators(patch: pytest.MonkeyPatch) -> None:
    """Drawing them takes four times as long as the training at ``scale=tiny``."""
    name = "svp_lightning.stages.generator_training.write_pictures"
    patch.setattr(name, write_blank_pictures)
