"""What finished outputs took and how large they are, on which device, to foresee others."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from svp_lightning.runtime.artifacts import ArtifactCache, cost_of, device_of
from svp_lightning.runtime.clock import CPU
from svp_lightning.runtime.files import sha256_of_json
from svp_lightning.stages.run_folder import RESULTS

STAGES = {
    "pool": "synthetic",
    "features": "classifier",
    "microscopes": "looks",
    "pretraining_store": "store",
    "pretrained": "classifier",
}
"""Part -> stage whose finished outputs say how long it takes, where the names differ."""
SIMULATED = ("store", "pretraining_store", "microscopes")
"""Parts that every machine makes on its processor."""
OTHER_GPU = "a GPU that cannot be seen from here"


@dataclass(frozen=True)
class PastOutput:
    """A finished output: where it was made, how long that took and what it holds.

    Attributes:
        like: what outputs of comparable speed share (a backbone, say).
        device: as :func:`.clock.device` names it; "" where no record says so.
        images: drawn, trained on or tested.
        seconds: of wall time.
        bytes: of all its files.
    """

    like: str | None
    device: str
    images: int
    seconds: float
    bytes: int

    def was_made_on(self, device: str) -> bool:
        """Whether it says how long ``device`` takes; any GPU does for one that cannot be seen."""
        on_a_gpu = bool(self.device) and not self.device.endswith(CPU)
        return self.device == device or (device == OTHER_GPU and on_a_gpu)


@cache  # the cells of a sweep share their folders
def past_outputs(part: str, artifacts: Path, outputs: Path) -> tuple[PastOutput, ...]:
    """The finished outputs of the kind of a part."""
    return tuple(_tested(outputs) if part == "test" else _made(STAGES.get(part, part), artifacts))


def _tested(outputs: Path) -> Iterator[PastOutput]:
    for file in sorted(outputs.glob(f"*/*/{RESULTS}")):
        with suppress(OSError, ValueError, KeyError):  # of a damaged run, or another version
            found = json.loads(file.read_text(encoding="utf-8"))
            images, cost = sum(found["counts"]["test"].values()), found["costs"]["test"]
            device = found["provenance"]["device"].partition(",")[0]  # of a CPU: its threads
            seconds, size = cost["wall_seconds"], _size(file.parent)
            yield PastOutput(found["backbone"], device, images, seconds, size)


def _made(stage: str, artifacts: Path) -> Iterator[PastOutput]:
    for folder, identity in ArtifactCache(artifacts).finished(stage):
        own, cost = identity.get(stage, {}), cost_of(folder)
        like = own.get("backbone") or ("network" in own and sha256_of_json(own["network"])) or None
        trained = own["steps"] * own["batch_size"] if "steps" in own else 0
        if (images := trained or _held(identity)) and cost is not None:
            device, seconds = device_of(folder), cost["wall_seconds"]
            yield PastOutput(like, device, images, seconds, _size(folder))


def _held(identity: Mapping[str, Any]) -> int:
    """Images of a store or pool, from the counts in its identity."""
    counts = identity.get("counts") or identity.get("simulation", {}).get("counts", {})
    return sum(sum(one.values()) if isinstance(one, dict) else one for one in counts.values())


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
