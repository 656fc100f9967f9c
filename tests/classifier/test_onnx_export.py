"""``model.onnx`` says what PyTorch says, or is not written."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svp_lightning.classifier import onnx_export
from svp_lightning.classifier.onnx_export import write_onnx
from svp_lightning.errors import CheckpointError
from tests.classifier.test_packaged import NAMES, SHARES, classifier

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32), np.uint8)


def test_another_program_reads_the_same_probabilities(tmp_path: Path, images: np.ndarray) -> None:
    module = classifier()
    checked = write_onnx(tmp_path / "model.onnx", module, images)
    assert checked.images == 40
    assert checked.difference < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"image": images[:7, None]})
    with torch.inference_mode():
        wanted = module.probabilities(torch.from_numpy(images[:7, None]).float() / 127.5 - 1)
    assert np.abs(found - wanted.numpy()).max() < 1e-5
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"]) == list(NAMES)
    assert json.loads(said["trained_shares"]) == SHARES


@pytest.mark.parametrize("factor", [1.1, float("nan")])
def test_an_export_that_computes_something_else_is_refused(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    right = onnx_export.onnx_model

    def wrong(whole: Any, example: torch.Tensor) -> Any:
        changed = copy.deepcopy(whole)
        changed.network.fc.weight.data *= factor
        return right(changed, example)

    monkeypatch.setattr(onnx_export, "onnx_model", wrong)
    with pytest.raises(CheckpointError, match="differs from PyTorch"):
        write_onnx(tmp_path / "model.onnx", classifier(), images)
    assert not list(tmp_path.iterdir())
