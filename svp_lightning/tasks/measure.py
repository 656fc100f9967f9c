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
from svp_lightning.evaluation.calibration import calibration_of, working_points
from svp_lightning.evaluation.predictions import (
    PREDICTIONS,
    RESAMPLES,
    Predictions,
    write_predictions,
    write_resamples,
)
from svp_lightning.evaluation.slices import recall_slices
from svp_lightning.evaluation.tally import Tally, metric_names, prevalence_table
from svp_lightning.runtime.artifacts import Clock, cost_of
from svp_lightning.runtime.files import replacing, sha256_of_json

VALIDATION, PREVALENCE = "val_predictions.parquet", "prevalence.csv"
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
    splits = (validated.label, validated.probability), (tested.label, tested.probability)
    return {
        "working_points": working_points(*splits, prevalence, names),
        "calibration": calibration_of(*splits, prevalence, names),
        "slices": recall_slices(
            tested.label,
            tested.probability.argmax(axis=1),
            store.particles.iloc[tested.index],
            names,
        ),
    }


def redraw(
    config: Config, store: Store, tested: Collected, tally: Tally, prevalence: Mapping[str, float]
) -> tuple[NDArray[np.float64], str]:
    """(R, M) metrics of redrawn test sets, and what decides the draws."""
    rows = store.particles.iloc[tested.index]
    by_group = config.evaluation.resample == "groups"
    values = tally.redrawn(
        prevalence,
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


def write_tables(
    config: Config,
    run_dir: Path,
    store: Store,
    validated: Collected,
    tested: Collected,
    tally: Tally,
    redrawn: tuple[NDArray[np.float64], str],
) -> None:
    """Write both splits' predictions, the redrawn metrics, and metrics by prevalence."""
    names = store.class_names
    for file, part in ((PREDICTIONS, tested), (VALIDATION, validated)):
        ids = store.particles["id"].to_numpy(dtype=object)[part.index]
        write_predictions(run_dir / file, Predictions(ids, part.label, part.probability, names))
    write_resamples(run_dir / RESAMPLES, redrawn[0], metric_names(names), redrawn[1])
    table = prevalence_table(
        tally,
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
