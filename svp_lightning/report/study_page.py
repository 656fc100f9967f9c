"""``report.html``, ``table.md`` and ``table.csv`` of a study."""

from collections.abc import Sequence
from pathlib import Path

from svp_lightning.data.classes import display_name
from svp_lightning.files import replacing
from svp_lightning.report.figures.augmentation import EffectPoint, augmentation_effect
from svp_lightning.report.glossary import entries
from svp_lightning.report.inputs import (
    FIGURES,
    RATIOLESS_METHODS,
    RunResult,
    read_study,
    unfinished_cells,
)
from svp_lightning.report.page import embedded_figure, embedded_file, write_page
from svp_lightning.report.run_figures import Shown, known_figures, sample_sheets
from svp_lightning.report.run_findings import prevalence_sentence
from svp_lightning.report.run_page import REPORT, command_of, duration
from svp_lightning.report.study import Group, group_runs
from svp_lightning.report.study_findings import (
    PRIMARY_METRIC,
    caveats,
    compare_cells,
    study_headline,
    verdict_sentence,
)
from svp_lightning.report.style import save_figure
from svp_lightning.report.tables import study_metrics, study_table, to_csv, to_markdown
from svp_lightning.report.wording import backbone_name, metric_name

TABLE_MARKDOWN, TABLE_CSV = "table.md", "table.csv"
EFFECT_FIGURE = "augmentation_effect.png"
MAX_PANELS = 3
EFFECT_WORDS = (
    "Metrics against the number of added images, with 95 % intervals",
    "Points are means over seeds with 95 % intervals. The dashed line and the grey band are the "
    "control: the same classifier with nothing done about the rare classes.",
)


def study_report(study_dir: Path | str) -> Path:
    """Gather every ``results.json`` below a folder into one page and two tables.

    Writes ``report.html``, ``table.md``, ``table.csv`` and ``figures/augmentation_effect.png``
    (and ``.svg``) in ``study_dir``. Runs that were started but have no result are listed.

    Args:
        study_dir: the folder that holds the run folders of a study.

    Returns:
        The path of the page.

    Raises:
        DataError: the folder is missing, has no result, or one of them is malformed.
    """
    folder = Path(study_dir)
    results = read_study(folder)
    groups = group_runs(results)
    table = study_table(results)
    for name, text in ((TABLE_MARKDOWN, to_markdown(table)), (TABLE_CSV, to_csv(table))):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    figure = augmentation_effect(effect_points(groups, effect_metrics(results)))
    save_figure(figure, folder / FIGURES / EFFECT_FIGURE, svg=True)
    metrics = study_metrics(results)
    comparisons = compare_cells(groups, difference_metrics(results))
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
            "difference_metrics": difference_metrics(results),
            "groups": groups,
            "metrics": metrics,
            "first": results[0],
            "mixtures": sorted({prevalence_sentence(run) for run in results}),
            "effect": embedded_figure(figure, "augmentation_effect", *EFFECT_WORDS),
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
                    f"{cell.method} {cell.variant}".strip(),
                    ratio,
                    estimate.value,
                    estimate.low,
                    estimate.high,
                )
            )
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
