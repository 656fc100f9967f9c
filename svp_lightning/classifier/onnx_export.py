"""A classifier as ``model.onnx``, for programs without torch; compared with PyTorch when written.

Input ``image``: (B, 1, H, W) uint8 grey levels, any B. Output ``probability``: (B, K) float32,
which answers for the class shares of the training. The file's metadata hold the classes'
names (``class_names``) and these shares (``trained_shares``) as JSON.

An export that looks well may compute something else, so the file is run by onnxruntime on real
images before it gets its name.
"""

import json
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from svp_lightning.classifier.network import Classifier
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import CheckpointError, SettingsError
from svp_lightning.runtime.files import replacing

TOLERANCE = 1e-4
"""Largest difference of a probability."""
BATCHES = (1, 3, 32)
"""Images at a time: an export may hold for the batch of its making alone."""
OPSET = 18
INPUT, OUTPUT = "image", "probability"

Images = NDArray[np.uint8]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class OnnxCheck:
    """What was found when an export was checked.

    Attributes:
        images: that were compared.
        difference: the largest one of a probability.
        per_second: images a second by onnxruntime, one thread.
        torch_per_second: by PyTorch, one thread.
    """

    images: int
    difference: float
    per_second: float
    torch_per_second: float

    def __str__(self) -> str:
        return (
            f"model.onnx: {self.images} validation images, probabilities within "
            f"{self.difference:.1g} of PyTorch's; {self.per_second:,.0f} images/s on one thread "
            f"(PyTorch {self.torch_per_second:,.0f})."
        )


class GreyLevels(nn.Module):
    """(B, 1, H, W) uint8 grey levels -> (B, K) probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        probability: Tensor = self.network(to_model_range(image)).float().softmax(dim=1)
        return probability


def available() -> bool:
    """Whether the packages of the extra ``onnx`` are installed."""
    from importlib.util import find_spec

    return all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))


def write_onnx(path: Path, module: Classifier, images: Images) -> OnnxCheck:
    """Write ``path``, if it says of real images (n, H, W) of all classes what PyTorch says.

    The ``module`` is in evaluation mode, on the CPU.

    Raises:
        SettingsError: the extra ``onnx`` is not installed.
        CheckpointError: the export differs by more than :data:`TOLERANCE`; no file is left.
    """
    if not available():
        raise SettingsError(
            "model.onnx needs packages that are not installed.",
            "Install them (pip install 'svp-lightning[onnx]'), or set export.onnx=false.",
        )
    import onnx

    whole = GreyLevels(module.network).eval()
    model = onnx_model(whole, torch.from_numpy(images[:2, None].copy()))
    meaning = {"class_names": list(module.class_names), "trained_shares": module.trained_shares}
    onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in meaning.items()})
    with replacing(path) as temporary:
        onnx.save_model(model, temporary)
        return _checked(temporary, whole, images)


def onnx_model(whole: nn.Module, example: Tensor) -> Any:
    """The ONNX model of a network, for any number of images."""
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)  # a line for each node that is simplified
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages about one another
            program: Any = torch.onnx.export(
                whole,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        logging.disable(disabled)
    return program.model_proto


def _checked(file: Path, whole: nn.Module, images: Images) -> OnnxCheck:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    given = images[:, None]

    def by_onnx(batch: Images) -> Scores:
        return np.asarray(session.run([OUTPUT], {INPUT: batch})[0])

    def by_torch(batch: Images) -> Scores:
        with torch.inference_mode():
            return np.asarray(whole(torch.from_numpy(batch.copy())))

    wanted = in_batches(by_torch, given, BATCHES[-1])
    apart = [np.abs(in_batches(by_onnx, given, size) - wanted).max() for size in BATCHES]
    difference = float(max(apart))
    if not difference <= TOLERANCE:  # or no number
        raise CheckpointError(
            f"The ONNX export differs from PyTorch by {difference:.2g} in a probability of "
            f"{len(images)} images (at most {TOLERANCE:g} is accepted); nothing was written.",
            "Set export.onnx=false, or try other versions of torch and onnxscript.",
        )
    return OnnxCheck(len(images), difference, _speed(by_onnx, given), _speed(by_torch, given))


def in_batches(scores: Callable[[Images], Scores], images: Images, size: int) -> Scores:
    """(n, K) scores, found for ``size`` images at a time."""
    parts = [scores(images[start : start + size]) for start in range(0, len(images), size)]
    return np.concatenate(parts)


def _speed(scores: Callable[[Images], Scores], images: Images) -> float:
    """Images a second on one thread, in batches of the largest size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.perf_counter()
        in_batches(scores, images, BATCHES[-1])
        return len(images) / (time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
