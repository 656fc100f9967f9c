"""Weights of another program as a folder: a packaged classifier, or tensors to start from."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from svp_lightning.classifier.backbones import build_backbone
from svp_lightning.classifier.foreign_weights import (
    COUNTERS,
    Mapped,
    has_wide_stem,
    map_weights,
    of_head,
    read_state_dict,
)
from svp_lightning.classifier.packaged import (
    CARD,
    WEIGHTS,
    Preprocessing,
    empty_module,
    write_packaged,
)
from svp_lightning.classifier.settings import Backbone
from svp_lightning.errors import CheckpointError, SettingsError
from svp_lightning.evaluation.priors import class_shares
from svp_lightning.report.model_card import write_classifier_card
from svp_lightning.runtime.files import replacing, sha256_of_file, write_json
from svp_lightning.stages.settings import ImportWeightsSettings

MAPPING = "mapping.json"
ORIGIN = (
    "The weights were trained by another program; `mapping.json` says which of the tensors of "
    "`{name}` (SHA-256 `{sha256}`) became which. What they were trained on is not known here."
)


def start_of(file: Path, backbone: Backbone, stem: str) -> Mapped:
    """The tensors of ``file`` for a backbone.

    Raises:
        CheckpointError: it cannot be read, or is of another network.
    """
    weights = read_state_dict(file)
    # Neither the stride nor the number of classes changes a tensor of the body.
    network = build_backbone(backbone, 2, 64, 2, has_wide_stem(weights))
    found = map_weights(weights, network, "mean" if stem == "mean" else "sum")
    found.require_body(file)
    return found


def write_start(folder: Path, found: Mapped) -> None:
    """Write the tensors without the head, for ``classifier.pretrained_weights``."""
    tensors = {k: v.contiguous() for k, v in found.tensors.items() if not of_head(k)}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    write_json(folder / MAPPING, found.report())


def write_imported(
    folder: Path, found: Mapped, file: Path, classes: tuple[str, ...], given: ImportWeightsSettings
) -> None:
    """Write the tensors of ``file`` as a packaged classifier of these ``classes``.

    Raises:
        CheckpointError: the file has no head, or one with another number of outputs.
        SettingsError: ``classes`` repeats a name, or ``trained_shares`` is of other classes.
    """
    last = next((v for k, v in found.tensors.items() if of_head(k) and v.ndim == 2), None)
    if last is None or len(last) != len(classes):
        has = "is not there" if last is None else f"has {len(last)} outputs"
        raise CheckpointError(
            f"import_weights.classes names {len(classes)} classes, but the last layer of {file} "
            f"{has}.",
            "Name the outputs in their order, or leave import_weights.classes=null and train.",
        )
    if len(set(classes)) < len(classes):
        raise SettingsError("import_weights.classes repeats a name.", "Name every output once.")
    shares = class_shares(given.trained_shares or dict.fromkeys(classes, 1.0), classes)
    wide = has_wide_stem(found.tensors)
    named = dict(zip(classes, shares.tolist(), strict=True))
    network = given.backbone, given.stem_stride, wide, given.image_size
    module = empty_module(*network, classes, named)
    # What nothing uses, and the bias of a last layer that has none.
    rest = {
        name: torch.zeros_like(value)
        for name, value in module.network.state_dict().items()
        if COUNTERS in name or (of_head(name) and name.endswith(".bias"))
    }
    module.network.load_state_dict(rest | found.tensors)
    write_json(folder / MAPPING, found.report())
    origin = ORIGIN.format(name=file.name, sha256=sha256_of_file(file))
    range_of_input = Preprocessing(scale=1 / (255 * given.std), offset=-given.mean / given.std)
    config = write_packaged(
        folder, module, name=file.stem, further=[MAPPING], preprocessing=range_of_input,
        training={"origin": origin},
    )  # fmt: skip
    write_classifier_card(folder / CARD, config.model_dump(mode="json"), None, None, "other")
