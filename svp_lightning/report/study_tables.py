"""The tables of a study: cells over their seeds, single runs, differences and answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from svp_lightning.evaluation.comparison import Difference
from svp_lightning.evaluation.counting import MACRO_METRICS, metric_names
from svp_lightning.evaluation.schema import PRIMARY_METRIC, Estimate
from svp_lightning.report.arms import Cell
from svp_lightning.report.page import in_markdown
from svp_lightning.report.study_findings import Answer, Comparison
from svp_lightning.report.study_runs import Group, Run, group_runs
from svp_lightning.report.text import backbone_name, metric_name, seed_ranges, with_interval
from svp_lightning.runtime.files import write_text
from svp_lightning.runtime.terminal import wide_console

KEY_COLUMNS = ("backbone", "real_images", "method", "ratio", "variant", "treatment", "seeds")
LOW, HIGH = "_low", "_high"
ENDS = {"": "value", LOW: "low", HIGH: "high"}
CONSOLE_METRICS = (PRIMARY_METRIC, "macro_precision")
WORDS = ("Classifier", "Rare classes")
"""Columns of words; numbers are aligned to the right."""
CONSOLE_WIDTHS = {"Real rare images": 10, "Rare classes": 24, "Seeds": 10}


def study_metrics(runs: Sequence[Run]) -> tuple[str, ...]:
    """Metrics of a study's table: all macro ones, and for each rare class what matters most."""
    rare = dict.fromkeys(name for run in runs for name in run.results.rare_classes)
    names = ("precision", "auprc", "recall_at_precision_95")
    return (*MACRO_METRICS, *(f"{c}/{name}" for c in rare for name in names))


def study_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per cell of the study, its metrics averaged over seeds.

    Columns: :data:`KEY_COLUMNS`, then for each metric (``macro_auprc``,
    ``silicone_oil/precision``) its mean, and the same name with ``_low`` and ``_high`` for the
    95 % interval (:func:`~svp_lightning.evaluation.comparison.over_seeds`); NaN where not defined.
    """
    metrics = study_metrics(runs)
    rows = []
    for group in group_runs(runs):
        images = group.cell.real_images
        row = _key(group.cell) | {
            "real_images": "" if images is None else str(images),
            "treatment": group.cell.treatment,
            "seeds": " ".join(map(str, group.seeds)),
        }
        rows.append(row | _flat({metric: group.estimate(metric) for metric in metrics}))
    numbers = [metric + end for metric in metrics for end in ENDS]
    return pd.DataFrame(rows, columns=[*KEY_COLUMNS, *numbers]).astype(
        dict.fromkeys(numbers, float)
    )


def _key(cell: Cell) -> dict[str, object]:
    return {name: getattr(cell, name) for name in ("backbone", "method", "ratio", "variant")}


def _flat(estimates: Mapping[str, Estimate | Difference | None]) -> dict[str, object]:
    """Columns of a table: ``macro_f1``, ``macro_f1_low``, ``macro_f1_high``."""
    return {
        metric + end: getattr(one, attribute, None)
        for metric, one in estimates.items()
        for end, attribute in ENDS.items()
    }


def _pair(group: Group, against: str, reference: Group) -> dict[str, object]:
    """The columns that name a comparison; ``against`` is the heading of the reference."""
    cell = group.cell
    names = {"backbone": cell.backbone, "real_images": cell.real_images, "arm": cell.treatment}
    return {**names, against: reference.cell.treatment}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as strings with readable headings, intervals in square brackets."""
    words: dict[str, list[str]] = {"Classifier": [backbone_name(n) for n in table["backbone"]]}
    if (table["real_images"] != "").any():
        words["Real rare images"] = list(table["real_images"])
    words["Rare classes"] = list(table["treatment"])
    words["Seeds"] = [seed_ranges([int(one) for one in seeds.split()]) for seeds in table["seeds"]]
    for metric in (name.removesuffix(LOW) for name in table.columns if name.endswith(LOW)):
        rows = table[[metric, metric + LOW, metric + HIGH]].to_numpy()
        ends = [[None if np.isnan(value) else value for value in row] for row in rows]
        words[metric_name(metric)] = [with_interval(Estimate(*row)) for row in ends]
    return pd.DataFrame(words)


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table of :func:`readable`; numbers are aligned to the right."""
    words = readable(table)
    align = ["---" if name in WORDS else "---:" for name in words]
    rows = [list(words.columns), align, *words.to_numpy().tolist()]
    escaped = [map(in_markdown, row) for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def to_csv(table: pd.DataFrame) -> str:
    """All columns at full precision; an empty field where a value is not defined."""
    table = table.drop(columns="treatment", errors="ignore")
    return table.to_csv(index=False, lineterminator="\n")


def runs_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run (cell and seed): all metrics with intervals, counts, thresholds, seconds.

    ``n_train/…``, ``n_added/…`` and ``n_test/…`` are images, ``…/threshold`` and
    ``…/precision_at_threshold`` the working points chosen on validation, ``seconds/…`` the
    wall seconds of each stage.
    """
    rows = []
    for run in runs:
        results, names = run.results, run.results.class_names
        row: dict[str, object] = {"run": run.folder.name, **_key(run.cell), "seed": results.seed}
        counts = results.counts
        for part, of_class in (
            ("train", counts.train), ("added", counts.synthetic), ("test", counts.test),
        ):  # fmt: skip
            row |= {f"n_{part}/{name}": of_class.get(name, 0) for name in names}
        row |= _flat({metric: results.estimate(metric) for metric in metric_names(names)})
        for name, point in results.working_points.items():
            row |= {
                f"{name}/threshold": point.threshold,
                f"{name}/precision_at_threshold": point.precision,
                f"{name}/recall_at_threshold": point.recall,
            }
        row |= {f"seconds/{stage}": cost.wall_seconds for stage, cost in results.costs.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def differences_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One row per comparison and metric: difference, interval, p-values, effect sizes."""
    names = {"value": "difference", "p_value": "p", "p_adjusted": "p_holm",
             "compared": "comparisons", "standardised": "cohens_dz"}  # fmt: skip
    return pd.DataFrame(
        [
            {
                **_pair(one.group, "against", one.reference),
                **asdict(found),
                "seeds": " ".join(map(str, found.seeds)),
                "verdict": found.verdict,
            }
            for one in comparisons
            for found in one.differences
        ]
    ).rename(columns=names)


def answers_table(found: Sequence[Answer]) -> pd.DataFrame:
    """One row per cell with generated images: its gain on the best control, and the oracle's."""
    return pd.DataFrame(
        [
            {
                **_pair(one.group, "best_control", one.control),
                "metric": one.gain.metric,
                "seeds": " ".join(map(str, one.gain.seeds)),
                "p_holm": one.gain.p_adjusted,
                "verdict": one.gain.verdict,
                **_flat({"gain": one.gain, "oracle_gain": one.oracle, "share_closed": one.closed}),
            }
            for one in found
        ]
    )


def write_tables(
    folder: Path,
    runs: Sequence[Run],
    comparisons: Sequence[Comparison],
    found: Sequence[Answer],
) -> None:
    """Write the tables of a study, each whole or not at all.

    ``table.md`` and ``table.csv`` (cells over their repetitions), ``runs.csv`` (each run),
    ``differences.csv`` (each comparison) and ``answers.csv`` (generated images against the best
    control; where there are any).
    """
    table = study_table(runs)
    texts = {
        "table.md": to_markdown(table),
        "table.csv": to_csv(table),
        "runs.csv": to_csv(runs_table(runs)),
        "differences.csv": to_csv(differences_table(comparisons)),
    }
    if found:
        texts["answers.csv"] = to_csv(answers_table(found))
    for name, text in texts.items():
        write_text(folder / name, text)


def print_table(table: pd.DataFrame, console: Console | None = None) -> None:
    """Print the main metrics of :func:`study_table`.

    Those of one classifier fit a terminal of 80 columns, of several one of 100.
    """
    console = console or wide_console()
    words = readable(table[[*KEY_COLUMNS, *(m + end for m in CONSOLE_METRICS for end in ENDS)]])
    if len(set(table["backbone"])) == 1:
        console.print(escape(words.pop("Classifier").iloc[0]), style="bold")
    pretty = Table(box=None, header_style="bold", pad_edge=False)
    for name in map(str, words):
        pretty.add_column(
            name,
            justify="left" if name in WORDS else "right",
            no_wrap=name not in CONSOLE_WIDTHS,
            overflow="fold",
            max_width=CONSOLE_WIDTHS.get(name),
        )
    for row in words.to_numpy().tolist():
        pretty.add_row(*map(escape, row))
    console.print(pretty)
    console.print("Mean over seeds, 95 % interval in brackets.", style="dim")
