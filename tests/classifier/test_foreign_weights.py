"""Weights of torchvision and timm, under other names, give the functions they were."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from svp_lightning.classifier.backbones import build_backbone, load_pretrained
from svp_lightning.classifier.foreign_weights import map_weights, read_state_dict
from svp_lightning.errors import CheckpointError

RGB = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)


def own(backbone: str) -> nn.Module:
    return build_backbone(backbone, 4, 64, 4, wide_stem=True).eval()


def test_names_around_a_torchvision_resnet_do_not_matter() -> None:
    original = torchvision.models.resnet18(num_classes=4).eval()
    state = {f"module.encoder.{k}": v for k, v in original.state_dict().items()}
    state = {k.replace("encoder.fc", "last_linear"): v for k, v in state.items()}
    state["optimizer.exp_avg"] = torch.zeros(3)
    network = own("resnet18")
    found = map_weights(state, network)
    assert found.missing == ()
    assert found.head == "module.last_linear"
    assert list(found.skipped) == ["optimizer.exp_avg"]
    assert found.source["conv1.weight"] == "module.encoder.conv1.weight"
    network.load_state_dict(found.tensors)
    with torch.inference_mode():
        assert torch.allclose(network(RGB[:, :1]), original(RGB), atol=1e-4)


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 3), ("resnet18", 1),
                                                ("convnext_tiny", 3)])  # fmt: skip
def test_networks_of_timm_are_the_same_functions(name: str, channels: int) -> None:
    timm = pytest.importorskip("timm")
    original = timm.create_model(name, num_classes=4, in_chans=channels).eval()
    for value in original.parameters():
        if value.ndim == 1:  # layer scales of 1e-6 would hide the blocks
            nn.init.uniform_(value, 0.5, 1.0)
    network = own(name)
    found = map_weights(original.state_dict(), network)
    assert (found.missing, found.skipped, found.channels) == ((), {}, channels)
    network.load_state_dict(found.tensors)
    with torch.inference_mode():
        wanted = original(RGB[:, :channels])
        assert torch.allclose(network(RGB[:, :1]), wanted, rtol=1e-3, atol=1e-4)


def test_the_mean_of_a_stem_is_a_third_of_its_sum() -> None:
    state = torchvision.models.resnet18().state_dict()
    both = [map_weights(state, own("resnet18"), stem).tensors for stem in ("sum", "mean")]
    assert torch.allclose(both[0]["conv1.weight"], 3 * both[1]["conv1.weight"])


@pytest.mark.parametrize(
    ("theirs", "ours", "first"),
    [("resnet34", "resnet18", "layer1.2.co"), ("convnext_small", "convnext_tiny", "features.5.9")],
)
def test_weights_of_a_deeper_network_are_refused(
    tmp_path: Path, theirs: str, ours: str, first: str
) -> None:
    with torch.device("meta"):
        shapes = torchvision.models.get_model(theirs).state_dict()
    state = {f"module.{name}": torch.zeros(value.shape) for name, value in shapes.items()}
    torch.save(state, tmp_path / "deep.pth")
    with pytest.raises(CheckpointError, match=rf"does not fit .* not used, first module\.{first}"):
        load_pretrained(own(ours), tmp_path / "deep.pth")


def test_a_second_network_in_the_file_does_not_matter() -> None:
    state = torchvision.models.resnet18(num_classes=4).state_dict()
    state |= {f"teacher.{name}": value for name, value in state.items()}
    state["teacher.layer1.2.conv1.weight"] = torch.zeros(64, 64, 3, 3)
    map_weights(state, own("resnet18")).require_body(Path("pair.pth"))


def test_wrong_weights_are_named(tmp_path: Path) -> None:
    state: dict[str, Any] = torchvision.models.resnet50().state_dict()
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"a\.safetensors does not fit .* layer1\.0\.conv1"):
        load_pretrained(own("resnet18"), tmp_path / "a.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pth")
    assert read_state_dict(tmp_path / "a.pth").keys() == state.keys()
    state["conv1.weight"] = torch.zeros(64, 4, 7, 7)
    with pytest.raises(CheckpointError, match="no stem of 1 or 3 channels"):
        map_weights(state, own("resnet50"))
    torch.save(nn.Linear(1, 1), tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match=r"code\.pth cannot be read .* never run"):
        read_state_dict(tmp_path / "code.pth")
    (tmp_path / "cut.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"cut\.pth cannot be read as weights \(\w"):
        read_state_dict(tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"gone\.pth cannot be read"):
        read_state_dict(tmp_path / "gone.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        read_state_dict(tmp_path / "empty.pth")
