"""Sentences that say what the numbers of one run mean, and no more than they show."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from svp_lightning.evaluation.counting import PRECISION_TARGET
from svp_lightning.evaluation.intervals import wilson_interval
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.schema import Results
from svp_lightning.report.text import (
    expected_count,
    listing,
    percent,
    plain_name,
    score,
    with_interval,
)

PARTICLES = 100_000
"""The number of particles that expected counts are stated for."""
FEW_PASSES = 10
"""Below so many passes over its images a classifier may lack training rather than images."""


class Confused(NamedTuple):
    """What would be counted among :data:`PARTICLES` particles at a prevalence."""

    given: str
    predicted: str
    errors: int
    """Test images of ``given`` that are counted as ``predicted``."""
    expected: float
    """Particles so counted, with a 95 % interval."""
    low: float
    high: float


def expected_counts(results: Results, predictions: Predictions) -> list[list[Confused]]:
    """For each true class (row) and predicted class, what would be counted in use.

    The share of a class that is confused is measured on the test images; the number of
    particles of the class comes from the prevalence.
    """
    rows, names = [], results.class_names
    for given, errors in zip(names, predictions.confusion(), strict=True):
        images, particles = errors.sum(), PARTICLES * results.prevalence[given]
        low, high = wilson_interval(errors, images)
        expected = np.transpose([particles * errors / images, particles * low, particles * high])
        cells = zip(names, errors.tolist(), expected.tolist(), strict=True)
        rows.append([Confused(given, name, n, *of_name) for name, n, of_name in cells])
    return rows


def headline(results: Results, predictions: Predictions | None) -> list[str]:
    """What a reader should take away from one run: a few sentences, one on each rare class.

    Rare is here what is rare in use, which need not be what had few training images.
    """
    common = max(results.class_names, key=lambda name: results.prevalence[name])
    rare = [name for name in results.class_names if name != common]
    recalls = {name: results.metrics.per_class[name].recall for name in rare}
    found = [f"{percent(recall)} of {plain_name(name)}" for name, recall in recalls.items()]
    sentences = [f"It finds {listing(found)} on test images."]
    if predictions is not None:
        rows = {row[0].given: row for row in expected_counts(results, predictions)}
        for name in rare:
            wrong = next(one for one in rows[common] if one.predicted == name)
            right = next(one for one in rows[name] if one.predicted == name)
            sentences.append(_false_count(wrong, right, results))
    return [*sentences, _precision_sentence(results)]


def _false_count(wrong: Confused, right: Confused, results: Results) -> str:
    common, rare = plain_name(wrong.given), plain_name(wrong.predicted)
    real = f"{expected_count(right.expected)} real ones"
    mixture = "in use" if results.prevalence_stated else "mixed like the test images"
    of_all = f"of {PARTICLES:,} particles {mixture}"
    if wrong.errors == 0:
        return (
            f"No {common} test image was counted as {rare}; up to {expected_count(wrong.high)} "
            f"{of_all} still may be (95 % bound), with {real}."
        )
    between = f"{expected_count(wrong.low)} to {expected_count(wrong.high)}"
    return (
        f"About {expected_count(wrong.expected)} ({between}) {common} particles {of_all} would be "
        f"counted as {rare}, with {real}."
    )


def _precision_sentence(results: Results) -> str:
    known = {name: results.estimate(f"{name}/precision") for name in results.class_names}
    below = [n for n, e in known.items() if (e.value or 0.0) < PRECISION_TARGET]
    if below:
        stated = [f"{plain_name(name)} ({with_interval(known[name])})" for name in below]
        return f"Precision is below 95 % for {listing(stated)}."
    unsure = [n for n, e in known.items() if (e.low or 0.0) < PRECISION_TARGET]
    if not unsure:
        return "Precision is at least 95 % for every class, intervals included."
    named = [f"{plain_name(n)} (from {score(known[n].low)})" for n in unsure]
    return f"Precision is at least 95 %, with too few test images to be sure of {listing(named)}."


def shares_of_classes(shares: Mapping[str, float]) -> str:
    """``"99.8 % protein, 0.1 % silicone oil and 0.1 % air bubble"``."""
    least = 1e-8
    few = {name: f"less than {percent(least)}" for name, p in shares.items() if 0 < p < least}
    return listing([f"{few.get(n) or percent(p)} {plain_name(n)}" for n, p in shares.items()])


def prevalence_sentence(results: Results) -> str:
    """At which mixture of classes the numbers hold."""
    how = "weighted to the stated prevalence" if results.prevalence_stated else "as they are"
    return f"Test images {how}: {shares_of_classes(results.prevalence)}."


def passes(results: Results) -> float | None:
    """How often each training image was drawn, on average; None where it is not known."""
    drawn, counts = results.provenance.training_images_drawn, results.counts
    images = sum(counts.train.values()) + sum(counts.synthetic.values())
    return drawn / images if drawn is not None and images else None


def brevity(results: Results) -> list[str]:
    """A sentence where the training was short."""
    seen = passes(results)
    if seen is None or seen >= FEW_PASSES:
        return []
    times = min(seen, FEW_PASSES - 0.1)
    return [
        f"Each training image was drawn {times:.2g} times. That is short: train longer "
        "(classifier.steps, or a larger scale) for results."
    ]
