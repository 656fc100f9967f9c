"""Sentences that say what the differences within a study mean, and no more than they show."""

from collections.abc import Sequence
from dataclasses import dataclass

from svp_lightning.evaluation.comparison import ALPHA, Difference, judge
from svp_lightning.report.arms import PRIMARY_METRIC, Group, control_of, remedies_of
from svp_lightning.report.text import (
    listing,
    lower_first,
    metric_name,
    p_value,
    plain_name,
    points,
    score,
)

MAX_NAMED = 4
"""So many cells are named in one sentence."""
AS_MANY = "the same number of duplicated real images, generated images"
ALL_CLASSES = "duplicates of the rare classes alone, generated images of all classes"
NO_IMAGES = (
    "remedies that need no generated images (weights, sampling, augmentation), generated images"
)
"""What is compared with what, where generated images are judged against other remedies."""
FEW_PASSES = 10
"""Below so many passes over its images a classifier may lack training rather than images."""


@dataclass(frozen=True)
class Comparison:
    """One treated cell against its control, or generated images against another remedy."""

    group: Group
    reference: Group
    differences: tuple[Difference, ...]

    @property
    def shows_nothing(self) -> bool:
        """Whether the primary metric was judged and is not seen to differ."""
        return self.differences[0].verdict == "no detectable difference"


def compare_cells(groups: Sequence[Group], metrics: Sequence[str]) -> list[Comparison]:
    """Each treated cell against nothing added; generated images against every other remedy."""
    pairs = []
    for group in groups:
        if group.cell.is_control:
            continue
        control = control_of(group, groups)
        references = [] if control is None else [control]
        if group.cell.is_generative:
            references += remedies_of(group, groups)
        pairs += [(group, reference) for reference in references]
    runs = [(group.runs, reference.runs) for group, reference in pairs]
    families = [reference.cell.method for _, reference in pairs]
    columns = [judge(runs, metric, families) for metric in metrics]
    return [
        Comparison(group, reference, tuple(column[at] for column in columns))
        for at, (group, reference) in enumerate(pairs)
    ]


def verdict_sentence(comparison: Comparison) -> str:
    """The primary metric of one comparison in words."""
    first = comparison.differences[0]
    name = comparison.group.cell.name
    against = reference_name(comparison)
    if first.value is None:
        return f"{name}: no run of {against} with the same seed and data to compare with."
    size = f"{points(first.value)} percentage points of {lower_first(metric_name(first.metric))}"
    if first.low is None or first.high is None:
        return f"{name}: {size} against {against}; too few test images to judge."
    between = f"(95 % interval {points(first.low)} to {points(first.high)}"
    between += ", one seed" if len(first.seeds) == 1 else f", {len(first.seeds)} seeds"
    between += f", {p_words(first)})" if first.p_adjusted is not None else ")"
    if first.verdict == "no detectable difference":
        words = f"{name}: no detectable difference from {against}: {size} {between}"
        apart = first.low > 0 or first.high < 0
        return (
            f"{words}; it would count alone, not among {first.compared}."
            if (apart and first.compared > 1)
            else f"{words}."
        )
    words = f"{name}: {first.verdict} than {against}, {size} {between}"
    if len(first.seeds) == 1:
        return f"{words}, in one training; another seed may differ."
    return f"{words}."


def reference_name(comparison: Comparison) -> str:
    """What a cell is compared with, in a sentence."""
    cell = comparison.reference.cell
    if cell.is_control:
        return "the control"
    if cell.method == "duplicate":
        if comparison.group.cell.adds_to_all_classes:
            return "duplicates of the rare classes alone"
        return "the same number of duplicates"
    return lower_first(cell.treatment)


def p_words(found: Difference) -> str:
    """``"p = 0.03 after correction for 8 comparisons"``."""
    p = found.p_adjusted if found.p_adjusted is not None else 1.0
    size = p_value(p)
    return (
        f"{size} after correction for {found.compared} comparisons" if found.compared > 1 else size
    )


def study_headline(groups: Sequence[Group], comparisons: Sequence[Comparison]) -> list[str]:
    """The answer of a study in a few sentences."""
    against_control = [c for c in comparisons if c.reference.cell.is_control]
    if not any(group.cell.is_control for group in groups):
        return ["This study has no control (nothing added), so no gain can be judged."]
    if all(group.cell.is_control for group in groups):
        return ["Only the control has results: there is nothing to compare it with."]
    answer = _answer(against_control) if against_control else []
    return [*answer, *_without_control(groups, against_control), *_remedies_sentences(comparisons)]


def _answer(against_control: Sequence[Comparison]) -> list[str]:
    """How many cells differ from the control, and the one that gains most."""
    verdicts = [c.differences[0].verdict for c in against_control]
    counted = [
        f"{verdicts.count(word)} {phrase}"
        for word, phrase in (
            ("higher", "above the control"),
            ("lower", "below the control"),
            ("no detectable difference", "without a detectable difference"),
            ("not judged", "not judged"),
        )
        if word in verdicts
    ]
    name = lower_first(metric_name(PRIMARY_METRIC))
    if len(verdicts) == 1:
        return [verdict_sentence(against_control[0])]
    words = f"By {name}, of the {len(verdicts)} cells with a remedy: "
    return [f"{words}{listing(counted)}.", *_largest_gain(against_control)]


def _without_control(groups: Sequence[Group], against_control: Sequence[Comparison]) -> list[str]:
    """Which treated cells have results and no control to be judged by."""
    judged = {id(comparison.group) for comparison in against_control}
    lacking = [g.cell for g in groups if not g.cell.is_control and id(g) not in judged]
    if not lacking:
        return []
    names = [cell.name for cell in lacking[:MAX_NAMED]]
    if len(lacking) > MAX_NAMED:
        names.append(f"{len(lacking) - MAX_NAMED} more")
    alike = ["classifier"]
    if any(cell.real_images is not None for cell in lacking):
        alike.append("number of real images")
    if any(group.cell.is_control and group.cell.variant for group in groups):
        alike.append("experiment")  # several controls, and none is known to be the right one
    return [f"Not judged, for lack of a control of the same {listing(alike)}: {'; '.join(names)}."]


def _largest_gain(comparisons: Sequence[Comparison]) -> list[str]:
    judged = [c for c in comparisons if c.differences[0].value is not None]
    if not judged:
        return []
    best = max(judged, key=lambda c: c.differences[0].value or 0.0)
    found = best.differences[0]
    gain, name = found.value or 0.0, best.group.cell.name
    which = "The largest gain is that of" if gain > 0 else "None scores higher; the nearest is"
    words = f"{which} {name}: {points(gain)} percentage points"
    if best.group.seeds == best.reference.seeds == found.seeds:
        now, before = best.group.estimate(found.metric), best.reference.estimate(found.metric)
        words += f", from {score(before.value)} to {score(now.value)}"
    if best.shows_nothing:
        words += ", which may be chance"
    return [f"{words}."]


def _remedies_sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """Generated images against duplicates, and against the remedies that need no generator."""
    verdicts: dict[str, list[str]] = {kind: [] for kind in (AS_MANY, ALL_CLASSES, NO_IMAGES)}
    for one in comparisons:
        if not one.reference.cell.is_control:
            verdicts[_kind(one)].append(one.differences[0].verdict)
    return [
        f"Against {kind} are better in {found.count('higher')} of {len(found)} comparisons and "
        f"worse in {found.count('lower')}."
        for kind, found in verdicts.items()
        if found
    ]


def _kind(comparison: Comparison) -> str:
    if comparison.reference.cell.method != "duplicate":
        return NO_IMAGES
    return ALL_CLASSES if comparison.group.cell.adds_to_all_classes else AS_MANY


def caveats(groups: Sequence[Group], comparisons: Sequence[Comparison]) -> list[str]:
    """What a reader must know before believing a difference."""
    fewest = min((len(group.seeds) for group in groups), default=0)
    notes = []
    if fewest == 1:
        notes.append(
            "One seed only (in some cells at least): intervals of such cells cover the test images "
            "alone, not another training. Use three seeds or more."
        )
    elif fewest == 2:
        notes.append("Two seeds in some cells: their spread is barely known, intervals are wide.")
    passes = _fewest_passes(groups)
    if passes is not None and passes < FEW_PASSES:
        notes.append(
            f"Without added images the classifier saw each training image {passes:.1f} times on "
            "average. So brief a training may lack steps rather than images: train longer "
            "(classifier.steps) before you conclude that added images do not help."
        )
    if limited := _out_of_reach(groups):
        notes.append(
            f"In some cells the recall at 95 % precision of {listing(limited)} allows no error: "
            "the test images are so few that one of another class, weighted to the prevalence, "
            "brings precision below 95 %. Rely on AUPRC."
        )
    judged = [d for c in comparisons for d in c.differences if d.verdict != "not judged"]
    corrected = [d for d in judged if d.p_adjusted is not None]
    if corrected:
        notes.append(
            f"A difference counts where p is at most {ALPHA:g} after Holm's correction for all "
            "comparisons of that metric against the same kind of control. Intervals are not "
            "corrected."
        )
    elif len(judged) > 1:
        notes.append(
            f"{len(judged)} differences are judged at 95 %. If nothing made a difference, "
            f"{_by_chance(len(judged))} of them could look like one by chance."
        )
    return notes


def _out_of_reach(groups: Sequence[Group]) -> list[str]:
    """Rare classes with too few test images for their recall at 95 % precision somewhere."""
    results = [run.results for group in groups for run in group.runs]
    limited = [name for one in results for name in one.rare_classes if name in one.out_of_reach]
    return [plain_name(name) for name in dict.fromkeys(limited)]


def _fewest_passes(groups: Sequence[Group]) -> float | None:
    """How often the controls drew each of their training images; None where it is not known."""
    passes = [
        drawn / images
        for group in groups
        for run in group.runs
        if group.cell.is_control
        and (drawn := run.results.provenance.training_images_drawn) is not None
        and (images := sum(run.results.counts.train.values()))
    ]
    return min(passes, default=None)


def _by_chance(judged: int) -> str:
    expected = ALPHA * judged
    return f"about {expected:.0f}" if expected >= 1.5 else "one"
