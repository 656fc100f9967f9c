"""What a reader of a quality report has to know before using its numbers."""

import math

import numpy as np

from svp_lightning.evaluation.corrected_counts import Confusion
from svp_lightning.evaluation.particle_counts import ALL
from svp_lightning.evaluation.quality_table import DIFFERENCE, NET, Calls
from svp_lightning.report.quality_pictures import Contents, between
from svp_lightning.report.text import listing, plain_name


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
