"""``task=predict``: classify a run of one's own and print the counts of each class."""

from typing import Any

from svp_lightning.data.importers.summary import too_large, window_table
from svp_lightning.data.settings import VolumeSettings
from svp_lightning.evaluation.particle_counts import samples_of
from svp_lightning.evaluation.predictions import PREDICTIONS, write_predictions
from svp_lightning.evaluation.quality_table import blank_among
from svp_lightning.evaluation.schema import RESULTS, read_results
from svp_lightning.pipeline import Pipeline, run_identity
from svp_lightning.report.counts import (
    count_table,
    each_sample,
    known_errors,
    notes,
    particle_table,
    readable,
    shares_counted_at,
    write_counts,
)
from svp_lightning.report.gallery import write_least_certain
from svp_lightning.runtime.files import sha256_of_file, sha256_of_json, write_json
from svp_lightning.runtime.terminal import print_table, say
from svp_lightning.stages.preparation import (
    Preparation,
    changes,
    differences,
    prepared_as_trained,
    trained_image_size,
    trained_preparation,
)
from svp_lightning.stages.real_store import build_store
from svp_lightning.stages.run_folder import CLASSIFIER, CONFIG, evaluated_run, link
from svp_lightning.stages.settings import DataSettings, SimulatedData


def run(pipeline: Pipeline) -> None:
    """Write the predictions, the counts and how the images were prepared; print the counts.

    Particles are counted at the class shares that ``predict.prevalence`` says.
    ``classifier_config.yaml`` is the configuration of the run whose classifier is used.
    """
    config, folder = pipeline.config, pipeline.run_dir
    run = evaluated_run(config.predict.run)
    trained = trained_preparation(run)
    given = _unlabelled(config.data, trained_image_size(run, trained))
    data = prepared_as_trained(given, trained)
    for line in changes(given, data):
        say(line)
    store = build_store(data, config.paths.own, pipeline.cache)
    # Imported when needed: torch takes seconds, and a mistake in the images should not wait for it.
    from svp_lightning.classifier.module import load_classifier
    from svp_lightning.evaluation.calibration import for_new_images
    from svp_lightning.stages.lab_report import lab_report
    from svp_lightning.stages.measuring import predict_all

    module = load_classifier(run / CLASSIFIER)
    samples = samples_of(store, data.volume_ml if isinstance(data, VolumeSettings) else None)
    blank_among(samples, config.predict.blank)  # before the images are classified
    found = Preparation.of(data, store)
    record: dict[str, Any] = {
        "trained_on": trained and trained.model_dump(),
        "predicted": found.model_dump(),
        "classifier": sha256_of_file(run / CLASSIFIER),
        "data": store.sha256,
    }
    window = too_large(window_table(store.particles), store.image_size, "train with ")
    doubts = [*differences(run, trained, found), *window]
    for line in doubts:
        say(line)
    batch, device = config.evaluation.batch_size, pipeline.trainers.device
    (raw, _), below = predict_all(module, store, batch, device), config.predict.uncertain_below
    write_predictions(folder / PREDICTIONS, raw)
    known = read_results(run / RESULTS) if (run / RESULTS).is_file() else None
    how = "given" if data.prevalence else config.predict.prevalence
    predicted = for_new_images(raw, how, data.prevalence, known)
    record["prevalence"] = dict(predicted.shares)
    counts = count_table(predicted, store, samples, below)
    write_json(folder / "preparation.json", record)
    if (run / CONFIG).is_file():
        link(run / CONFIG, folder / f"classifier_{CONFIG}")
    write_counts(folder, store, particle_table(predicted, store, below), counts)
    write_least_certain(folder / "least_certain.html", store, predicted)
    print_table(readable(store, counts, samples))
    if len(samples) > 1:
        print_table(each_sample(store, counts, samples))
    lines = [*notes(store, counts, samples, below), shares_counted_at(predicted.shares, how)]
    for line in [*lines, *known_errors(known)]:
        say(line)
    record["configuration"] = sha256_of_json(run_identity(config))
    lab_report(folder, run, store, samples, raw, predicted, known, config.predict, doubts, record)
    say(f"Predictions: {folder}")


def _unlabelled(data: DataSettings, image_size: int) -> DataSettings:
    """The same data, imported without labels at the size the classifier reads."""
    if isinstance(data, SimulatedData):
        return data
    return data.model_copy(update={"labelled": False, "image_size": image_size})
