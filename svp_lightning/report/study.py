"""``report.html``, tables and figures of a study."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.comparison import MIN_REPETITIONS, Difference
from svp_lightning.evaluation.priors import prevalence_weights
from svp_lightning.evaluation.schema import PRIMARY_METRIC
from svp_lightning.report.costs import STAGES, cost_rows, study_total, total_sentence
from svp_lightning.report.figures.curves import compared_precision_recall
from svp_lightning.report.figures.effects import (
    augmentation_effect,
    differences_from_control,
    learning_curve,
)
from svp_lightning.report.page import (
    FIGURES,
    REPORT,
    Picture,
    embedded_figure,
    pictures,
    write_page,
)
from svp_lightning.report.run import CAPTIONS, GENERATOR_FIGURES, sample_sheets
from svp_lightning.report.run_findings import prevalence_sentence
from svp_lightning.report.study_findings import (
    Comparison,
    answers,
    caveats,
    compare_cells,
    study_headline,
)
from svp_lightning.report.study_runs import (
    Group,
    Run,
    command_of,
    group_runs,
    read_study,
    unfinished_cells,
)
from svp_lightning.report.study_tables import study_metrics, write_tables
from svp_lightning.report.style import save_figure
from svp_lightning.report.text import glossary, listing

MAX_PANELS = 3
CLOSE_UP = ("confusion", "worst_mistakes")
FIGURE_WORDS = {
    "augmentation_effect": (
        "Metrics against the number of added images",
        "Means with 95 % intervals; small dots are repetitions. Dashed line and band: the control.",
    ),
    "differences": (
        "Differences from the control",
        "In percentage points, with 95 % intervals. Filled points count as a difference.",
    ),
    "learning_curve": (
        "Metrics against the number of real images of each rare class",
        "Means over repetitions, with bands of 95 %.",
    ),
}


def study_report(study_dir: Path | str) -> Path:
    """Gather every ``results.json`` below the folder of a study into one page and its tables.

    Writes ``report.html``; the tables of :func:`~.study_tables.write_tables`; and
    ``figures/augmentation_effect.png``, ``figures/differences.png``, and
    ``figures/learning_curve.png`` where the number of real images varies (each also as ``.svg``).
    Runs that were started but have no result are listed.

    Returns:
        The path of the page.

    Raises:
        DataError: the folder is missing or has no result.
        ArtifactError: a file of a run is malformed.
    """
    folder = Path(study_dir)
    runs = read_study(folder)
    groups = group_runs(runs)
    names = {run.results.study for run in runs if run.results.study}
    rare = list(dict.fromkeys(name for run in runs for name in run.results.rare_classes))
    own = [f"{name}/recall_at_precision_95" for name in rare[: MAX_PANELS - 1]]
    metrics = [PRIMARY_METRIC, *own]
    judged = [PRIMARY_METRIC, "macro_precision", *metrics[1:]]
    comparisons = compare_cells(groups, judged)
    found = answers(groups, comparisons)
    write_tables(folder, runs, comparisons, found)
    shown = _figures(folder, groups, comparisons, metrics)
    return write_page(
        folder / REPORT,
        "study.html.j2",
        {
            # The runs' own where they agree on one.
            "title": display_name(names.pop() if len(names) == 1 else folder.resolve().name),
            "headline": study_headline(groups, comparisons, found),
            "caveats": caveats(groups),
            "answers": found,
            "oracle": any(group.cell.is_oracle for group in groups),
            "primary": PRIMARY_METRIC,
            "min_repetitions": MIN_REPETITIONS,
            "comparisons": comparisons,
            "difference_metrics": judged,
            "groups": groups,
            "metrics": study_metrics(runs),
            "mixtures": sorted({prevalence_sentence(run.results) for run in runs}),
            "effect": shown["augmentation_effect"],
            "apart": shown.get("differences"),
            "curve": shown.get("learning_curve"),
            "close_up": _close_up(*compared_runs(comparisons, runs)),
            "costs": cost_rows(groups, comparisons),
            "stages": STAGES,
            "total": total_sentence(study_total(runs)),
            "runs": [_run_row(folder, run) for run in runs],
            "unfinished": [
                (path.relative_to(folder).as_posix(), command_of(path))
                for path in unfinished_cells(folder)
            ],
            "missing": missing_seeds(groups),
            "samples": study_samples(runs),
            "glossary": glossary(),
        },
    )


def _figures(
    folder: Path,
    groups: Sequence[Group],
    comparisons: Sequence[Comparison],
    metrics: Sequence[str],
) -> dict[str, Picture]:
    """Draw and write the study's figures."""
    numbers = {group.cell.real_images or 0 for group in groups}
    whole = [group for group in groups if (group.cell.real_images or 0) == max(numbers)]
    drawn: dict[str, Figure] = {"augmentation_effect": augmentation_effect(whole, metrics)}
    if arms := arms_apart(comparisons):
        drawn["differences"] = differences_from_control(arms)
    if len(numbers) > 1:
        drawn["learning_curve"] = learning_curve(groups, metrics)
    for name, figure in drawn.items():
        save_figure(figure, folder / FIGURES / f"{name}.png", svg=True)
    return {
        name: embedded_figure(figure, name, *FIGURE_WORDS[name]) for name, figure in drawn.items()
    }


def _against_control(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those with a difference from the control, the largest first."""
    pairs = [c for c in comparisons if c.reference.cell.is_control and c.first.value is not None]
    return sorted(pairs, key=lambda c: c.first.value or 0.0, reverse=True)


def arms_apart(comparisons: Sequence[Comparison]) -> dict[str, tuple[Difference, ...]]:
    """Arm -> its differences from the control, the largest of the first metric first."""
    pairs = _against_control(comparisons)
    several = len({c.group.cell.place for c in pairs}) > 1
    return {c.group.cell.name if several else c.group.cell.treatment: c.differences for c in pairs}


def compared_runs(
    comparisons: Sequence[Comparison], runs: Sequence[Run]
) -> tuple[tuple[Run, ...], str]:
    """Runs to look at closely, and what to make of the choice (empty where there was none).

    Control and the cell that gains most on it by the primary metric, in the first common
    repetition: a choice for illustration.
    """
    pairs = _against_control(comparisons)
    if not pairs:
        return tuple(runs[:1]), ""
    best, why = pairs[0], ""
    if len(pairs) > 1:
        why = "No cell gains on its control; the one shown is the nearest."
        if (best.first.value or 0.0) > 0:
            why = "The cell shown has the largest gain on these images, in part by luck."
    seed = best.first.seeds[0]
    both = (best.reference, best.group)
    return tuple(run for group in both for run in group.runs if run.cell.seed == seed), why


def _close_up(runs: Sequence[Run], why: str) -> list[Picture]:
    """Curves of the runs over each other, then confusion and mistakes of each."""
    shown = []
    if (curves := _close_up_curves(runs)) is not None:
        title = f"Precision: {listing([run.cell.name for run in runs])}"
        caption = f"On a logarithmic scale of the errors. {why}".rstrip()
        shown = [embedded_figure(curves, "close_up", title, caption)]
    words = {name: CAPTIONS[name] for name in CLOSE_UP}
    own = [(run.cell, one) for run in runs for one in pictures(run.folder / FIGURES, words)]
    return shown + [
        one._replace(
            title=f"{one.title}: {cell.name}, seed {cell.seed}", name=f"{one.name}_{number}"
        )
        for number, (cell, one) in enumerate(own, 1)
    ]


def _close_up_curves(runs: Sequence[Run]) -> Figure | None:
    """Precision-recall on a log scale, a panel per rare class; None without predictions."""
    first, curves = runs[0].results, {}
    for run in runs:
        found = run.predictions()
        if found is None or found.class_names != first.class_names:
            return None
        weights = prevalence_weights(found.labels, run.results.prevalence, found.class_names)
        curves[run.cell.name] = (found.labels, found.probabilities, weights)
    return compared_precision_recall(curves, first.class_names, first.rare_classes)


def missing_seeds(groups: Sequence[Group]) -> list[tuple[Group, list[int]]]:
    """Groups that lack a seed which another group has."""
    seeds = sorted({seed for group in groups for seed in group.seeds})
    lacking = [(group, [s for s in seeds if s not in group.seeds]) for group in groups]
    return [(group, absent) for group, absent in lacking if absent]


def study_samples(runs: Sequence[Run]) -> list[Picture]:
    """Sample sheets of the first run with generated images (else of the first with sheets)."""
    for run in sorted(runs, key=lambda run: run.results.provenance.synthetic is None):
        if sheets := sample_sheets(run):
            strip = {name: CAPTIONS[name] for name in GENERATOR_FIGURES}
            return [*sheets, *pictures(run.folder / FIGURES, strip)]
    return []


def _run_row(folder: Path, run: Run) -> dict[str, object]:
    place = run.folder.relative_to(folder)
    return {
        "run": run,
        "place": place.as_posix(),
        "link": (place / REPORT).as_posix() if (run.folder / REPORT).is_file() else "",
        "images": sum(run.results.counts.test.values()),
        "seconds": run.results.provenance.wall_seconds,
    }
