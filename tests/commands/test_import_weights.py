"""``task=import_weights`` and the example without torch, as users call them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from svp_lightning.classifier.backbones import build_backbone, load_pretrained
from svp_lightning.classifier.onnx_export import available, write_onnx
from svp_lightning.classifier.packaged import read_packaged
from tests.classifier.test_packaged import SHARES, classifier
from tests.conftest import Program

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
GREY = torch.randint(0, 256, (3, 1, 64, 64), generator=torch.Generator().manual_seed(0)).float()


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """A network for RGB, as it lies in ``theirs.pth``; backbones are as wide as they are."""
    monkeypatch.setattr("tests.conftest.use_narrow_backbones", lambda _patch: None)
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=3).eval()
    state = {f"net.{k.replace('fc.', 'head.')}": v for k, v in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    return network


GIVEN = ("task=import_weights", "import_weights.file=theirs.pth", "import_weights.to=mine")


def test_imported_classifier_is_the_function_it_was(
    svp: Program, tmp_path: Path, foreign: torch.nn.Module
) -> None:
    svp(*GIVEN, "import_weights.classes=[oil,air,protein]", "import_weights.image_size=64",
        "import_weights.mean=0.45", "import_weights.std=0.25",
        "import_weights.trained_shares={oil:1,air:1,protein:2}")  # fmt: skip
    config, module = read_packaged(tmp_path / "mine")
    assert config.trained_shares == {"oil": 0.25, "air": 0.25, "protein": 0.5}
    with torch.inference_mode():
        wanted = foreign(((GREY / 255 - 0.45) / 0.25).expand(-1, 3, -1, -1))
        assert torch.allclose(module(GREY / 127.5 - 1), wanted, rtol=1e-3, atol=1e-3)
    mapping = json.loads((tmp_path / "mine" / "mapping.json").read_text())
    assert mapping["head"] == "net.head"
    assert mapping["used"]["conv1.weight"] == "net.conv1.weight"
    assert "license: other" in (tmp_path / "mine" / "README.md").read_text()


def test_imported_body_starts_a_training(
    svp: Program, tmp_path: Path, foreign: torch.nn.Module
) -> None:
    svp(*GIVEN)
    assert "classifier.pretrained_weights=mine/model.safetensors" in svp.said()
    network = build_backbone("resnet18", 5, 64, wide_stem=True)
    load_pretrained(network, tmp_path / "mine" / "model.safetensors")
    assert torch.equal(network.layer4[0].conv1.weight, foreign.layer4[0].conv1.weight)
    why = svp.fails(*GIVEN[:2], "import_weights.to=four", "import_weights.classes=[a,b,c,d]")
    assert "names 4 classes, but the last layer of theirs.pth has 3 outputs" in why
    assert not (tmp_path / "four").exists()
    assert "import_weights.classes" in svp.fails(*GIVEN, "import_weights.classes=[oil]")
    assert "mean and std" in svp.fails(*GIVEN, "import_weights.std=0.25")


def test_a_last_layer_without_bias_stays_without(
    svp: Program, tmp_path: Path, foreign: torch.nn.Module
) -> None:
    saved = torch.load(tmp_path / "theirs.pth", weights_only=True)
    del saved["state_dict"]["net.head.bias"]
    torch.save(saved, tmp_path / "theirs.pth")
    svp(*GIVEN, "import_weights.classes=[oil,air,protein]")
    _, module = read_packaged(tmp_path / "mine")
    assert not module.network.fc.bias.any()
    assert torch.equal(module.network.fc.weight, foreign.fc.weight)


@pytest.mark.skipif(not available(), reason="the extra onnx is not installed")
def test_documented_example_needs_neither_torch_nor_this_package(tmp_path: Path) -> None:
    module = classifier()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32), np.uint8)
    (tmp_path / "my_classifier").mkdir()
    write_onnx(tmp_path / "my_classifier" / "model.onnx", module, images)
    crop = images[0].copy()
    crop[:8], crop[24:], crop[:, :8], crop[:, 24:] = (90,) * 4
    crop[8, 8:24] = crop[23, 8:24] = crop[8:24, 8] = crop[8:24, 23] = 90
    Image.fromarray(crop[8:24, 8:24]).save(tmp_path / "small.png")  # is filled up
    Image.fromarray(images[1]).save(tmp_path / "whole.png")
    (code,) = (b for b in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
               if "onnxruntime" in b)  # fmt: skip
    assert len(code.splitlines()) <= 25
    block = "import sys\nsys.modules['torch'] = sys.modules['svp_lightning'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + code, "small.png", "whole.png"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        given = torch.from_numpy(np.stack([crop, images[1]])[:, None]).float() / 127.5 - 1
        p = module.probabilities(given).numpy() / [SHARES[name] for name in module.class_names]
    p = p * [1000, 1, 1]
    p /= p.sum(axis=1, keepdims=True)
    for line, row in zip(done.stdout.splitlines(), p, strict=True):
        _, name, value = line.split()
        assert name == module.class_names[row.argmax()]
        assert float(value) == pytest.approx(row.max(), abs=2e-4)
