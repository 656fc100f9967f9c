"""Sentences that say what the numbers of one run mean, and no more than they show."""

from collections.abc import Sequence
from dataclasses import dataclass

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.proportions import wilson_interval
from svp_lightning.report.inputs import Estimate, RunResult
from svp_lightning.report.wording import expected_count, listing, percent, score, with_interval

PARTICLES = 100_000
"""The number of particles that expected counts are stated for."""
PRECISION_TARGET = 0.95


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


def expected_counts(run: RunResult, predictions: Predictions) -> list[list[Confused]]:
    """For each true class (row) and predicted class, what would be counted in use.

    The share of a class that is confused is measured on the test images; the number of
    particles of the class comes from the prevalence.
    """
    matrix = predictions.confusion()
    rows = []
    for i, given in enumerate(run.class_names):
        images = int(matrix[i].sum())
        particles = PARTICLES * run.prevalence[given]
        ends = wilson_interval(matrix[i], matrix[i].sum())
        row = []
        for j, predicted in enumerate(run.class_names):
            errors = int(matrix[i, j])
            low, high = (float(end[j]) for end in ends)
            expected = particles * errors / images if images else 0.0
            row.append(
                Confused(
                    given, predicted, errors, images, expected, particles * low, particles * high
                )
            )
        rows.append(row)
    return rows


def plain_name(class_name: str, *, several: bool = False) -> str:
    """``"silicone_oil"`` -> ``"silicone oil"``; with ``several``, ``"silicone oil particles"``."""
    name = display_name(class_name)
    name = name if name.isupper() else name.lower()
    return f"{name} particles" if several else name


def headline(run: RunResult, predictions: Predictions | None) -> list[str]:
    """What a reader should take away from one run: a few sentences, one on each rare class.

    Rare is here what is rare in use, which need not be what had few training images.
    """
    common = max(run.class_names, key=lambda name: run.prevalence[name])
    rare = [name for name in run.class_names if name != common]
    sentences = [_what_it_finds(run, rare)]
    if predictions is None:
        return [*sentences, *_precision_sentences(run)]
    rows = {row[0].given: row for row in expected_counts(run, predictions)}
    for name in rare:
        wrong = next(one for one in rows[common] if one.predicted == name)
        right = next(one for one in rows[name] if one.predicted == name)
        sentences.append(_false_count(wrong, right, run))
    return [*sentences, *_precision_sentences(run)]


def _what_it_finds(run: RunResult, rare: Sequence[str]) -> str:
    found = [
        f"{percent(value)} of the {plain_name(name)} images"
        for name in rare
        if (value := run.estimate(f"{name}/recall").value) is not None
    ]
    return f"On test images it never saw, this classifier finds {listing(found)}." if found else ""


def _false_count(wrong: Confused, right: Confused, run: RunResult) -> str:
    common, rare = plain_name(wrong.given), plain_name(wrong.predicted, several=True)
    mixture = "in use" if run.prevalence_is_given else "in a mixture like the test images"
    if wrong.errors == 0:
        return (
            f"None of the {wrong.images:,} {common} test images was counted as "
            f"{plain_name(wrong.predicted)}; with so many images that still allows up to "
            f"{expected_count(wrong.high)} in every {PARTICLES:,} particles {mixture} (95 % "
            f"bound), where about {expected_count(right.expected)} real {rare} would be counted."
        )
    return (
        f"Of every {PARTICLES:,} particles {mixture}, about {expected_count(wrong.expected)} "
        f"{common} particles (95 % interval {expected_count(wrong.low)} to "
        f"{expected_count(wrong.high)}) would be counted as {plain_name(wrong.predicted)}, "
        f"beside about {expected_count(right.expected)} real {rare}."
    )


def _precision_sentences(run: RunResult) -> list[str]:
    known = {
        name: run.estimate(f"{name}/precision")
        for name in run.class_names
        if run.estimate(f"{name}/precision").value is not None
    }
    vague = [n for n, e in known.items() if _is_point(e) and e.value == 1.0]
    below = [n for n, e in known.items() if e.value is not None and e.value < PRECISION_TARGET]
    if not known:
        return []
    if not below:
        unsure = [n for n, e in known.items() if e.low is not None and e.low < PRECISION_TARGET]
        unsure += vague
        if not unsure:
            return ["Precision is at least 95 % for every class, intervals included."]
        named = [
            f"{plain_name(n)} ({run.test[n]:,} test images, "
            + ("interval not known)" if n in vague else f"from {score(known[n].low)})")
            for n in unsure
        ]
        return [
            "On these test images precision is 95 % or more for every class, but they are too few "
            f"to say that it is in general: {listing(named)}."
        ]
    stated = [f"{plain_name(name)} ({with_interval(known[name])})" for name in below]
    return [f"Precision stays below 95 % for {listing(stated)}."]


def _is_point(estimate: Estimate) -> bool:
    """Whether an interval has collapsed: no mistake was seen, so none was ever redrawn."""
    return estimate.low is not None and estimate.low == estimate.high


def prevalence_sentence(run: RunResult) -> str:
    """At which mixture of classes the numbers hold."""
    mixture = listing(
        [f"{percent(share)} {plain_name(name)}" for name, share in run.prevalence.items()]
    )
    if run.prevalence_is_given:
        return (
            f"Precision and AUPRC depend on how common each class is. Here the test images are "
            f"weighted as if particles came as {mixture}."
        )
    return (
        f"Precision and AUPRC depend on how common each class is. They hold for a mixture like "
        f"that of the test images: {mixture}."
    )
