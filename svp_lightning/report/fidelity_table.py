"""``fidelity.json`` as a table on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from svp_lightning.data.classes import display_name
from svp_lightning.errors import DataError
from svp_lightning.report.fidelity_names import (
    FEATURE_NAMES,
    MEASURE_NAMES,
    RECOGNISED,
    number,
    with_span,
)
from svp_lightning.report.fidelity_schema import Compared, FidelityFile, read_fidelity
from svp_lightning.report.fidelity_verdict import verdict_sentence


def print_fidelity(folder: Path, console: Console | None = None) -> None:
    """Print the measures of each class beside their floors, then the verdicts on copies.

    Raises:
        DataError: the folder holds no readable ``fidelity.json``.
    """
    found = read_fidelity(folder)
    if found is None:
        raise DataError(f"{folder} has no fidelity.json.", "Run task=assess first.")
    console = console or Console()
    console.print(fidelity_table(found))
    console.print(
        "Against held-out real images, 95 % interval in brackets. Floor: as many real training "
        "images in place of the generated ones.",
        style="dim",
    )
    for name, one in found.classes.items():
        console.print(verdict_sentence(name, one.memorisation), highlight=False)


def _generated(pair: Compared) -> str:
    return with_span(pair.generated)


def _floor(pair: Compared) -> str:
    return number(pair.floor.value)


def fidelity_table(found: FidelityFile) -> Table:
    """One row per measure, two columns per class."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in found.classes:
        table.add_column(display_name(name), justify="right", no_wrap=True)
        table.add_column("floor", justify="right", no_wrap=True)

    def add(label: str, pairs: list[Compared]) -> None:
        cells = [f(pair) for pair in pairs for f in (_generated, _floor)]
        table.add_row(label, *(cell.replace("[", r"\[") for cell in cells))

    for measure, (label, _) in FEATURE_NAMES.items():
        add(label, [one.features[measure] for one in found.classes.values()])
    shares = [one.recognised for one in found.classes.values()]
    if known := [pair for pair in shares if pair is not None]:
        add(RECOGNISED[0], known)
    for measure, label in MEASURE_NAMES.items():
        add(f"{label}, KS", [one.morphology[measure].ks for one in found.classes.values()])
    return table
