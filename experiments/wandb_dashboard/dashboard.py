"""Set up the W&B workspace of a study: ``python experiments/wandb_dashboard/dashboard.py --help``.

Needs ``pip install '.[dashboard]'``, a W&B account and synced runs; see README.md.
Building the workspace needs none of these but the library; only saving it goes to the network.
"""

import argparse
from typing import Any

import wandb_workspaces.reports.v2 as panels
import wandb_workspaces.workspaces as workspaces
from wandb_workspaces import expr

from svp_lightning.data.classes import PAPER_CLASSES, display_name
from svp_lightning.report.text import METRIC_NAMES

MACRO = ("macro_auprc", "macro_precision", "macro_recall", "macro_f1")
PER_CLASS = ("precision", "recall", "auprc", "recall_at_precision_95")
TRAINING = {
    "Classifier: loss": ("train/loss", "val/loss"),
    "Classifier: validation score": ("val/macro_auprc",),
    "Generator: loss": ("generator/loss",),
}
FIGURES = ("precision_recall", "precision_recall_log", "confusion", "worst_mistakes",
           "noise_to_image")  # fmt: skip
TREATMENT = ("backbone", "method", "ratio", "rare_images", "experiment")
"""Configuration keys that make a treatment; runs that differ in the seed only are averaged."""


def build_workspace(
    entity: str, project: str, study: str, class_names: tuple[str, ...] = PAPER_CLASSES
) -> workspaces.Workspace:
    """The workspace of one study, not saved yet.

    Args:
        entity: W&B user or team.
        project: W&B project (``logger.wandb.project``).
        study: the study's name, which is the runs' group.
        class_names: classes of the data.
    """
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"Study {study}",
        sections=[
            _section("Test results", [_bars(f"test/{m}", METRIC_NAMES[m]) for m in MACRO]),
            *[_class_section(name) for name in class_names],
            _section("Against the ratio", [_against_ratio(metric) for metric in MACRO[:2]]),
            _section("Training", [_curve(title, keys) for title, keys in TRAINING.items()]),
            _section("Figures", [_figure(name) for name in FIGURES], open_=False),
        ],
        settings=workspaces.WorkspaceSettings(x_axis="trainer/global_step", max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            filters=expr.And(expr.Metric("Group") == study),
            groupby=[expr.Config(key) for key in TREATMENT],
            pinned_columns=[f"summary:test/{metric}" for metric in MACRO],
        ),
    )


def _section(name: str, shown: list[Any], open_: bool = True) -> workspaces.Section:
    return workspaces.Section(name=name, panels=shown, is_open=open_)


def _class_section(name: str) -> workspaces.Section:
    bars = [_bars(f"test/{name}/{metric}", METRIC_NAMES[metric]) for metric in PER_CLASS]
    return _section(display_name(name), bars)


def _bars(key: str, title: str) -> panels.BarPlot:
    """One bar for each treatment, over its seeds, with the range of the seeds."""
    return panels.BarPlot(
        title=title,
        metrics=[panels.SummaryMetric(key)],
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_bars_to_show=50,
    )


def _against_ratio(metric: str) -> panels.ScatterPlot:
    return panels.ScatterPlot(
        title=f"{METRIC_NAMES[metric]} against the ratio",
        x=panels.Config("ratio"),
        y=panels.SummaryMetric(f"test/{metric}"),
    )


def _curve(title: str, keys: tuple[str, ...]) -> panels.LinePlot:
    return panels.LinePlot(title=title, x="trainer/global_step", y=list(keys))


def _figure(name: str) -> panels.MediaBrowser:
    return panels.MediaBrowser(title=name.replace("_", " "), media_keys=[f"figures/{name}"])


def main() -> None:
    """Build the workspace and save it to W&B."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="name of the study: the runs' group")
    parser.add_argument("--entity", required=True, help="W&B user or team")
    parser.add_argument("--project", default="svp_lightning")
    parser.add_argument("--classes", nargs="+", default=list(PAPER_CLASSES))
    given = parser.parse_args()
    workspace = build_workspace(given.entity, given.project, given.study, tuple(given.classes))
    workspace.save()
    print(f"Workspace: {workspace.url}")


if __name__ == "__main__":
    main()
