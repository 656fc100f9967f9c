"""What the differences within a study mean, and no more than they show."""

from collections.abc import Sequence
from dataclasses import dataclass

from svp_lightning.evaluation.comparison import (
    MIN_REPETITIONS,
    Difference,
    Pair,
    judge,
    share_closed,
)
from svp_lightning.evaluation.schema import PRIMARY_METRIC, Estimate
from svp_lightning.report.run_findings import FEW_PASSES, passes
from svp_lightning.report.study_runs import Group, control_of, oracle_of, remedies_of
from svp_lightning.report.text import (
    listing,
    lower_first,
    metric_name,
    p_value,
    plain_name,
    points,
    share,
)

MAX_NAMED = 4
"""So many cells are named in one sentence."""
CHANGE_A_CLASS = ("hard_negatives", "mixup")
"""Parts of an arm that change p(x | class), of which a correction of class shares knows nothing."""
PHRASES = {
    "higher": "above the control",
    "lower": "below the control",
    "no detectable difference": "without a detectable difference",
    "too few repetitions": "with too few repetitions to claim one",
    "not judged": "not judged",
}


@dataclass(frozen=True)
class Comparison:
    """One treated cell against its control, or against another remedy."""

    group: Group
    reference: Group
    differences: tuple[Difference, ...]

    @property
    def first(self) -> Difference:
        """Of the primary metric."""
        return self.differences[0]


@dataclass(frozen=True)
class Answer:
    """Generated images against the best that could have been done without them.

    ``control`` is, of the control and the remedies without a generator, the one that scores highest
    on the test images; the choice is in its favour. ``oracle`` is the gain of fresh simulated
    images on the same control, as many where a cell has so many, and ``closed`` is ``gain`` as a
    share of it.
    """

    group: Group
    control: Group
    gain: Difference
    oracle: Difference | None
    closed: Estimate


def compare_cells(groups: Sequence[Group], metrics: Sequence[str]) -> list[Comparison]:
    """Each treated cell against nothing added; generated images and oracle against every remedy.

    Simulated images are compared with the remedies that add no images of their own, too.
    P-values are corrected for the arms compared with one kind of reference; an oracle, which is no
    remedy, does not count among them.
    """
    found = []
    for group in groups:
        if not group.cell.is_control and (control := control_of(group, groups)) is not None:
            found.append((group, control))
        if group.cell.is_generative or group.cell.is_oracle:
            found += [(group, remedy) for remedy in remedies_of(group, groups)]
        elif group.cell.is_simulated:
            plain = (one for one in remedies_of(group, groups) if not one.cell.is_simulated)
            found += [(group, remedy) for remedy in plain]
    pairs = [
        Pair(a.runs, b.runs, family=(a.cell.is_oracle, b.cell.method), place=a.cell.place)
        for a, b in found
    ]
    columns = [judge(pairs, metric) for metric in metrics]
    return [
        Comparison(*pair, tuple(column[at] for column in columns)) for at, pair in enumerate(found)
    ]


def answers(groups: Sequence[Group], comparisons: Sequence[Comparison]) -> list[Answer]:
    """Every cell with generated images against its best control."""
    found = []
    for group in groups:
        own = [c for c in comparisons if c.group is group and c.first.value is not None]
        if not group.cell.is_generative or not own:
            continue
        best = max(own, key=lambda c: c.reference.estimate(PRIMARY_METRIC).value or 0.0)
        control, oracle = best.reference, oracle_of(group, groups)
        limit = [c.first for c in comparisons if c.group is oracle and c.reference is control]
        closed = Estimate(None)
        if oracle is not None:
            closed = share_closed(group.runs, control.runs, oracle.runs, PRIMARY_METRIC)
        found.append(Answer(group, control, best.first, limit[0] if limit else None, closed))
    return found


def difference_sentence(group: Group, reference: Group, found: Difference) -> str:
    """The primary metric of one comparison in words."""
    against = "the control" if reference.cell.is_control else lower_first(reference.cell.treatment)
    name = group.cell.name
    if found.value is None:
        return f"{name}: no run of {against} to compare with on the same images."
    size = f"{points(found.value)} points of {lower_first(metric_name(found.metric))}"
    if found.low is None or found.high is None or found.p_adjusted is None:
        return f"{name}: {size} against {against}, with too few test images to judge."
    between = f"{points(found.low)} to {points(found.high)}, {p_value(found.p_adjusted)}"
    repetitions = f"{len(found.seeds)} repetition{'s' if len(found.seeds) > 1 else ''}"
    words = {
        "no detectable difference": "no detectable difference from",
        "too few repetitions": "too few repetitions to claim a difference from",
    }.get(found.verdict, f"{found.verdict} than")
    return f"{name}: {words} {against}, {size} ({between}, {repetitions})."


def study_headline(
    groups: Sequence[Group], comparisons: Sequence[Comparison], found: Sequence[Answer]
) -> list[str]:
    """The answer of a study in a few sentences."""
    if not any(group.cell.is_control for group in groups):
        return ["This study has no control (nothing added), so no gain can be judged."]
    if all(group.cell.is_control for group in groups):
        return ["Only the control has results: there is nothing to compare it with."]
    against_control = [c for c in comparisons if c.reference.cell.is_control]
    words = _best_answers(found)
    if not words and len(against_control) == 1:
        words = [difference_sentence(c.group, c.reference, c.first) for c in against_control]
    if len(against_control) > 1:
        verdicts = [c.first.verdict for c in against_control]
        counted = [
            f"{verdicts.count(word)} {phrase}"
            for word, phrase in PHRASES.items()
            if word in verdicts
        ]
        name = lower_first(metric_name(PRIMARY_METRIC))
        words.append(f"By {name}, of {len(verdicts)} cells with a remedy: {listing(counted)}.")
    return [*words, *_without_control(groups, against_control)]


def _best_answers(found: Sequence[Answer]) -> list[str]:
    """The largest gain of generated images at each place, in a sentence or two."""
    words = []
    for place in list(dict.fromkeys(one.group.cell.place for one in found))[:MAX_NAMED]:
        here = [one for one in found if one.group.cell.place == place]
        best = max(here, key=lambda one: one.gain.value or 0.0)
        words.append(difference_sentence(best.group, best.control, best.gain))
        if best.closed.low is not None:
            words.append(f"That closes {share(best.closed)} of the gap to the oracle.")
    return words


def _without_control(groups: Sequence[Group], against_control: Sequence[Comparison]) -> list[str]:
    """Which treated cells have results and no control to be judged by."""
    judged = {id(comparison.group) for comparison in against_control}
    lacking = [g.cell for g in groups if not g.cell.is_control and id(g) not in judged]
    if not lacking:
        return []
    names = [cell.name for cell in lacking[:MAX_NAMED]]
    if len(lacking) > MAX_NAMED:
        names.append(f"{len(lacking) - MAX_NAMED} more")
    return [f"Not judged, for lack of a control of its own kind: {'; '.join(names)}."]


def caveats(groups: Sequence[Group]) -> list[str]:
    """What a reader must know before believing a difference, a sentence each."""
    notes = []
    fewest = min((len(group.seeds) for group in groups), default=0)
    if fewest < MIN_REPETITIONS:
        some = f"{fewest} repetition{'s' if fewest > 1 else ''}"
        notes.append(f"Some cells have {some}; a claim needs {MIN_REPETITIONS}.")
    if shared := _shared(groups):
        notes.append(f"Repetitions share {listing(shared)}: intervals do not cover other ones.")
    acting = {part for group in groups for part in group.cell.parts}
    if moved := [plain_name(part) for part in CHANGE_A_CLASS if part in acting]:
        notes.append(
            f"Compare arms with {listing(moved)} by AUPRC: their probabilities cannot be corrected "
            "exactly to the stated prevalence, so their precision, recall and F1 are not at their "
            "best point."
        )
    seen = _fewest_passes(groups)
    if seen is not None and seen < FEW_PASSES:
        notes.append(
            f"The control saw each image {min(seen, FEW_PASSES - 0.1):.1f} times: train longer "
            "(classifier.steps) before you conclude that images do not help."
        )
    if limited := _out_of_reach(groups):
        notes.append(
            f"Too few test images for the recall at 95 % precision of {listing(limited)}: rely on "
            "AUPRC."
        )
    return notes


def _shared(groups: Sequence[Group]) -> list[str]:
    """What several repetitions of some cell have in common, though a laboratory's would not."""
    several = [g for g in groups if len(g.runs) > 1]
    made_by = [[run.results.provenance for run in group.runs] for group in several]
    shared = []
    if any(own[0].rare_images and len({one.rare_seed for one in own}) == 1 for own in made_by):
        shared.append("the real images kept (data.rare_seed)")
    for made, seed, same, alike in (
        ("generator", "generator_seed", "the generator", "the seed of their generators"),
        ("synthetic", "sampler_seed", "the images added", "the noise that images are drawn from"),
    ):
        for fact, what in ((made, same), (seed, alike)):  # seeds are not recorded in older results
            found = [{getattr(one, fact) for one in own} for own in made_by]
            if any(values != {None} and len(values) == 1 for values in found):
                shared.append(f"{what} ({seed.replace('_', '.')})")
                break
    return shared


def _out_of_reach(groups: Sequence[Group]) -> list[str]:
    """Rare classes with too few test images for their recall at 95 % precision somewhere."""
    results = [run.results for group in groups for run in group.runs]
    limited = [name for one in results for name in one.rare_classes if name in one.out_of_reach]
    return [plain_name(name) for name in dict.fromkeys(limited)]


def _fewest_passes(groups: Sequence[Group]) -> float | None:
    """How often the controls drew each of their training images; None where it is not known."""
    controls = [run for group in groups for run in group.runs if group.cell.is_control]
    found = [seen for run in controls if (seen := passes(run.results)) is not None]
    return min(found, default=None)
