"""Sentences that say what a quality report shows, and what makes its numbers doubtful."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from svp_lightning.data.classes import PROTEIN
from svp_lightning.evaluation.corrected_counts import Confusion
from svp_lightning.evaluation.particle_counts import (
    ALL,
    ALL_SIZES,
    UNFAMILIAR,
    Sample,
    without_blank,
)
from svp_lightning.evaluation.quality_table import DIFFERENCE, NET, SINGLE, Calls
from svp_lightning.report.quality_pictures import Contents, between, shown_definition
from svp_lightning.report.text import listing, plain_name

MAX_HEADLINES = 4


def headline(contents: Contents) -> list[str]:
    """What the runs hold, a sentence or two for each of the first ones; blanks are left out."""
    runs = without_blank(own_first(contents)[:MAX_HEADLINES])
    return [sentence for one in runs for sentence in _headline(contents, one)]


def own_first(contents: Contents) -> list[Sample]:
    """The runs whose images the store holds, then those of an earlier prediction."""
    return sorted(contents.calls.samples, key=lambda one: one.earlier)


def _headline(contents: Contents, sample: Sample) -> list[str]:
    """What a run holds, in a sentence or two."""
    calls, lines = contents.calls, contents.lines
    least = calls.thresholds_um[0] if calls.thresholds_um else ALL_SIZES
    known = not sample.withheld
    column, unit = ("per_ml", "per mL") if known else ("corrected", "")
    name = PROTEIN if PROTEIN in calls.class_names else ALL
    quantity = NET if (NET, sample.name, least, name) in lines else SINGLE
    row = cell(lines[quantity, sample.name, least, name], column)
    less = lines[quantity, sample.name, least, name]["other"]
    others = [plain_name(one) for one in calls.class_names if one != name]
    removed = f", with {listing(others)} removed" if name == PROTEIN and others else ""
    sizes = f"of {between(least, math.inf)}"
    if least != ALL_SIZES:
        sizes = f"{between(least, math.inf)} by {shown_definition(contents.store)}"
    what = "particles" if name == ALL else f"{plain_name(name)} particles"
    corrected = calls.corrector.confusion is not None
    interval = "95 %" if corrected else "not corrected, 95 % of counting alone"
    sentences = [
        f"{sample.name}: {row['shown']} {what} {unit} {sizes} ({interval}: {row['ends']})"
        f"{removed}{f', less {less}' * bool(less)}.".replace("  ", " ")
    ]
    found = contents.reference
    if known and found is not None and contents.container_ml:
        parts = []
        for size in (s for s in found.per_ml if s in calls.thresholds_um):
            per = "per_container" if found.per_container else "per_ml"
            row = cell(lines[SINGLE, sample.name, size, ALL], per)
            parts.append(
                f"{row['shown']} {between(size, math.inf)} ({row['ends']}; reference "
                f"{limit(contents, size)})"
            )
        if parts:
            unit = f"a container of {contents.container_ml:g} mL" * bool(found.per_container)
            unit = f"{unit or 'a mL'}{', the blank not subtracted' * (quantity == NET)}"
            sentences.append(f"All particles in {unit}: {listing(parts)}.")
    kinds = contents.particles["class"][contents.particles["sample"] == sample.name]
    if (strange := int((kinds == UNFAMILIAR).sum())) > len(kinds) / 2:
        sentences.append(
            f"Do not report its classes: {strange:,} of its {len(kinds):,} particles are unlike "
            "every class, so this classifier does not fit these images."
        )
    return sentences


def doubts(contents: Contents) -> list[str]:
    """A sentence each, from the table of numbers and the test images."""
    calls, lines = contents.calls, []
    confusion = calls.corrector.confusion
    if confusion is None:
        lines.append(
            "The classifier's test predictions are not there, so nothing is corrected: the "
            "intervals hold counting statistics alone."
        )
    else:
        lines += _never_recognised(calls, confusion)
    net = contents.of(NET)
    if len(below := net[(net["per_ml_high"] == 0) & (net["class"] == ALL)]):
        names = sorted(below["sample"].unique())
        lines.append(f"The blank holds more particles than {listing(names)} at some size.")
    compared = contents.of(DIFFERENCE)
    runs = {*compared["sample"], *compared["other"]}
    gross = sorted(runs - set(contents.blanks))
    if 0 < len(gross) < len(runs):
        lines.append(
            f"No blank is subtracted from {listing(gross)}, but one from the other runs: a "
            "difference between one of these and one of those is not called more or fewer."
        )
    return lines


def _never_recognised(calls: Calls, confusion: Confusion) -> list[str]:
    """A sentence for each class and size of which the test images show no number of particles."""
    held = calls.called.sum(axis=(0, 2)) > 0
    edges, lines = [0.0, *calls.thresholds_um, math.inf], []
    for k, name in enumerate(calls.class_names):
        missed = np.flatnonzero(held & (confusion.images[:, k, k] == 0))
        for at in missed:
            size = f" {between(edges[at - 1], edges[at])}" if at and calls.thresholds_um else ""
            lines.append(
                f"None of the {confusion.images[at, k].sum()} test images of {plain_name(name)}"
                f"{size} is recognised: how many of these particles there are is not known."
            )
    return lines


def number(value: float) -> str:
    """A count or a concentration: three digits below 100, none after the point above."""
    if math.isnan(value):
        return "–"
    words = f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"
    return words.replace("-", "−", 1) if value < 0 else words


def cell(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    """What a page shows of a number: itself, in words, and its interval."""
    value, low, high = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    ends = "" if math.isnan(value) else f"{number(low)} to {number(high)}"
    return {"value": value, "shown": number(value), "ends": ends, "verdict": ""}


def limit(contents: Contents, least: float) -> str:
    """The reference for particles from a size on; empty where there is none."""
    found = contents.reference
    if found is None or least not in found.per_ml:
        return ""
    if least in found.per_container:
        return f"{number(found.per_container[least])} per container"
    return f"{number(found.per_ml[least])} per mL"
