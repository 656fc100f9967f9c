"""What a reader of the counts has to know: how they were made, and what they leave out."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from svp_lightning.data.classes import display_name
from svp_lightning.data.importers.summary import IngestSummary, cut_by_frame
from svp_lightning.data.store import Store
from svp_lightning.evaluation.intervals import wilson_interval
from svp_lightning.evaluation.particle_counts import UNKNOWN_VOLUME, Sample, all_samples, kind_of
from svp_lightning.evaluation.reference import Judged, Reference, guaranteed
from svp_lightning.evaluation.schema import Results
from svp_lightning.report.counts import UNKNOWN_DEFINITION, size_definition, sized
from svp_lightning.report.run_findings import shares_of_classes

MAX_RUNS_NAMED = 10


def what_is_promised(
    reference: Reference | None, coverage: float, false_alarms: float, particles: int
) -> list[str]:
    """What ``uncertain`` and ``unfamiliar`` mean, and how far validation images vouch for it.

    ``coverage`` is that of each class by the prediction sets, ``false_alarms`` the share of each
    class among the unfamiliar; ``particles`` were judged.
    """
    if reference is None:
        return ["The classifier has no reference: nothing is called uncertain or unfamiliar."]
    lines = [
        "Uncertain: the prediction set holds more than one class. Of each class, sets hold "
        f"{100 * coverage:.3g} % at least.",
        "Unfamiliar: unlike the validation images of every class. Of each class, at most "
        f"{100 * false_alarms:.3g} % are flagged by mistake, here {particles * false_alarms:,.0f}.",
    ]
    few = "Warning: {} validation images of {} are too few for "
    for name, images in reference.too_few(1 - coverage).items():
        lines.append(
            f"{few.format(images, display_name(name))}a coverage of {100 * coverage:.3g} %: "
            f"its sets hold {100 * guaranteed(images):.1f} % at least."
        )
    for name, images in reference.too_few(false_alarms).items():
        lines.append(
            f"{few.format(images, display_name(name))}{100 * false_alarms:.3g} % of false alarms: "
            f"up to {100 - 100 * guaranteed(images):.1f} % of it may be flagged by mistake."
        )
    return lines


def too_many_strangers(judged: Judged, false_alarms: float) -> list[str]:
    """A warning where clearly more particles are unfamiliar than would be by mistake."""
    strange, particles = int(judged.unfamiliar.sum()), len(judged.unfamiliar)
    low, _ = wilson_interval(np.array(strange), np.array(max(particles, 1)))
    if low <= false_alarms:
        return []
    return [
        f"Warning: {strange:,} of {particles:,} particles ({strange / particles:.1%}) are unlike "
        f"every class, and more may be of none: only part of them is found. Look at suspects.html."
    ]


def doubtful_sizes(
    store: Store, particles: pd.DataFrame, thresholds_um: Sequence[float]
) -> list[str]:
    """A warning where counts at a size miss particles: of unknown size, or cut by the frame.

    Args:
        store: N particles.
        particles: N rows, and those of earlier runs: ``sample``, ``size_um`` (NaN where unknown).
        thresholds_um: sizes that are counted at.
    """
    unknown, lines = particles["size_um"].isna(), []
    if thresholds_um and unknown.any():
        of = unknown.groupby(particles["sample"]).agg(["sum", "size"])
        runs = [f"{n:,} of {all_of:,} in {run}" for run, n, all_of in of.itertuples() if n]
        lines.append(
            f"Warning: particles of unknown size ({_listed(runs)}) are counted under all sizes "
            "alone, so every count at a size may be too low by them."
        )
    if cut := cut_by_frame(store.particles):
        lines.append(
            f"Warning: the edge of the frame cuts {cut:,} of {len(store):,} particles "
            "(edge_of_frame in predictions.csv). They are counted, with a size that is too small."
        )
    return lines


def notes(store: Store, counts: pd.DataFrame, samples: Sequence[Sample]) -> list[str]:
    """What a reader of the counts has to know, a line each."""
    lines = [
        "95 %: exact Poisson intervals, rounded outwards; the classifier's mistakes and errors of "
        "volume and size are not in them."
    ]
    everything = counts[counts[kind_of(store)] == all_samples(store)]
    if everything["count"].max() == 0:
        high = everything["count_high"].iloc[0]
        lines.append(
            f"No particle was found: the 95 % interval of the expected count is 0 to {high:.2f}."
        )
    lines += _about_sizes(store)
    lines += _about_volumes(store, samples)
    left_out = [line for line in IngestSummary(store).lines() if line.startswith("Left out")]
    if left_out:
        lines += [*left_out, "All that was left out is listed in skipped.csv."]
    if len(samples) > 1:
        lines.append(
            f"counts.csv has all sizes and classes of each of the {len(samples)} {kind_of(store)}s."
        )
    return lines


def shares_counted_at(shares: Mapping[str, float], how: str, images: int) -> list[str]:
    """The line that says which class shares the likeliest class is found at, if there is any."""
    if not images:
        return []
    source = {
        "given": "data.prevalence",
        "estimated": "estimated from these images",
        "stated": "stated for the classifier's run",
        "trained": "those of the classifier's training",
    }[how]
    return [f"Counted at {shares_of_classes(shares)} ({source})."]


def known_errors(results: Results | None) -> list[str]:
    """How often a classifier errs on its own test images, where that is recorded."""
    if results is None:
        return []
    each = "; ".join(
        f"{display_name(name)} {found.recall:.0%} and {found.precision:.0%}"
        for name, found in results.metrics.per_class.items()
    )
    return [
        "Mistakes: on the classifier's own test images, at "
        f"{shares_of_classes(results.prevalence)}, recall and precision are {each}."
    ]


def _about_sizes(store: Store) -> list[str]:
    particles = store.particles
    if not sized(particles):
        return ["No sizes are known, so particles are counted together whatever their size."]
    definition = size_definition(store)
    shown = "as the source gives them" if definition == UNKNOWN_DEFINITION else definition
    return [f"Sizes: {shown}."]


def _about_volumes(store: Store, samples: Sequence[Sample]) -> list[str]:
    lines, reasons = [], dict[str, list[str]]()
    can_give = store.manifest.made_by.get("source") != "simulated"
    stated = [
        f"{one.name} {one.stated_ml:g} mL{f' (its files: {one.files_say})' * bool(one.files_say)}"
        for one in samples
        if one.stated_ml is not None
    ]
    if stated:
        lines.append(f"The volume imaged is stated (data.volume_ml): {_listed(stated)}.")
    diluted = [one for one in samples if one.dilution not in (None, 1) and not one.withheld]
    if diluted:
        factors = _listed(
            [
                f"{one.name} diluted {one.dilution:g} times{' (stated)' * one.dilution_stated}"
                for one in diluted
            ]
        )
        lines.append(f"{factors}: volumes and concentrations are those of the original sample.")
    for one in samples:
        reasons.setdefault(one.withheld, []).append(one.name)
    for reason, names in reasons.items():
        if reason:
            shown = "" if len(names) == len(samples) else f" of {_listed(names)}"
            remedy = (
                " (data.volume_ml=<mL> gives it)" if reason == UNKNOWN_VOLUME and can_give else ""
            )
            lines.append(f"No concentration{shown}: {reason}{remedy}.")
    return lines


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_RUNS_NAMED
    return ", ".join(names[:MAX_RUNS_NAMED]) + (f" and {more} more" if more > 0 else "")
