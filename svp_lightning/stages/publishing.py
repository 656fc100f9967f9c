"""A directory that is published: whole or not there, and where its training images come from."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from svp_lightning.errors import ArtifactError, SettingsError
from svp_lightning.runtime.files import explaining_write_errors
from svp_lightning.stages.settings import DataSettings, SimulatedData

SIMULATED = "Images of svp_lightning's physics-based simulator of flow-imaging microscopy."
OWN = "Images imported by the person who exported this model ({source})."


def origin_of(data: DataSettings) -> tuple[str, str]:
    """Where training images come from, as a sentence, and the licence that follows."""
    if isinstance(data, SimulatedData):
        return SIMULATED, "apache-2.0"
    return OWN.format(source=data.source), "other"


@contextmanager
def writing_whole(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``target`` when the block succeeds, and vanishes otherwise.

    Raises:
        ArtifactError: ``target`` exists, or cannot be written.
    """
    refuse_existing(target)
    partial = target.with_name(f".{target.name}.{token_hex(4)}")
    try:
        with explaining_write_errors(target):
            partial.mkdir(parents=True)
            yield partial
            refuse_existing(target)  # another process may have been faster
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(target: Path) -> None:
    """Refuse to export over something.

    Raises:
        ArtifactError: ``target`` exists.
    """
    if target.exists():
        raise ArtifactError(
            f"{target} exists already; an export overwrites nothing.",
            "Delete it, or choose another place with export.to=….",
        )


def refuse_starts(start_ratio: float | None) -> None:
    """Refuse to export a sampler that starts from simulated images.

    Raises:
        SettingsError: ``start_ratio`` is given.
    """
    if start_ratio is not None:
        raise SettingsError(
            f"sampler.start_ratio={start_ratio:g} starts from simulated images, which an exported "
            "generator does not have.",
            "Set sampler.start_ratio=null.",
        )
