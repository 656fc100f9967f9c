import copy
from itertools import product
from typing import get_args

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from svp_lightning.classifier.backbones import (
    SmallMapConv2d,
    auto_stem_stride,
    build_backbone,
    fold_batch_norms,
    load_pretrained,
)
from svp_lightning.classifier.settings import Backbone, ClassifierSettings
from svp_lightning.errors import SettingsError
from tests import configured


@pytest.mark.parametrize(
    ("name", "stride"),
    [*product(get_args(Backbone), [2]), ("resnet18", 1), ("resnet18", 4), ("convnext_tiny", 4)],
)
def test_every_parameter_learns_and_the_stem_shrinks_as_asked(name, stride):
    torch.manual_seed(0)  # ConvNeXt drops blocks at random; with these draws every one acts
    network = build_backbone(name, 3, 32, stride)
    shapes = []
    first_block = network.features[1] if name.startswith("convnext") else network.layer1
    first_block.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[-1]))
    logits = network(torch.randn(4, 1, 32, 32))
    assert logits.shape == (4, 3)
    assert shapes == [32 // stride]
    logits.square().sum().backward()
    for label, parameter in network.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.isfinite().all(), label
        assert parameter.grad.any(), label


@pytest.mark.parametrize("name", ["resnet18_quarter", "resnet50", "convnext_tiny"])
def test_folded_batch_norms_answer_alike(name):
    torch.manual_seed(0)
    network, images = build_backbone(name, 3, 32), torch.randn(16, 1, 32, 32)
    network(images)  # batch norms learn the statistics
    with torch.inference_mode():
        expected = network.eval()(images)
        fold_batch_norms(network)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())


@pytest.mark.parametrize(
    ("side", "stride"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (4, 2), (8, 2)]
)
def test_a_product_of_matrices_trains_as_the_convolution_it_replaces(side, stride):
    plain = torch.nn.Conv2d(8, 12, 3, stride=stride, padding=1, bias=False)
    fast = copy.deepcopy(plain)
    fast.__class__ = SmallMapConv2d
    images = torch.randn(5, 8, side, side, requires_grad=True)
    again = images.detach().clone().requires_grad_()
    out, same = plain(images), fast(again)
    torch.testing.assert_close(same, out, rtol=1e-4, atol=1e-5)
    (out.sin().sum() + same.sin().sum()).backward()
    torch.testing.assert_close(again.grad, images.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(16, 1), (32, 1), (48, 2), (64, 2), (112, 4)])
def test_auto_stem_fits_the_image_size(size, stride):
    assert auto_stem_stride(size) == stride
    kernel = build_backbone("resnet18", 3, size).conv1.weight.shape[-1]
    assert kernel == (7 if stride == 4 else 3)


def test_a_stem_that_a_backbone_does_not_have_is_refused():
    with pytest.raises(SettingsError, match="stride 1"):
        build_backbone("convnext_tiny", 3, 32, 1)
    assert build_backbone("convnext_tiny", 3, 32).features[0][0].stride == (2, 2)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("resnet18", ".safetensors"), ("resnet18", ".pt"), ("convnext_tiny", ".pt")],
)
def test_pretrained_answers_a_grey_image_as_the_original_does(tmp_path, name, suffix):
    original = torchvision.models.get_model(name, weights=None).eval()
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(original.state_dict(), path)
    network = build_backbone(name, 3, 64, 4, wide_stem=True).eval()
    load_pretrained(network, path)
    grey = torch.randn(2, 1, 64, 64)

    def pooled(model, images):
        seen = []
        handle = model.avgpool.register_forward_hook(lambda *args: seen.append(args[-1]))
        model(images)
        handle.remove()
        return seen[0]

    with torch.no_grad():
        expected = pooled(original, grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(pooled(network, grey), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_pretrained_resnet_stem_is_kept_at_every_stride(tmp_path, stride):
    path = tmp_path / "weights.safetensors"
    original = torchvision.models.resnet18(weights=None).state_dict()
    save_file(original, path)
    network = build_backbone("resnet18", 3, 64, stride, wide_stem=True)
    load_pretrained(network, path)
    torch.testing.assert_close(network.conv1.weight, original["conv1.weight"].sum(1, keepdim=True))


def test_settings_refuse_what_cannot_be_trained():
    good = configured.classifier().model_dump()
    with pytest.raises(SettingsError, match="resnet19"):
        ClassifierSettings.parse(good | {"backbone": "resnet19"}, "classifier")
    with pytest.raises(SettingsError, match="multiple of validate_every"):
        ClassifierSettings.parse(good | {"steps": 10, "validate_every": 4}, "classifier")
    with pytest.raises(SettingsError, match=r"classifier\.stem_stride"):
        ClassifierSettings.parse(good | {"stem_stride": 3}, "classifier")
