"""``task=export``: the generator as a diffusers pipeline, with a model card and sample images."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svp_lightning.config import Config, SimulatedData
from svp_lightning.errors import ArtifactError, DataError
from svp_lightning.generator.checkpoint import Generator, load_generator
from svp_lightning.generator.release.write import write_pipeline
from svp_lightning.generator.settings import SamplerSettings, require_guidable
from svp_lightning.report.model_card import Card, write_model_card
from svp_lightning.runtime.artifacts import cost_of
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import explaining_write_errors
from svp_lightning.tasks.export_samples import write_samples
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.session import Session, say
from svp_lightning.tasks.train_generator import ensure_generator, weights_hash

FIDELITY = "fidelity.json"
SIMULATED = "Images of svp_lightning's physics-based simulator of flow-imaging microscopy."
OWN = "Images imported by the person who exported this model ({source})."
UNKNOWN = "The generator was exported from a folder; its file names the data by hash only."


def run(config: Config, session: Session) -> None:
    """Write the directory and say where it is and how to load it."""
    if config.export.to is not None:
        _refuse_existing(config.export.to)
    source = config.export.generator
    if source is None:
        source = ensure_generator(config, session, ensure_store(config, session))
    if not is_main_process():
        return
    generator, weights = load_generator(source), weights_hash(source)
    require_guidable(config.sampler, generator.info.settings.diffusion)
    target = config.export.to or config.paths.outputs / config.study / f"generator_{weights[:12]}"
    # The defaults of the pipeline and the precision it computes in.
    sampler = config.sampler.model_copy(update={"precision": "float32", "compile": False})
    with writing_whole(target) as folder:
        write_pipeline(folder, generator, sampler)
        write_samples(
            folder / "samples", generator, sampler, config.export.samples_per_class,
            config.trainer, weights,
        )  # fmt: skip
        write_model_card(folder / "README.md", _card(config, source, generator, sampler, weights))
    say(
        f"Pipeline: {target}\n"
        f"Load it:  DiffusionPipeline.from_pretrained({str(target)!r}, trust_remote_code=True)\n"
        f"About it: {target / 'README.md'}"
    )


@contextmanager
def writing_whole(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``target`` when the block succeeds, and vanishes otherwise.

    Raises:
        ArtifactError: ``target`` exists, or cannot be written.
    """
    _refuse_existing(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with explaining_write_errors(target):
            partial.mkdir(parents=True)
            yield partial
            _refuse_existing(target)  # another process may have been faster
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise ArtifactError(
            f"{target} exists already; an export overwrites nothing.",
            "Delete it, or choose another place with export.to=….",
        )


def _card(
    config: Config, source: Path, generator: Generator, sampler: SamplerSettings, weights: str
) -> Card:
    simulated = isinstance(config.data, SimulatedData)
    if config.export.generator is not None:
        origin, simulated = UNKNOWN, False
    else:
        origin = SIMULATED if simulated else OWN.format(source=config.data.source)
    return Card(
        generator=generator.info.model_dump(mode="json"),
        sampler=sampler.model_dump(mode="json"),
        origin=origin,
        parameters=sum(p.numel() for p in generator.denoiser.parameters()),
        samples_per_class=config.export.samples_per_class,
        fidelity=_fidelity(config, weights),
        licence=config.export.licence or ("apache-2.0" if simulated else "other"),
        weights_sha256=weights,
        seconds=(cost_of(source) or {}).get("wall_seconds"),
    )


def _fidelity(config: Config, weights: str) -> dict[str, Any] | None:
    """What ``task=assess`` has measured of these very weights, if it has.

    Raises:
        DataError: the given file cannot be read, or is about other weights.
    """
    given = config.export.fidelity
    if given is not None:
        return _read(given, weights)
    for folder in (config.paths.outputs, config.paths.artifacts):
        for path in sorted(folder.glob(f"**/{FIDELITY}")):
            if weights in path.read_text(encoding="utf-8", errors="replace"):
                return _read(path, weights)
    return None


def _read(path: Path, weights: str) -> dict[str, Any]:
    remedy = "Give the fidelity.json that task=assess wrote for this generator."
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(f"export.fidelity: {path} cannot be read: {error}.", remedy) from error
    if not isinstance(values, dict) or weights not in text:
        raise DataError(f"{path} is not about this generator ({weights[:12]}…).", remedy)
    return values
