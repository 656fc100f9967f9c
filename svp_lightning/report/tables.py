"""The table of a study: one row per backbone, method and ratio, over its seeds."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from svp_lightning.evaluation.tally import CLASS_METRICS
from svp_lightning.report.inputs import OVERALL_METRICS, Estimate, RunResult
from svp_lightning.report.study import group_runs
from svp_lightning.report.study_findings import Comparison
from svp_lightning.report.wording import (
    backbone_name,
    metric_name,
    treatment,
    with_interval,
)

KEY_COLUMNS = ("backbone", "real_images", "method", "ratio", "variant", "treatment", "seeds")
LOW, HIGH = "_low", "_high"
CONSOLE_METRICS = ("macro_auprc", "macro_precision")


def study_metrics(results: Sequence[RunResult]) -> tuple[str, ...]:
    """Metrics of a study's table: all macro ones, and for each rare class what matters most."""
    rare = dict.fromkeys(name for result in results for name in result.rare)
    names = ("precision", "auprc", "recall_at_precision_95")
    return (*OVERALL_METRICS, *(f"{c}/{name}" for c in rare for name in names))


def study_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row per cell of the study, its metrics averaged over seeds.

    Columns: :data:`KEY_COLUMNS`, then for each metric (``macro_auprc``,
    ``silicone_oil/precision``) its mean, and the same name with ``_low`` and ``_high`` for the
    95 % interval (:func:`~svp_lightning.report.study.over_seeds`); NaN where not defined.
    """
    metrics = study_metrics(results)
    rows = []
    for group in group_runs(results):
        cell = group.cell
        row: dict[str, object] = {
            "backbone": cell.backbone,
            "real_images": "" if cell.real_images is None else str(cell.real_images),
            "method": cell.method,
            "ratio": cell.ratio,
            "variant": cell.variant,
            "treatment": treatment(cell),
            "seeds": " ".join(map(str, group.seeds)),
        }
        for metric in metrics:
            estimate = group.estimate(metric)
            row |= {
                metric: estimate.value,
                metric + LOW: estimate.low,
                metric + HIGH: estimate.high,
            }
        rows.append(row)
    columns = [*KEY_COLUMNS, *(metric + end for metric in metrics for end in ("", LOW, HIGH))]
    table = pd.DataFrame(rows, columns=columns)
    numbers = [name for name in columns if name not in KEY_COLUMNS]
    return table.astype(dict.fromkeys(numbers, float))


def metrics_of(table: pd.DataFrame) -> tuple[str, ...]:
    """The metrics that a table has columns for."""
    return tuple(name.removesuffix(LOW) for name in table.columns if name.endswith(LOW))


def estimate_in(row: Mapping[Hashable, Any], metric: str) -> Estimate:
    """The estimate that a row (one of ``table.to_dict("records")``) holds of ``metric``."""
    values = (row[metric + end] for end in ("", LOW, HIGH))
    return Estimate(*(None if math.isnan(value) else value for value in values))


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as strings with readable headings, intervals in square brackets."""
    words: dict[str, list[str]] = {
        "Classifier": [backbone_name(name) for name in table["backbone"]],
    }
    if (table["real_images"] != "").any():
        words["Real rare images"] = list(table["real_images"])
    words |= {
        "Rare classes": list(table["treatment"]),
        "Seeds": [seeds.replace(" ", ", ") for seeds in table["seeds"]],
    }
    rows = table.to_dict("records")
    for metric in metrics_of(table):
        words[metric_name(metric)] = [with_interval(estimate_in(row, metric)) for row in rows]
    return pd.DataFrame(words)


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table of :func:`readable`; numbers are aligned to the right."""
    words = readable(table)
    align = ["---" if name in ("Classifier", "Rare classes") else "---:" for name in words]
    rows = [list(words.columns), align, *words.to_numpy().tolist()]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def to_csv(table: pd.DataFrame) -> str:
    """All columns at full precision; an empty field where a value is not defined."""
    table = table.drop(columns="treatment", errors="ignore")
    return table.to_csv(index=False, lineterminator="\n")


def runs_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row per run (cell and seed): all metrics with intervals, counts, thresholds, seconds.

    ``n_train/…``, ``n_added/…`` and ``n_test/…`` are images, ``…/threshold`` and
    ``…/precision_at_threshold`` the working points chosen on validation, ``seconds/…`` the
    wall seconds of each stage.
    """
    rows = []
    for run in results:
        cell = run.cell
        row: dict[str, object] = {
            "run": run.folder.name,
            "backbone": cell.backbone,
            "method": cell.method,
            "ratio": cell.ratio,
            "variant": cell.variant,
            "seed": cell.seed,
        }
        for part, counts in (("train", run.train), ("added", run.synthetic), ("test", run.test)):
            row |= {f"n_{part}/{name}": count for name, count in counts.items()}
        for metric in (
            *OVERALL_METRICS,
            *(f"{c}/{m}" for c in run.class_names for m in CLASS_METRICS),
        ):
            one = run.estimate(metric)
            row |= {metric: one.value, metric + LOW: one.low, metric + HIGH: one.high}
        for name, point in run.working_points.items():
            row |= {
                f"{name}/threshold": point.threshold,
                f"{name}/precision_at_threshold": point.precision,
                f"{name}/recall_at_threshold": point.recall,
            }
        row |= {f"seconds/{stage}": cost.wall_seconds for stage, cost in run.costs.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def differences_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One row per comparison and metric: difference, interval, p-values, effect sizes."""
    return pd.DataFrame(
        [
            {
                "backbone": one.group.cell.backbone,
                "real_images": one.group.cell.real_images,
                "arm": treatment(one.group.cell),
                "against": treatment(one.reference.cell),
                "metric": found.metric,
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "p": found.p_value,
                "p_holm": found.p_adjusted,
                "comparisons": found.compared,
                "cohens_dz": found.standardised,
                "error_reduction": found.error_reduction,
                "seeds": " ".join(map(str, found.seeds)),
                "verdict": found.verdict,
            }
            for one in comparisons
            for found in one.differences
        ]
    )


def to_html(table: pd.DataFrame) -> str:
    """A plain HTML table of :func:`readable`, for notebooks."""
    return readable(table).to_html(index=False, border=0, justify="left")


def print_table(table: pd.DataFrame, console: Console | None = None) -> None:
    """Print the main metrics of :func:`study_table`; fits a terminal of 100 columns."""
    console = console or Console()
    console.print(console_table(table))
    console.print("Mean over seeds, 95 % interval in brackets.", style="dim")


def console_table(table: pd.DataFrame) -> Table:
    """The macro metrics of :func:`study_table`."""
    pretty = Table(box=None, header_style="bold", pad_edge=False)
    by_number = (table["real_images"] != "").any()
    pretty.add_column("Classifier", no_wrap=True)
    if by_number:
        pretty.add_column("Real rare", justify="right", max_width=9)
    pretty.add_column("Rare classes", overflow="fold", max_width=24)
    pretty.add_column("Seeds", justify="right", max_width=8)
    for metric in CONSOLE_METRICS:
        pretty.add_column(metric_name(metric), justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        number = [row["real_images"]] if by_number else []
        cells = (escape(with_interval(estimate_in(row, metric))) for metric in CONSOLE_METRICS)
        pretty.add_row(
            backbone_name(row["backbone"]), *number, row["treatment"], row["seeds"], *cells
        )
    return pretty
