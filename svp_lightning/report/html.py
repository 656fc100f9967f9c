"""The two pages: ``run_report`` for one run, ``study_report`` for a folder of runs."""

from svp_lightning.report.run_page import run_report
from svp_lightning.report.study_page import study_report

__all__ = ["run_report", "study_report"]
