"""``report.html`` of one run."""

from collections.abc import Mapping
from pathlib import Path

from svp_lightning.evaluation.tally import CLASS_METRICS
from svp_lightning.report.fidelity_page import fidelity_section
from svp_lightning.report.glossary import FIDELITY_TERMS, RUN_TERMS, entries
from svp_lightning.report.inputs import (
    COMMAND,
    OVERALL_METRICS,
    RunResult,
    predictions_of,
    read_results,
)
from svp_lightning.report.page import embedded_file, write_page
from svp_lightning.report.run_details import draw_details, run_details
from svp_lightning.report.run_figures import draw_missing_figures, known_figures, sample_sheets
from svp_lightning.report.run_findings import (
    PARTICLES,
    expected_counts,
    headline,
    prevalence_sentence,
)
from svp_lightning.report.wording import cell_name, duration

REPORT = "report.html"
GENERATOR_FIGURES = ("noise_to_image",)


def run_report(run_dir: Path | str) -> Path:
    """Write ``report.html`` beside ``results.json``; figures not drawn yet are drawn first.

    The page is self-contained: it opens without a network and can be sent by mail.

    Args:
        run_dir: the folder of a finished evaluation.

    Returns:
        The path of the page.

    Raises:
        DataError: a file is missing or malformed.
    """
    folder = Path(run_dir)
    run = read_results(folder)
    predictions = predictions_of(run)
    if predictions is not None:
        draw_missing_figures(run, predictions)
    draw_details(run)
    fidelity = fidelity_section(folder)
    figures = [embedded_file(shown) for shown in known_figures(folder)]
    return write_page(
        folder / REPORT,
        "run.html.j2",
        {
            "title": cell_name(run.cell),
            "run": run,
            "headline": [sentence for sentence in headline(run, predictions) if sentence],
            "prevalence": prevalence_sentence(run),
            "overall_metrics": OVERALL_METRICS,
            "class_metrics": CLASS_METRICS,
            "particles": PARTICLES,
            "expected": expected_counts(run, predictions) if predictions is not None else None,
            "figures": [one for one in figures if one.name not in GENERATOR_FIGURES],
            "generator_figures": [one for one in figures if one.name in GENERATOR_FIGURES],
            "sheets": [embedded_file(shown) for shown in sample_sheets(run)],
            **run_details(run),
            "provenance": provenance_rows(run),
            "command": command_of(folder),
            "fidelity": fidelity,
            "glossary": entries(RUN_TERMS if fidelity is None else RUN_TERMS + FIDELITY_TERMS),
        },
    )


def command_of(folder: Path) -> str:
    """The command line that made the run, empty where it was not kept."""
    file = folder / COMMAND
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def provenance_rows(run: RunResult) -> list[tuple[str, str]]:
    """(name, value) of everything the run recorded about its making."""
    rows = []
    for key, value in run.provenance.items():
        if value in (None, "", {}, []):
            continue
        if isinstance(value, Mapping):
            words = ", ".join(f"{name} {version}" for name, version in value.items())
        else:
            words = duration(value) if key == "wall_seconds" else str(value)
        rows.append((PROVENANCE_NAMES.get(key, key.replace("_", " ").capitalize()), words))
    return rows


PROVENANCE_NAMES = {
    "data": "Real data (SHA-256)",
    "generator": "Generator (SHA-256)",
    "synthetic": "Synthetic data (SHA-256)",
    "config": "Configuration (SHA-256)",
    "git": "Source revision",
    "wall_seconds": "Wall time",
}
