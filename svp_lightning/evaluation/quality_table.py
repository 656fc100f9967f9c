"""Concentrations of a quality report: of each run, without a blank, and of runs compared.

Every number is of particles of at least a size, per mL of the original sample where the volume is
known, and has a 95 % interval that includes the classifier's mistakes (:mod:`~.corrected_counts`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from svp_lightning.errors import SettingsError
from svp_lightning.evaluation.calibration import calibrated
from svp_lightning.evaluation.corrected_counts import (
    Confusion,
    Corrector,
    Counts,
    Values,
    at_least,
    count_by_bin,
    size_bins,
)
from svp_lightning.evaluation.particle_counts import (
    ALL,
    ALL_SIZES,
    UNCERTAIN,
    Sample,
    counted_name,
)
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.repetitions import ALPHA, holm
from svp_lightning.evaluation.schema import Results

LEAST_SHARE = 0.01
"""Images are called at shares of at least this: a class that is never called cannot be ruled out.
Among 20,000 particles with 20 of a rare class, its corrected count is known best at 0.3 to 1 %."""
SINGLE, NET, DIFFERENCE = "single", "less blank", "difference"
MAX_COMPARED = 50
"""Runs compared with the first one; more are no question that a person asks."""
UNSIZED = 0.01
"""Share of particles of unknown size above which a run's differences at a size have no verdict."""
KEYS = ("quantity", "sample", "min_size_um", "class")
NUMBERS, ENDS = ("corrected", "per_ml", "per_container"), ("", "_low", "_high")

Product = Literal["injection", "ophthalmic"]


@dataclass(frozen=True)
class Reference:
    """Limits of a pharmacopoeia, for the average container, all particles together.

    Attributes:
        chapter: where they are from.
        per_container: least size, µm -> particles; empty where the limits are per mL.
        per_ml: least size, µm -> particles/mL.
    """

    chapter: str
    per_container: Mapping[float, float]
    per_ml: Mapping[float, float]


SMALL_VOLUME_ML = 100.0
"""Nominal volume up to which the limits of an injection are those of a container."""


def reference(product: Product, container_ml: float | None) -> Reference | None:
    """The limits of light obscuration for a container; None: its volume is not given.

    Flow imaging detects more particles than light obscuration, so the limits are a reference. The
    ``product`` is an injection (USP <787>, <788>) or ophthalmic (USP <789>); ``container_ml`` is
    its nominal volume, mL.
    """
    if product == "ophthalmic":
        return Reference("USP <789>", {}, {10.0: 50.0, 25.0: 5.0})
    if container_ml is None:
        return None
    if container_ml > SMALL_VOLUME_ML:
        return Reference("USP <787>/<788>", {}, {10.0: 25.0, 25.0: 3.0})
    most = {10.0: 6000.0, 25.0: 600.0}
    per_ml = {least: limit / container_ml for least, limit in most.items()}
    return Reference("USP <787>/<788>", most, per_ml)


@dataclass(frozen=True)
class Calls:
    """Particles as the correction counts them, by run.

    Attributes:
        samples: S runs.
        thresholds_um: E ascending sizes; none where no size is known.
        class_names: K names, none of them that of a further row.
        called: (S, B, K) particles, B = E + 2 (see :func:`~.corrected_counts.size_bins`).
        uncertain: (S, B) those of them that are uncertain.
        corrector: of their counts.
    """

    samples: Sequence[Sample]
    thresholds_um: Sequence[float]
    class_names: Sequence[str]
    called: Counts
    uncertain: Counts
    corrector: Corrector


def call(raw: Predictions, shares: Mapping[str, float], known: Results | None) -> NDArray[np.intp]:
    """(N,) class that each image is counted as for the correction, before it is corrected.

    The likeliest at ``shares``, each at least :data:`LEAST_SHARE`. Any rule serves that treats the
    test images alike; this one makes few mistakes.
    """
    use = {name: max(share, LEAST_SHARE) for name, share in shares.items()}
    return np.asarray(calibrated(raw, known).at(use).probabilities.argmax(axis=1))


def calls_of(
    samples: Sequence[Sample],
    particles: pd.DataFrame,
    thresholds_um: Sequence[float],
    raw: Predictions,
    test: Predictions | None,
    shares: Mapping[str, float],
    known: Results | None,
) -> Calls:
    """Count the particles of each run, and measure the classifier's mistakes on its test images.

    Args:
        samples: S runs, each name once.
        particles: N rows: ``sample``, ``size_um`` (NaN where unknown), ``class``.
        thresholds_um: sizes counted from.
        raw: N particles, as the classifier gives them.
        test: its labelled test images; None: no correction is possible.
        shares: class name -> share of the run that ``raw`` is called at.
        known: results of the classifier, with its calibration.
    """
    K, bins = len(raw.class_names), size_bins(particles["size_um"].to_numpy(float), thresholds_um)
    called, num_bins = call(raw, shares, known), len(thresholds_um) + 2
    of = pd.Index([one.name for one in samples]).get_indexer(pd.Index(particles["sample"]))
    place, unsure = of * num_bins + bins, (particles["class"] == UNCERTAIN).to_numpy()
    shape = len(samples), num_bins
    confusion = None
    if test is not None:
        test = test.labelled()
        sizes = np.full(len(test.labels), np.nan) if test.size_um is None else test.size_um
        confusion = Confusion.measured(
            test.labels, call(test, shares, known), size_bins(sizes, thresholds_um), num_bins, K
        )
    return Calls(
        samples,
        thresholds_um,
        tuple(map(counted_name, raw.class_names)),
        count_by_bin(place, called, len(samples) * num_bins, K).reshape(*shape, K),
        np.bincount(place[unsure], minlength=len(samples) * num_bins).reshape(shape),
        Corrector(confusion),
    )


def quality_table(calls: Calls, container_ml: float | None = None) -> pd.DataFrame:
    """All numbers of a report of S runs, a row each.

    A blank is subtracted from each other run of its prediction, also where runs are compared;
    ``container_ml`` is the nominal volume of a container, mL.

    Returns:
        ``quantity`` (:data:`SINGLE`, :data:`NET` or :data:`DIFFERENCE`), ``sample``,
        ``min_size_um``, ``class`` (K names, then :data:`ALL`, :data:`UNCERTAIN`), ``other`` (the
        run subtracted); of single runs ``called`` (particles before the correction) and
        ``corrected`` with ``corrected_low`` and ``corrected_high``; ``per_ml`` and
        ``per_container`` with their ends, NaN where withheld or not known; ``verdict`` on each
        difference (:func:`_verdicts`) of runs that both have a blank or none, at a size where
        both are sized but for :data:`UNSIZED`. Uncertain particles are also in the classes.
    """
    samples = calls.samples
    measured = [at for at, one in enumerate(samples) if not one.blank and not one.withheld]
    parts = [_rows(calls, at, None, SINGLE) for at in range(len(samples))]
    blanks = {at: _blank_of(samples, at) for at in measured}
    parts += [_rows(calls, at, of, NET) for at, of in blanks.items() if of is not None]
    parts += [_rows(calls, at, measured[0], DIFFERENCE) for at in measured[1:MAX_COMPARED]]
    table = pd.concat(parts, ignore_index=True)
    for end in ENDS:
        table[f"per_container{end}"] = table[f"per_ml{end}"] * (container_ml or np.nan)
    table["verdict"] = ""
    alike = [at for at in measured if (blanks[at] is None) == (blanks[measured[0]] is None)]
    differences = table["sample"].isin([samples[at].name for at in alike])
    differences &= table["quantity"] == DIFFERENCE
    of_run = calls.called.sum(axis=(1, 2))
    unsized = calls.called[:, 0].sum(axis=1) > UNSIZED * of_run
    names = {one.name for one, lacks in zip(samples, unsized, strict=True) if lacks}
    lacking = table["sample"].isin(names) | table["other"].isin(names)
    differences &= ~(lacking & (table["min_size_um"] > 0))
    table.loc[differences, "verdict"] = _verdicts(table[differences])
    numbers = [f"{one}{end}" for one in NUMBERS for end in ENDS]
    return table[[*KEYS, "other", "called", *numbers, "verdict"]]


def _verdicts(differences: pd.DataFrame) -> NDArray[np.str_]:
    """``more`` or ``fewer`` where a difference is clear of 0, else nothing.

    The chance that any verdict is wrong is 5 %, whatever the number of sizes, classes and runs
    (Holm). The interval's end on the side of 0 is taken to be 1.96 standard errors away; where what
    is possible has drawn it nearer, half of the interval is.
    """
    value, low, high = (differences[f"per_ml{end}"].to_numpy() for end in ENDS)
    room = np.maximum(np.where(value > 0, value - low, high - value), (high - low) / 2)
    errors = np.abs(value) / np.maximum(room, np.finfo(float).tiny) * ndtri(1 - ALPHA / 2)
    clear = (np.array(holm(2 * ndtr(-errors))) <= ALPHA) & ((low > 0) | (high < 0))
    return np.where(clear, np.where(value > 0, "more", "fewer"), "")


def with_blank(samples: Sequence[Sample], blank: str | None) -> list[Sample]:
    """The samples, with the one named ``blank`` marked, if any is named.

    Raises:
        SettingsError: it is none of the samples, or its concentration is not known.
    """
    names = [one.name for one in samples if not one.withheld]
    if blank is not None and blank not in names:
        why = next((f": {one.withheld}" for one in samples if one.name == blank), "")
        raise SettingsError(
            f"predict.blank={blank} is no run with a concentration{why}.",
            f"Runs with one are: {', '.join(names) or 'none; data.volume_ml gives the volumes'}.",
        )
    return [replace(one, blank=one.name == blank) for one in samples]


def _blank_of(samples: Sequence[Sample], at: int) -> int | None:
    """The blank of the prediction that a run is of, if it has one."""
    own = (k for k, one in enumerate(samples) if one.blank and one.earlier == samples[at].earlier)
    return next(own, None)


def _rows(calls: Calls, at: int, other: int | None, quantity: str) -> pd.DataFrame:
    """One quantity of one run, at every size and of every class."""
    sample = calls.samples[at]
    names = [*calls.class_names, ALL, UNCERTAIN]
    kept = [0, *range(2, len(calls.thresholds_um) + 2)]
    frame = pd.DataFrame(
        {
            "quantity": quantity,
            "sample": sample.name,
            "other": "" if other is None else calls.samples[other].name,
            "min_size_um": np.repeat([ALL_SIZES, *calls.thresholds_um], len(names)),
            "class": names * len(kept),
        }
    )
    if other is None:
        called = np.concatenate(
            [calls.called[at], _total(calls.called[at]), calls.uncertain[at][:, None]], axis=1
        )
        frame["called"] = at_least(called)[kept].ravel()
        values = _estimates(calls, [(at, 1.0)])
        for end, value in zip(ENDS, values, strict=True):
            frame[f"corrected{end}"] = value[kept].ravel()
            frame[f"per_ml{end}"] = frame[f"corrected{end}"] * sample.per_particle
        return frame
    factors = [(at, sample.per_particle), (other, -calls.samples[other].per_particle)]
    blanks = [_blank_of(calls.samples, run) for run in (at, other)]
    if quantity == DIFFERENCE and blanks[0] != blanks[1]:  # one of both runs cancels
        subtracted = [
            (of, sign) for of, sign in zip(blanks, (-1, 1), strict=True) if of is not None
        ]
        factors += [(of, sign * calls.samples[of].per_particle) for of, sign in subtracted]
    for end, value in zip(ENDS, _estimates(calls, factors), strict=True):
        cut = np.maximum(value, 0) if quantity == NET else value
        frame[f"per_ml{end}"] = cut[kept].ravel()
    return frame


def _estimates(calls: Calls, factors: Sequence[tuple[int, float]]) -> tuple[Values, Values, Values]:
    """Value, lower and upper end (B, K + 2) of the sum of factor × run."""
    counts = [
        (calls.called, calls.corrector),
        (_total(calls.called), Corrector(None)),
        (calls.uncertain[..., None], Corrector(None)),
    ]
    values, lows, highs = [], [], []
    for of_runs, corrector in counts:
        terms = [(of_runs[at], factor) for at, factor in factors]
        value = np.sum([f * corrector.estimate(n) for n, f in terms], axis=0)
        low, high = corrector.interval(terms)
        values.append(value)
        lows.append(np.minimum(low, value))
        highs.append(np.maximum(high, value))
    found = [np.concatenate(part, axis=-1) for part in (values, lows, highs)]
    return found[0], found[1], found[2]


def _total(counts: Counts) -> Counts:
    return np.asarray(counts.sum(axis=-1, keepdims=True))
