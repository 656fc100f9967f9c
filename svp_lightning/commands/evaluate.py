"""``task=evaluate``: one cell of a study, from data to report; builds what is missing upstream."""

import json
import time
from typing import Any

from svp_lightning.classifier.validation import BEST
from svp_lightning.data.classes import commonest
from svp_lightning.evaluation.schema import Results
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.run import run_report
from svp_lightning.runtime.clock import Clock
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import sha256_of_json, write_json
from svp_lightning.runtime.terminal import say
from svp_lightning.stages import measuring
from svp_lightning.stages import run_folder as kept
from svp_lightning.stages.assessment import attach_finished
from svp_lightning.stages.classifier_training import RECORD
from svp_lightning.stages.environment import git_revision, package_versions
from svp_lightning.stages.filtering import rejections
from svp_lightning.stages.preparation import PREPARATION, Preparation
from svp_lightning.stages.resuming import write_curves
from svp_lightning.stages.run_outputs import log_results, summary, write_figures


def run(pipeline: Pipeline) -> None:
    """Train what is missing, test it, and write results, predictions, figures and report."""
    start, trainers, folder = time.monotonic(), pipeline.trainers, pipeline.run_dir
    config, store, rows = pipeline.config, pipeline.store, pipeline.rows
    best, settings, clock = pipeline.classifier / BEST, config.evaluation, Clock()  # of the test
    (validated, tested), device = measuring.predict_splits(
        best, store, ("val", "test"), settings.batch_size, trainers
    )
    if not is_main_process():
        return
    tally = tested.found.at(use := pipeline.prevalence).tally()
    redrawn = measuring.redraw(settings, tested, tally, use)
    parts = measuring.measured_parts(settings, store, validated, tested, tally, use, redrawn[0])
    with kept.writing(folder):
        kept.copy(best, folder / kept.CLASSIFIER)
        measuring.store_reference(folder, best, store, settings, trainers.device)
        write_curves(pipeline.classifier, folder / kept.METRICS)
        sources: dict[str, Any] = pipeline.added_sources if rows.synthetic else {}
        sources |= {"microscopes": pipeline.pretraining_store, "pretraining": pipeline.pretrained}
        results = Results.model_validate(
            {
                **_facts(pipeline, device, round(time.monotonic() - start, 1)),
                **parts,
                "counts": measuring.image_counts(rows, tested),
                "costs": measuring.costs({**sources, "classifier": best.parent, "test": clock}),
            }
        )
        common = commonest(store.counts("train"), config.data.prevalence)
        measuring.write_tables(settings, folder, common, validated, tested, redrawn)
        write_figures(folder, rows, tested, use)
        if rows.synthetic and pipeline.generated:
            picture = pipeline.generator / kept.FIGURES / "noise_to_image.png"
            kept.copy(picture, folder / kept.FIGURES / picture.name)
            attach_finished(pipeline.cache, store, pipeline.generated, folder)
        write_json(folder / kept.RESULTS, results.model_dump(mode="json"))
        page = run_report(folder)
        log_results(trainers.loggers, results, folder / kept.FIGURES)
    say(summary(results, page))


def _facts(pipeline: Pipeline, device: str, seconds: float) -> dict[str, Any]:
    """What the run is and where its results come from: the parts that are not measured."""
    config, store, rows = pipeline.config, pipeline.store, pipeline.rows
    trained = json.loads((pipeline.classifier / RECORD).read_text(encoding="utf-8"))
    arm, pool, drawn = config.augmentation, rows.synthetic, pipeline.generated
    return {
        "experiment": config.name,
        "study": config.study,
        "scale": config.scale.name,
        "seed": config.seed,
        "backbone": config.classifier.backbone,
        "augmentation": {"method": arm.method, "ratio": arm.ratio, "parts": arm.parts},
        "prevalence": pipeline.prevalence,
        "prevalence_stated": config.prevalence_stated,
        "rare_classes": list(rows.rare),
        "rejected": rejections(drawn) if drawn else {},
        "validation_score": trained["validation_score"],
        "provenance": {
            "data": store.sha256,
            "generator": drawn.manifest.made_by["generator"] if drawn else None,
            "generator_seed": config.generator.seed if arm.needs_generator else None,
            "sampler_seed": config.sampler.seed if arm.needs_generator else None,
            "synthetic": pool.sha256 if pool else None,
            **config.data.model_dump(include={"rare_images", "rare_seed"}),
            PREPARATION: Preparation.of(config.data, store).model_dump(),
            "optimizer_steps": trained["optimizer_steps"],
            "training_images_drawn": trained["optimizer_steps"] * config.classifier.batch_size,
            "config": sha256_of_json(config.identity()),
            "git": git_revision(),
            "packages": package_versions(),
            "device": device,
            "wall_seconds": seconds,
        },
    }
