"""The quality report of a predicted run, from the particles to the page."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from svp_lightning import __version__
from svp_lightning.data.importers.window import SIZE_EDGES_UM
from svp_lightning.data.store import Store
from svp_lightning.errors import SettingsError
from svp_lightning.evaluation.particle_counts import (
    ALL,
    ALL_SIZES,
    UNCERTAIN,
    UNFAMILIAR,
    Sample,
    particles_of,
)
from svp_lightning.evaluation.predictions import PREDICTIONS, Predictions, read_predictions
from svp_lightning.evaluation.quality_table import calls_of, quality_table, reference
from svp_lightning.evaluation.reference import Judged
from svp_lightning.evaluation.schema import Results
from svp_lightning.report.count_notes import doubtful_sizes, too_many_strangers
from svp_lightning.report.counts import UNKNOWN_DEFINITION, size_definition
from svp_lightning.report.quality import write_quality_report
from svp_lightning.report.quality_findings import headline
from svp_lightning.report.quality_pictures import Contents
from svp_lightning.report.run_findings import shares_of_classes
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.environment import git_revision, package_versions
from svp_lightning.stages.preparation import trained_preparation
from svp_lightning.stages.settings import LabReportSettings

AREA_BASED = "ECD", "ABD", "equivalent circular"
"""How definitions begin that are one diameter: that of the circle of a particle's area."""
SIMULATED_SIZE = "equivalent circular diameter"
"""Of test images where results say no more than that they are simulated."""


def lab_report(
    folder: Path,
    run: Path,
    store: Store,
    samples: Sequence[Sample],
    raw: Predictions,
    judged: Judged,
    known: Results | None,
    settings: LabReportSettings,
    warnings: Sequence[str],
    hashes: Mapping[str, Any],
) -> None:
    """Write ``quality_report.html`` and ``quality_report.csv``, and print what they say first.

    Args:
        folder: of the report.
        run: folder of the classifier, whose test predictions say what it takes for what.
        store: N particles.
        samples: what the particles were imaged in.
        raw: N particles, as the classifier gives them.
        judged: what is said of them, at the class shares that are used.
        known: results of the classifier.
        settings: what to show.
        warnings: a sentence each.
        hashes: SHA-256 of the ``classifier`` and the ``configuration``.

    Raises:
        SettingsError: ``predict.compare`` names no prediction, or one of another classifier or by
            another diameter.
    """
    limits = reference(settings.product, settings.container_ml)
    particles = particles_of(store, judged)
    thresholds: tuple[float, ...] = ()
    if particles.empty or particles["size_um"].notna().any():
        further = set(limits.per_ml if limits else ()) - set(SIZE_EDGES_UM)
        thresholds = tuple(sorted({*SIZE_EDGES_UM, *further}))
    definition = size_definition(store)
    test, tested_by, unlike = _test_predictions(run, known, definition if thresholds else "")
    if settings.compare is not None:
        taken = {one.name for one in samples}
        diameter = definition if thresholds else ""
        earlier, theirs, said = _earlier(settings.compare, hashes["classifier"], diameter, taken)
        samples = [*earlier, *samples]  # others are compared with the first one
        particles = pd.concat([particles, theirs], ignore_index=True)
        both = np.concatenate([raw.probabilities, said.probabilities])
        raw = replace(raw, probabilities=both)
    calls = calls_of(samples, particles, thresholds, raw, test, judged.found.shares, known)
    table = quality_table(calls, settings.container_ml)
    strange = [*unlike, *too_many_strangers(judged, settings.false_alarms)]
    strange += doubtful_sizes(store, particles, thresholds)
    doubts, facts = [*warnings, *strange], _facts(run, store, judged, settings, hashes)
    facts["Sizes of the classifier's test images"] = tested_by or "not recorded"
    contents = Contents(
        store, particles, calls, table, limits, settings.container_ml, doubts, facts
    )
    page = write_quality_report(folder, contents)
    for line in [*strange, *headline(contents), f"Quality report: {page}"]:
        say(line)


def _test_predictions(
    run: Path, known: Results | None, definition: str
) -> tuple[Predictions | None, str, list[str]]:
    """What says how often the classifier errs, by size where that is of use.

    ``definition`` is the diameter of the particles; empty: no size is known.

    Returns:
        Its test predictions, without sizes where these are another diameter; which one they are
        (empty: not recorded); and a warning if it is another one.
    """
    file, trained = run / PREDICTIONS, trained_preparation(run)
    test = read_predictions(file, with_ids=False) if file.is_file() else None
    simulated = trained is not None and trained.source == "simulated"
    own = (known and known.size_definition) or SIMULATED_SIZE * simulated
    kinds = {
        AREA_BASED[0] if one.startswith(AREA_BASED) else one.split()[0]
        for one in {own, definition} - {"", UNKNOWN_DEFINITION}
    }
    if test is None or test.size_um is None or len(kinds) < 2:
        return test, own, []
    warning = (
        f"Warning: particles are sized by {definition}, the classifier's test images by {own}: "
        "mistakes are taken to be as frequent at every size, and counts of one size alone are less "
        "sure than their intervals say."
    )
    return replace(test, size_um=None), own, [warning]


def _facts(
    run: Path, store: Store, judged: Judged, settings: LabReportSettings, hashes: Mapping[str, Any]
) -> dict[str, str]:
    """What the report was made with."""
    return {
        "Classifier": run.name,
        "Classifier (SHA-256)": hashes["classifier"],
        "Configuration (SHA-256)": hashes["configuration"],
        "Images (SHA-256)": store.sha256,
        "Compared with": str(settings.compare or "nothing earlier"),
        "Class shares used": shares_of_classes(judged.found.shares) if len(store) else "no image",
        "Uncertain": f"prediction sets hold {settings.coverage:.1%} of each class, at least",
        "Unfamiliar": f"{judged.unfamiliar.sum():,} of {len(store):,} particles; up to "
        f"{settings.false_alarms:.1%} of each class by mistake",
        "Program": f"svp_lightning {__version__}",
        "Source revision": git_revision() or "not in a checkout",
        "Packages": ", ".join(f"{name} {of}" for name, of in package_versions().items()),
    }


def _earlier(
    folder: Path, classifier: str, diameter: str, taken: Collection[str]
) -> tuple[Sequence[Sample], pd.DataFrame, Predictions]:
    """What an earlier ``task=predict`` has left: its runs, particles and probabilities.

    Runs named as one that is ``taken`` get the folder's name.

    Raises:
        SettingsError: it holds no prediction, or one of another classifier (SHA-256), or of sizes
            that are another ``diameter`` (empty: there are none).
    """
    where = f"predict.compare={folder}"
    try:
        record = json.loads((folder / "preparation.json").read_text(encoding="utf-8"))
        as_text = {"run": str, "group": str}  # a run may be named 7, or NA
        table = pd.read_csv(folder / "predictions.csv", converters=as_text)
        counts = pd.read_csv(folder / "counts.csv", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{where} is no prediction ({error}).", "Name a folder of task=predict."
        ) from error
    if record.get("classifier") != classifier:
        raise SettingsError(
            f"{where} was made by another classifier.", "Predict both with one classifier."
        )
    theirs = str(counts["size_definition"].iloc[0])
    if theirs and diameter and theirs != diameter:
        raise SettingsError(
            f"{where} counts particles by {theirs}, these are counted by {diameter}.",
            "Predict both with one diameter.",
        )
    kind = str(counts.columns[0])
    rows = counts[(counts["class"] == ALL) & (counts["min_size_um"].astype(float) == ALL_SIZES)]
    rows = rows[: max(len(rows) - 1, 1)]  # the last one is of all runs
    names = {name: f"{folder.name}: {name}" if name in taken else name for name in rows[kind]}
    samples = [
        Sample(
            names[row[kind]],
            float(row["volume_ml"]) if row["volume_ml"] != "" else None,
            float(row["dilution"]) if row["dilution"] != "" else None,
            row["withheld"],
            blank=row[kind] == record.get("blank"),
            earlier=True,
        )
        for row in rows.to_dict("records")
    ]
    kinds = np.where(table["uncertain"], UNCERTAIN, table["predicted"].to_numpy(object))
    particles = pd.DataFrame(
        {
            "sample": table[kind].map(names) if kind in table else samples[0].name,
            "size_um": table.get("size_um", np.nan),
            "class": np.where(table["unfamiliar"], UNFAMILIAR, kinds),
        }
    )
    return samples, particles, read_predictions(folder / PREDICTIONS, with_ids=False)
