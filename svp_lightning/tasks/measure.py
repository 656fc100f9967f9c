"""What the stored answers of a classifier say: every part of ``results.json`` that is measured."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.classifier.validation import Collected
from svp_lightning.config import Config
from svp_lightning.data.store import Store
from svp_lightning.evaluation.calibration import apply_temperature, calibration, fit_temperature
from svp_lightning.evaluation.intervals import confidence_intervals
from svp_lightning.evaluation.predictions import Predictions, write_predictions
from svp_lightning.evaluation.prevalence import prevalence_weights
from svp_lightning.evaluation.resamples import write_resamples
from svp_lightning.evaluation.slices import recall_slices
from svp_lightning.evaluation.statistics import metric_names, resampled_metrics
from svp_lightning.evaluation.tally import prevalence_table, tally_arrays
from svp_lightning.evaluation.thresholds import LabelledPredictions, working_points
from svp_lightning.runtime.artifacts import Clock, cost_of
from svp_lightning.runtime.files import replacing, sha256_of_json

PREDICTIONS, VALIDATION = "predictions.parquet", "val_predictions.parquet"
RESAMPLES, PREVALENCE = "bootstrap.parquet", "prevalence.csv"
DRAW_SEED = 0
"""The same for every run, so that all runs on one test set are redrawn alike."""


def measured_parts(
    store: Store,
    validated: Collected,
    tested: Collected,
    prevalence: Mapping[str, float],
) -> dict[str, Any]:
    """The parts of schema 2 that follow from predictions alone."""
    names = store.class_names
    weights = [prevalence_weights(part.label, prevalence, names) for part in (validated, tested)]
    temperature = fit_temperature(validated.label, validated.probability, weights[0])
    scaled = apply_temperature(tested.probability, temperature)
    return {
        "working_points": working_points(
            LabelledPredictions(validated.label, validated.probability),
            LabelledPredictions(tested.label, tested.probability),
            dict(prevalence),
            names,
        ),
        "calibration": {
            "temperature": temperature,
            "as_is": calibration(tested.label, tested.probability, names, weights[1]),
            "scaled": calibration(tested.label, scaled, names, weights[1]),
        },
        "slices": recall_slices(
            tested.label,
            tested.probability.argmax(axis=1),
            store.particles.iloc[tested.index],
            names,
        ),
    }


def redraw(
    config: Config, store: Store, tested: Collected, prevalence: Mapping[str, float]
) -> tuple[NDArray[np.float64], str]:
    """(R, M) metrics of redrawn test sets, and what decides the draws."""
    rows = store.particles.iloc[tested.index]
    by_group = config.evaluation.resample == "groups"
    values = resampled_metrics(
        tested.label,
        tested.probability,
        store.class_names,
        prevalence_weights(tested.label, prevalence, store.class_names),
        groups=pd.factorize(rows["group"])[0] if by_group else None,
        resamples=config.evaluation.bootstrap_resamples,
        seed=DRAW_SEED,
    )
    # Not the data's hash: results of before would no longer pair with those of today. Which data
    # it is stands in results.json, where the judge looks.
    images = pd.util.hash_pandas_object(rows[["id", "label"]], index=False).to_numpy()
    draw = {
        "test": hashlib.sha256(images.astype("<u8").tobytes()).hexdigest(),
        "prevalence": dict(prevalence),
        "resample": config.evaluation.resample,
        "seed": DRAW_SEED,
    }
    return values, sha256_of_json(draw)


def intervals(
    store: Store, tested: Collected, redrawn: NDArray[np.float64], prevalence: Mapping[str, float]
) -> dict[str, Any]:
    """The ``ci95`` part."""
    K = len(store.class_names)
    flat = tested.label * K + tested.probability.argmax(axis=1)
    confusion = np.bincount(flat, minlength=K * K).reshape(K, K)
    return confidence_intervals(redrawn, confusion, store.class_names, prevalence)


def write_tables(
    config: Config,
    run_dir: Path,
    store: Store,
    validated: Collected,
    tested: Collected,
    redrawn: tuple[NDArray[np.float64], str],
) -> None:
    """Write both splits' predictions, the redrawn metrics, and metrics by prevalence."""
    names = store.class_names
    for file, part in ((PREDICTIONS, tested), (VALIDATION, validated)):
        ids = store.particles["id"].to_numpy(dtype=object)[part.index]
        write_predictions(run_dir / file, Predictions(ids, part.label, part.probability, names))
    write_resamples(run_dir / RESAMPLES, redrawn[0], metric_names(names), redrawn[1])
    table = prevalence_table(
        tally_arrays(tested.label, tested.probability, names),
        commonest(store.counts("train"), config.data.prevalence),
        config.evaluation.prevalence_ratios,
    )
    write_prevalence(run_dir, table)


def commonest(train: Mapping[str, int], stated: Mapping[str, float] | None = None) -> str:
    """The class whose share ``prevalence.csv`` varies: the one most common in use.

    Args:
        train: class name -> training images, which decide where nothing is stated.
        stated: class name -> prevalence, as ``data.prevalence`` gives it.
    """
    return max(train, key=lambda name: ((stated or {}).get(name, 0.0), train[name]))


def write_prevalence(run_dir: Path, table: pd.DataFrame) -> None:
    """Write ``prevalence.csv``, whole or not at all."""
    with replacing(run_dir / PREVALENCE) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def costs(stages: Mapping[str, Path | Clock | None]) -> dict[str, dict[str, Any]]:
    """The ``costs`` part: what each stage took, from its artifact's record or its clock.

    Args:
        stages: stage -> folder of its artifact, the clock of work done now, or None for a
            stage this run does without. Artifacts made before costs were recorded are
            passed over.
    """
    found: dict[str, dict[str, Any]] = {}
    for stage, source in stages.items():
        if isinstance(source, Clock):
            found[stage] = dict(source.read())
        elif source is not None:
            cost = cost_of(source)
            if cost is not None:
                found[stage] = cost | {"artifact": source.name}
    return found
