"""Sentences that say what the numbers of one run mean, and no more than they show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Confused:
    """What would be counted among :data:`PARTICLES` particles at a prevalence.

    Attributes:
        given: the true class; predicted: the class it is counted as.
        errors, images: test images so confused, and test images of the true class.
        expected, low, high: particles so counted, with a 95 % interval.
    """

    given: str
    predicted: str
    errors: int
    images: int
    expected: float
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
        cells = zip(
            names, errors.tolist(), (particles * errors / images).tolist(),
            (particles * low).tolist(), (particles * high).tolist(), strict=True,
        )  # fmt: skip
        rows.append(
            [Confused(given, name, n, int(images), *expected) for name, n, *expected in cells]
        )
    return rows


def headline(results: Results, predictions: Predictions | None) -> list[str]:
    """What a reader should take away from one run: a few sentences, one on each rare class.

    Rare is here what is rare in use, which need not be what had few training images.
    """
    common = max(results.class_names, key=lambda name: results.prevalence[name])
    rare = [name for name in results.class_names if name != common]
    sentences = [_recall_sentence(results, rare)]
    if predictions is not None:
        rows = {row[0].given: row for row in expected_counts(results, predictions)}
        for name in rare:
            wrong = next(one for one in rows[common] if one.predicted == name)
            right = next(one for one in rows[name] if one.predicted == name)
            sentences.append(_false_count(wrong, right, results))
    return [*sentences, _precision_sentence(results)]


def _recall_sentence(results: Results, rare: Sequence[str]) -> str:
    found = [
        f"{percent(results.metrics.per_class[name].recall)} of the {plain_name(name)} images"
        for name in rare
    ]
    return f"On unseen test images this classifier finds {listing(found)}."


def _false_count(wrong: Confused, right: Confused, results: Results) -> str:
    common, rare = plain_name(wrong.given), plain_name(wrong.predicted, several=True)
    mixture = "in use" if results.prevalence_stated else "in a mixture like the test images"
    real = f"about {expected_count(right.expected)} real {rare}"
    if wrong.errors == 0:
        return (
            f"None of the {wrong.images:,} {common} test images was counted as "
            f"{plain_name(wrong.predicted)}. That still allows up to {expected_count(wrong.high)} "
            f"in every {PARTICLES:,} particles {mixture} (95 % bound), with {real} counted."
        )
    return (
        f"Of every {PARTICLES:,} particles {mixture}, about {expected_count(wrong.expected)} "
        f"{common} particles (95 % interval {expected_count(wrong.low)} to "
        f"{expected_count(wrong.high)}) would be counted as {plain_name(wrong.predicted)}, with "
        f"{real}."
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
    named = [
        f"{plain_name(n)} ({results.counts.test[n]:,} test images, from {score(known[n].low)})"
        for n in unsure
    ]
    return (
        "Precision is 95 % or more for every class on these test images, which are too few to "
        f"say so in general: {listing(named)}."
    )


def shares_of_classes(shares: Mapping[str, float]) -> str:
    """``"99.8 % protein, 0.1 % silicone oil and 0.1 % air bubble"``."""
    return listing([f"{percent(share)} {plain_name(name)}" for name, share in shares.items()])


def prevalence_sentence(results: Results) -> str:
    """At which mixture of classes the numbers hold."""
    mixture = shares_of_classes(results.prevalence)
    weighted = (
        f"Test images are weighted to {mixture}."
        if results.prevalence_stated
        else f"They hold for the mixture of the test images: {mixture}."
    )
    return f"Precision and AUPRC depend on how common each class is. {weighted}"
