"""``task=report``: one page, one table and one CSV over all runs of a study."""

from pathlib import Path

from svp_lightning.config import Config
from svp_lightning.errors import DataError
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.study import study_report
from svp_lightning.report.study_runs import read_study
from svp_lightning.report.study_tables import print_table, study_table
from svp_lightning.runtime.terminal import say


def run(pipeline: Pipeline) -> None:
    """Write the report of ``study`` and print its table."""
    folder = study_folder(pipeline.config)
    page = study_report(folder)
    print_table(study_table(read_study(folder)))
    say(f"Report: {page}")


def study_folder(config: Config) -> Path:
    """The folder of the study's runs.

    Raises:
        DataError: there is none.
    """
    folder = config.paths.outputs / config.study
    if not folder.is_dir():
        raise DataError(
            f"There is no study {config.study!r} in {config.paths.outputs}.",
            "Name one with study=… (or +experiment=…), or run its cells first with -m.",
        )
    return folder
