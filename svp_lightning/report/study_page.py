"""``report.html``, ``table.md`` and ``table.csv`` of a study."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from svp_lightning.data.classes import display_name
from svp_lightning.report.close_up import close_up_curves, close_up_pictures, compared_runs
from svp_lightning.report.costs import STAGES, cost_rows, study_total, total_sentence
from svp_lightning.report.figures.augmentation import EffectPoint, augmentation_effect
from svp_lightning.report.figures.differences import DifferencePoint, differences_from_control
from svp_lightning.report.figures.learning_curve import CurvePoint, learning_curve
from svp_lightning.report.glossary import entries
from svp_lightning.report.inputs import (
    FIGURES,
    RATIOLESS_METHODS,
    RunResult,
    read_study,
    unfinished_cells,
)
from svp_lightning.report.page import Picture, embedded_figure, embedded_file, write_page
from svp_lightning.report.run_figures import Shown, known_figures, sample_sheets
from svp_lightning.report.run_findings import prevalence_sentence
from svp_lightning.report.run_page import REPORT, command_of
from svp_lightning.report.study import Group, Judge, group_runs, judge_by_intervals
from svp_lightning.report.study_findings import (
    PRIMARY_METRIC,
    Comparison,
    caveats,
    compare_cells,
    study_headline,
    verdict_sentence,
)
from svp_lightning.report.style import save_figure
from svp_lightning.report.tables import (
    differences_table,
    runs_table,
    study_metrics,
    study_table,
    to_csv,
    to_markdown,
)
from svp_lightning.report.wording import backbone_name, cell_name, duration, metric_name, treatment
from svp_lightning.runtime.files import replacing

TABLE_MARKDOWN, TABLE_CSV = "table.md", "table.csv"
RUNS_CSV, DIFFERENCES_CSV = "runs.csv", "differences.csv"
EFFECT_FIGURE = "augmentation_effect.png"
MAX_PANELS = 3
EFFECT_WORDS = (
    "Metrics against the number of added images, with 95 % intervals",
    "Points are means over seeds with 95 % intervals, small dots the seeds. The dashed line and "
    "the grey band are the control: the same classifier with nothing done about the rare classes.",
)
DIFFERENCES_FIGURE = "differences.png"
DIFFERENCES_WORDS = (
    "Differences from the control, with 95 % intervals",
    "In percentage points, paired over seeds and test images, so narrower than the intervals "
    "above. Filled points count as a difference after correction for the number of comparisons, "
    "open ones do not.",
)
CURVE_FIGURE = "learning_curve.png"
CURVE_WORDS = (
    "Metrics against the number of real images of each rare class",
    "Means over seeds, with bands of 95 %. Where the lines lie apart, what was done about the "
    "rare classes pays at that number of real images.",
)
CLOSE_UP_WORDS = (
    "Precision of the cell with the largest gain, and of its control",
    "Precision on a logarithmic scale of the errors: each step up, ten times fewer of the "
    "particles counted as the class are something else. The largest gain on these test images, "
    "in part by luck.",
)


def study_report(study_dir: Path | str, judge: Judge = judge_by_intervals) -> Path:
    """Gather every ``results.json`` below a folder into one page and two tables.

    Writes in ``study_dir``: ``report.html``; ``table.md`` and ``table.csv`` (cells over their
    seeds), ``runs.csv`` (each seed), ``differences.csv`` (each comparison); and
    ``figures/augmentation_effect.png``, ``figures/differences.png``, and
    ``figures/learning_curve.png`` where the number of real images varies (each also as ``.svg``).
    Runs that were started but have no result are listed.

    Args:
        study_dir: the folder that holds the run folders of a study.
        judge: how differences are judged; by default from the results files alone.

    Returns:
        The path of the page.

    Raises:
        DataError: the folder is missing, has no result, or one of them is malformed.
    """
    folder = Path(study_dir)
    results = read_study(folder)
    groups = group_runs(results)
    comparisons = compare_cells(groups, difference_metrics(results), judge)
    _write_tables(folder, results, comparisons)
    figure = augmentation_effect(effect_points(most_images(groups), effect_metrics(results)))
    save_figure(figure, folder / FIGURES / EFFECT_FIGURE, svg=True)
    metrics = study_metrics(results)
    total = study_total(results)
    return write_page(
        folder / REPORT,
        "study.html.j2",
        {
            "title": study_title(folder, results),
            "headline": study_headline(groups, comparisons),
            "caveats": caveats(groups, comparisons),
            "verdicts": [verdict_sentence(c) for c in comparisons if not c.shows_nothing],
            "no_difference": [verdict_sentence(c) for c in comparisons if c.shows_nothing],
            "comparisons": comparisons,
            "corrected": any(d.p_adjusted is not None for c in comparisons for d in c.differences),
            "difference_metrics": difference_metrics(results),
            "groups": groups,
            "metrics": metrics,
            "first": results[0],
            "mixtures": sorted({prevalence_sentence(run) for run in results}),
            "effect": embedded_figure(figure, "augmentation_effect", *EFFECT_WORDS),
            "apart": _differences(folder, comparisons),
            "curve": _learning_curve(folder, groups, effect_metrics(results)),
            "close_up": _close_up(compared_runs(comparisons, results)),
            "costs": cost_rows(groups, comparisons),
            "stages": STAGES,
            "total": "" if total is None else total_sentence(total),
            "varies": any(group.cell.real_images is not None for group in groups),
            "runs": [_run_row(folder, run) for run in results],
            "unfinished": [
                (path.relative_to(folder).as_posix(), command_of(path))
                for path in unfinished_cells(folder)
            ],
            "missing": missing_seeds(groups),
            "samples": [embedded_file(shown) for shown in study_samples(results)],
            "glossary": entries(),
        },
    )


def _write_tables(
    folder: Path, results: Sequence[RunResult], comparisons: Sequence[Comparison]
) -> None:
    table = study_table(results)
    texts = {
        TABLE_MARKDOWN: to_markdown(table),
        TABLE_CSV: to_csv(table),
        RUNS_CSV: to_csv(runs_table(results)),
        DIFFERENCES_CSV: to_csv(differences_table(comparisons)),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _close_up(shown: Sequence[RunResult]) -> list[Picture]:
    """Curves of the runs over each other, then the pictures each has of itself."""
    curves = close_up_curves(shown)
    pictures = [] if curves is None else [embedded_figure(curves, "close_up", *CLOSE_UP_WORDS)]
    own = [embedded_file(one) for one in close_up_pictures(shown)]
    numbered = [replace(one, name=f"{one.name}_{at}") for at, one in enumerate(own, 1)]
    return pictures + numbered


def most_images(groups: Sequence[Group]) -> list[Group]:
    """The groups with the most real images of the rare classes (all, where none varies)."""
    most = max(group.cell.real_images or 0 for group in groups)
    return [group for group in groups if (group.cell.real_images or 0) == most]


def _differences(folder: Path, comparisons: Sequence[Comparison]) -> Picture | None:
    points = difference_points(comparisons)
    if not points:
        return None
    figure = differences_from_control(points)
    save_figure(figure, folder / FIGURES / DIFFERENCES_FIGURE, svg=True)
    return embedded_figure(figure, "differences", *DIFFERENCES_WORDS)


def _learning_curve(
    folder: Path, groups: Sequence[Group], metrics: Sequence[str]
) -> Picture | None:
    """The figure over real images per rare class, where the study varies them."""
    points = curve_points(groups, metrics)
    if not points:
        return None
    figure = learning_curve(points)
    save_figure(figure, folder / FIGURES / CURVE_FIGURE, svg=True)
    return embedded_figure(figure, "learning_curve", *CURVE_WORDS)


def curve_points(groups: Sequence[Group], metrics: Sequence[str]) -> dict[str, list[CurvePoint]]:
    """Metric -> one point per group; empty where the number of real images does not vary."""
    points: dict[str, list[CurvePoint]] = {}
    for metric in metrics:
        for group in groups:
            cell, one = group.cell, group.estimate(metric)
            if cell.real_images is None or one.value is None:
                continue
            points.setdefault(metric_name(metric), []).append(
                CurvePoint(
                    backbone_name(cell.backbone),
                    cell.method,
                    treatment(cell),
                    cell.real_images,
                    one.value,
                    one.low,
                    one.high,
                )
            )
    return points


def study_title(folder: Path, results: Sequence[RunResult]) -> str:
    """The study's name where the runs agree on one, else that of the folder."""
    names = {run.study for run in results if run.study}
    return display_name(names.pop() if len(names) == 1 else folder.resolve().name)


def effect_metrics(results: Sequence[RunResult]) -> list[str]:
    """The primary metric, and the recall at 95 % precision of the first rare classes."""
    rare = list(dict.fromkeys(name for run in results for name in run.rare))
    own = [f"{name}/recall_at_precision_95" for name in rare]
    return [PRIMARY_METRIC, *own[: MAX_PANELS - 1]]


def difference_metrics(results: Sequence[RunResult]) -> list[str]:
    """What cells are compared by: the primary metric first."""
    return [PRIMARY_METRIC, "macro_precision", *effect_metrics(results)[1:]]


def effect_points(groups: Sequence[Group], metrics: Sequence[str]) -> dict[str, list[EffectPoint]]:
    """Metric -> one point per group that has it, in the shape the figure takes."""
    points: dict[str, list[EffectPoint]] = {}
    for metric in metrics:
        for group in groups:
            cell, estimate = group.cell, group.estimate(metric)
            if estimate.value is None:
                continue
            ratio = None if cell.method in RATIOLESS_METHODS else cell.ratio
            points.setdefault(metric_name(metric), []).append(
                EffectPoint(
                    backbone_name(cell.backbone),
                    "none" if cell.is_control else f"{cell.method} {cell.variant}".strip(),
                    ratio,
                    estimate.value,
                    estimate.low,
                    estimate.high,
                    tuple(v for run in group.runs if (v := run.estimate(metric).value) is not None),
                )
            )
    return points


def difference_points(comparisons: Sequence[Comparison]) -> dict[str, list[DifferencePoint]]:
    """Metric -> each arm's difference from the control, the largest of the first metric on top."""
    pairs = [c for c in comparisons if c.reference.cell.is_control]
    pairs.sort(key=lambda c: c.differences[0].value or 0.0, reverse=True)
    several = len({(c.group.cell.backbone, c.group.cell.real_images) for c in pairs}) > 1
    points: dict[str, list[DifferencePoint]] = {}
    for pair in pairs:
        arm = cell_name(pair.group.cell) if several else treatment(pair.group.cell)
        for found in pair.differences:
            if found.value is None:
                continue
            decided = found.verdict in ("higher", "lower")
            point = DifferencePoint(arm, found.value, found.low, found.high, decided)
            points.setdefault(metric_name(found.metric), []).append(point)
    return points


def missing_seeds(groups: Sequence[Group]) -> list[tuple[Group, list[int]]]:
    """Groups that lack a seed which another group has."""
    seeds = sorted({seed for group in groups for seed in group.seeds})
    lacking = [(group, [s for s in seeds if s not in group.seeds]) for group in groups]
    return [(group, absent) for group, absent in lacking if absent]


def study_samples(results: Sequence[RunResult]) -> list[Shown]:
    """Sample sheets of the first run with generated images (else of the first with sheets)."""
    for run in sorted(results, key=lambda run: not any(run.synthetic.values())):
        if sheets := sample_sheets(run):
            strips = [one for one in known_figures(run.folder) if one.path.stem == "noise_to_image"]
            return [*sheets, *strips]
    return []


def _run_row(folder: Path, run: RunResult) -> dict[str, object]:
    place = run.folder.relative_to(folder)
    has_page = (run.folder / REPORT).is_file()
    return {
        "run": run,
        "place": place.as_posix(),
        "link": (place / REPORT).as_posix() if has_page else "",
        "wall": duration(run.provenance.get("wall_seconds", "")),
    }
