"""``task=predict``: classify a run of one's own and print the counts of each class."""

import time
from typing import Any

from svp_lightning.config import run_identity
from svp_lightning.data.importers.summary import too_large, window_table
from svp_lightning.data.settings import VolumeSettings
from svp_lightning.evaluation.particle_counts import samples_of
from svp_lightning.evaluation.predictions import PREDICTIONS, write_predictions
from svp_lightning.evaluation.quality_table import with_blank
from svp_lightning.evaluation.reference import judge
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.count_notes import (
    known_errors,
    notes,
    shares_counted_at,
    what_is_promised,
)
from svp_lightning.report.counts import count_table, each_sample, readable, write_counts
from svp_lightning.report.gallery import write_suspects
from svp_lightning.runtime.files import sha256_of_file, sha256_of_json, write_json
from svp_lightning.runtime.terminal import print_table, say
from svp_lightning.stages.preparation import (
    Preparation,
    changes,
    differences,
    prepared_as_trained,
    trained_image_size,
    trained_preparation,
    unlabelled,
)
from svp_lightning.stages.real_store import build_store
from svp_lightning.stages.run_folder import CONFIG, copy, evaluated_run, weights_of


def run(pipeline: Pipeline) -> None:
    """Write predictions, how the images were prepared, and counts at ``predict.prevalence``."""
    config, folder = pipeline.config, pipeline.run_dir
    run = evaluated_run(config.predict.run)
    if config.predict.run is None:
        say(f"predict.run is not given: the released classifier {run.name} is used.")
    trained = trained_preparation(run)
    given = unlabelled(config.data, trained_image_size(run, trained))
    data = prepared_as_trained(given, trained)
    for line in changes(given, data):
        say(line)
    store = build_store(data, config.paths.own, pipeline.cache)
    # Imported when needed: torch takes seconds, and a mistake in the images should not wait for it.
    from svp_lightning.evaluation.calibration import for_new_images
    from svp_lightning.stages.environment import device_name
    from svp_lightning.stages.lab_report import lab_report
    from svp_lightning.stages.predictor import load_predictor, predict_all

    predictor = load_predictor(run)
    stated: tuple[Any, ...] = ()
    if isinstance(data, VolumeSettings):
        stated = (data.volume_ml, data.dilution, data.pixel_size_um)
    samples = with_blank(samples_of(store, *stated), config.predict.blank)
    found = Preparation.of(data, store)
    record: dict[str, Any] = {
        "trained_on": trained and trained.model_dump(),
        "predicted": found.model_dump(),
        "classifier": sha256_of_file(weights_of(run)),
        "data": store.sha256,
        "configuration": sha256_of_json(run_identity(config)),
        "blank": config.predict.blank,
    }
    doubts = differences(run, trained, found)
    doubts += too_large(window_table(store.particles), store.image_size, "train with ")
    for line in doubts:
        say(line)
    start, known, settings = time.monotonic(), predictor.results, config.predict
    how_to = config.evaluation.batch_size, pipeline.device
    raw, strangeness = predict_all(predictor.seen, store, *how_to)
    took, device = time.monotonic() - start, device_name(pipeline.device)
    speed = f"{len(store) / took:,.0f} images/s ({device})"
    say(f"Classified {len(store):,} images in {took:.1f} s, {speed}.")
    write_predictions(folder / PREDICTIONS, raw)
    how = "given" if data.prevalence else config.predict.prevalence
    predicted = for_new_images(raw, how, data.prevalence, known)
    record["prevalence"] = dict(predicted.shares)
    promised = predictor.reference, settings.coverage, settings.false_alarms
    judged = judge(raw, predicted, strangeness, *promised)
    counts = count_table(judged, store, samples)
    write_json(folder / "preparation.json", record)
    if (run / CONFIG).is_file():
        copy(run / CONFIG, folder / f"classifier_{CONFIG}")
    write_counts(folder, store, judged, counts)
    write_suspects(folder / "suspects.html", store, judged)
    print_table(readable(store, counts, samples))
    if len(samples) > 1:
        print_table(each_sample(store, counts, samples))
    lines = notes(store, counts, samples) + shares_counted_at(predicted.shares, how, len(store))
    lines += [*what_is_promised(*promised, len(store)), *known_errors(known)]
    say("\n".join(lines))
    lab_report(folder, run, store, samples, raw, judged, known, settings, doubts, record)
    say(f"Predictions: {folder}")
