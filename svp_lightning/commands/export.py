"""``task=export``: a generator (as a diffusers pipeline) or a classifier, with its card."""

from pathlib import Path
from typing import TYPE_CHECKING

from svp_lightning.config import Config
from svp_lightning.generator.sampler_settings import SamplerSettings, require_learnt
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.model_card import Card, write_model_card
from svp_lightning.runtime.artifacts import cost_of
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import sha256_of_file
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.publishing import origin_of, refuse_existing, refuse_starts, writing_whole
from svp_lightning.stages.run_folder import CLASSIFIER, data_of, evaluated_run

if TYPE_CHECKING:
    from svp_lightning.generator.checkpoint import Generator

UNKNOWN = "The generator was exported from a folder; its file names the data by hash only."


def run(pipeline: Pipeline) -> Path | None:
    """Write the directory and say where it is and how to load it."""
    config = pipeline.config
    if config.export.to is not None:
        refuse_existing(config.export.to)
    if config.export.classifier is not None:
        return _classifier(pipeline, evaluated_run(config.export.classifier))
    refuse_starts(config.sampler.start_ratio)
    return _generator(pipeline, config.export.generator or pipeline.generator)


def _generator(pipeline: Pipeline, source: Path) -> Path | None:
    # Imported when needed: a classifier is exported without diffusers.
    from svp_lightning.generator.checkpoint import load_generator
    from svp_lightning.generator.diffusers_export import write_pipeline
    from svp_lightning.stages.generator_export import write_samples
    from svp_lightning.stages.generator_training import weights_hash

    config = pipeline.config
    if not is_main_process():
        return None
    generator, weights = load_generator(source), weights_hash(source)
    if config.export.generator is None:  # the data's may be another since the generator was trained
        generator = generator.with_pixels(pipeline.store.image_pixel_um)
    require_learnt(config.sampler, generator.info.settings)
    target = config.export.to or config.paths.outputs / config.study / f"generator_{weights[:12]}"
    # The defaults of the pipeline and the precision it computes in.
    sampler = config.sampler.model_copy(update={"precision": "float32", "compile": False})
    each, device = config.export.samples_per_class, pipeline.device
    with writing_whole(target) as folder:
        write_pipeline(folder, generator, sampler)
        write_samples(folder / "samples", generator, sampler, each, device, weights)
        write_model_card(folder / "README.md", _card(config, source, generator, sampler, weights))
    say(
        f"Pipeline: {target}\n"
        f"Load it:  DiffusionPipeline.from_pretrained({str(target)!r}, trust_remote_code=True)\n"
        f"About it: {target / 'README.md'}"
    )
    return target


def _classifier(pipeline: Pipeline, run: Path) -> Path | None:
    from svp_lightning.stages.classifier_export import export_classifier, images_to_check

    if not is_main_process():
        return None
    config = pipeline.config
    images = images_to_check(run, config.export.onnx, config.paths.own, pipeline.cache)
    origin, licence = origin_of(data_of(run))
    name = f"classifier_{sha256_of_file(run / CLASSIFIER)[:12]}"
    target = config.export.to or config.paths.outputs / config.study / name
    with writing_whole(target) as folder:
        checked = export_classifier(folder, run, images, config.export.licence or licence, origin)
    say(f"Classifier: {target}\nAbout it:   {target / 'README.md'}")
    if checked is not None:
        say(str(checked))
    return target


def _card(
    config: Config, source: Path, generator: "Generator", sampler: SamplerSettings, weights: str
) -> Card:
    from svp_lightning.stages.generator_export import fidelity_of

    foreign = config.export.generator is not None
    origin, licence = (UNKNOWN, "other") if foreign else origin_of(config.data)
    return Card(
        generator=generator.info.model_dump(mode="json"),
        sampler=sampler.model_dump(mode="json"),
        origin=origin,
        parameters=sum(p.numel() for p in generator.denoiser.parameters()),
        samples_per_class=config.export.samples_per_class,
        fidelity=fidelity_of(weights, sampler, config.export.fidelity, config.paths.own),
        licence=config.export.licence or licence,
        weights_sha256=weights,
        seconds=(cost_of(source) or {}).get("wall_seconds"),
    )
