"""``task=report``: one page, one table and one CSV over all runs of a study."""

from svp_lightning.pipeline import Pipeline
from svp_lightning.report.study import study_report
from svp_lightning.report.study_runs import read_study
from svp_lightning.report.study_tables import print_table, study_table
from svp_lightning.runtime.terminal import say


def run(pipeline: Pipeline) -> None:
    """Write the report of ``study`` and print its table."""
    config = pipeline.config
    folder = config.paths.outputs / config.study
    page = study_report(folder)
    print_table(study_table(read_study(folder)))
    say(f"Report: {page}")
