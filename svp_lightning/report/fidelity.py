"""The fidelity of generated images: a page, a section of a run's page, and a table to print."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.fidelity.stored import (
    FIDELITY,
    ClassFidelity,
    Compared,
    Copies,
    Fidelity,
    TailCount,
    read_fidelity,
)
from svp_lightning.evaluation.schema import Estimate
from svp_lightning.report.page import (
    FIGURES,
    REPORT,
    Picture,
    pictures,
    provenance_rows,
    write_page,
)
from svp_lightning.report.text import FIDELITY_TERMS, UNKNOWN, glossary, p_cell, p_value, percent

FEATURE_NAMES = {
    "fid": ("FID, own features", "lower"),
    "kid": ("KID, own features", "about 0"),
    "precision": ("Precision (fidelity)", "higher"),
    "recall": ("Recall (variety)", "higher"),
    "density": ("Density (fidelity)", "about 1"),
    "coverage": ("Coverage (variety)", "higher"),
    "auc": ("Two-sample AUC", "0.5"),
}
"""Measure -> name, best value."""
RECOGNISED = ("Taken for its class", "as real")
FLOOR = f"Floor: real training images; of “{RECOGNISED[0]}”, held-out ones."
MEASURE_NAMES = {
    "ecd": "Diameter (ECD)",
    "circularity": "Circularity",
    "aspect_ratio": "Aspect ratio",
    "mean_intensity": "Mean intensity",
    "min_intensity": "Minimum intensity",
    "edge_gradient": "Edge gradient",
    "radial_profile": "Radial profile",
}
FIGURE_CAPTIONS = {
    "morphology": (
        "What the particles measure",
        "Grey: held-out real images; line: generated ones. Profile: grey level from the centre "
        "outwards, in radii; median and middle 80 %.",
    ),
    "distances": (
        "How close the training images are",
        "Copies would pile up on the left of the dashed line.",
    ),
    "pairs": (
        "Closest pairs",
        "Images above their nearest training image, turned alike. d: difference in grey levels "
        "(RMS); ratio: d over the distance to the second nearest, small for a copy.",
    ),
}
COPIES_CAPTION = (
    "Signs of copying: images nearer than the nearest 5 % of held-out real images. A copy shows "
    "both signs in one space, or equals a training image (p < 0.01)"
)

Cell = tuple[str, str]
"""A value and its range, as text; the range may be empty."""


class Rows(NamedTuple):
    """A table of one class; a row is a name and its cells."""

    caption: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, tuple[Cell, ...]]]


class Section(NamedTuple):
    """What a page shows of one class: features, morphology, signs of copying; and pictures."""

    name: str
    tables: tuple[Rows, Rows, Rows]
    figures: list[Picture]


class FidelitySection(NamedTuple):
    """A verdict on copies and a part per class."""

    verdicts: list[str]
    classes: list[Section]


def fidelity_section(folder: Path) -> FidelitySection | None:
    """What a page says about ``fidelity.json`` in ``folder``; None where there is none.

    Raises:
        ArtifactError: the file is malformed.
    """
    file = folder / FIDELITY
    return _section(folder, read_fidelity(file)) if file.is_file() else None


def fidelity_report(folder: Path) -> Path:
    """Write ``report.html`` of an assessment into its folder.

    Raises:
        ArtifactError: the file is missing or malformed.
    """
    found = read_fidelity(folder / FIDELITY)
    section = _section(folder, found)
    network = ", ".join(f"{k} {v}" for k, v in found.feature_network.items())
    values = {
        "title": "Generated and real images",
        "headline": section.verdicts,
        "fidelity": section,
        "provenance": [("Feature network", network), *provenance_rows(found.provenance)],
        "glossary": glossary(FIDELITY_TERMS),
    }
    return write_page(folder / REPORT, "fidelity.html.j2", values)


def print_fidelity(folder: Path) -> None:
    """Print the measures of each class with their floors, then the verdicts on copies.

    Raises:
        ArtifactError: the folder holds no readable ``fidelity.json``.
    """
    found = read_fidelity(folder / FIDELITY)
    console = Console()
    # One space between columns: two classes then fit 80 columns.
    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    for name in found.classes:
        table.add_column(display_name(name), justify="right", no_wrap=True)
        table.add_column("floor", justify="right", no_wrap=True)
    columns = [
        {name: pair for name, _, pair in _features(one)}
        | {f"{label}, KS": one.morphology[name].ks for name, label in MEASURE_NAMES.items()}
        for one in found.classes.values()
    ]
    for label in columns[0]:
        cells = []
        for pair in (column[label] for column in columns):
            value, ends = _cell(pair.generated, ", ")
            cells += [rf"{value} \[{ends}]", _number(pair.floor.value)]
        table.add_row(label, *cells)
    console.print(table)
    console.print(f"95 % interval in brackets. {FLOOR}", style="dim")
    for name, one in found.classes.items():
        console.print(verdict_sentence(name, one.memorisation), highlight=False)


def _section(folder: Path, found: Fidelity) -> FidelitySection:
    classes = []
    for name, one in found.classes.items():
        words = {
            f"fidelity_{kind}_{name}": (f"{title}: {display_name(name).lower()}", caption)
            for kind, (title, caption) in FIGURE_CAPTIONS.items()
        }
        tables = _feature_rows(one), _morphology_rows(one), _copy_rows(one.memorisation)
        classes.append(Section(name, tables, pictures(folder / FIGURES, words)))
    verdicts = [verdict_sentence(name, one.memorisation) for name, one in found.classes.items()]
    return FidelitySection(verdicts, classes)


def _features(one: ClassFidelity) -> list[tuple[str, str, Compared]]:
    """Name, best value and estimates of each measure in features."""
    rows = [(*words, one.features[measure]) for measure, words in FEATURE_NAMES.items()]
    return [*rows, (*RECOGNISED, one.recognised)]


def _feature_rows(one: ClassFidelity) -> Rows:
    rows = [
        (name, ((best, ""), _cell(pair.generated), _cell(pair.floor)))
        for name, best, pair in _features(one)
    ]
    caption = f"{one.compared:,} generated against {one.compared:,} held-out real images"
    return Rows(caption, ("In features", "Best", "Generated", "Floor (real)"), rows)


def _morphology_rows(one: ClassFidelity) -> Rows:
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    for measure, label in MEASURE_NAMES.items():
        both = one.morphology[measure]
        apart = (both.wasserstein.generated.value, both.wasserstein.floor.value)
        numbers = [(_number(value), "") for value in (*apart, both.real_mean, both.generated_mean)]
        rows.append((label, (_cell(both.ks.generated), _cell(both.ks.floor), *numbers)))
    return Rows(
        "Distances between the distributions of what the images measure (0 is best)",
        ("On the particle", "Kolmogorov-Smirnov", "Floor (real)", "Wasserstein, in SD",
         "Floor (real)", "Mean, real", "Mean, generated"),
        rows,
    )  # fmt: skip


def _copy_rows(found: Copies) -> Rows:
    spaces = {"in grey levels": found.pixel, "in features": found.feature}
    tails, signs = {}, {}
    for words, space in spaces.items():
        tails[f"Near a training image, {words}"] = space.closer
        tails[f"One far nearer than the next, {words}"] = space.singular
        signs[f"Both of these, {words}"] = space.both
    tails["Near another generated image"] = found.duplicates
    signs |= {f"Equal to a training image, {w}": space.identical for w, space in spaces.items()}
    rows = [
        (label, _tail_words(one), f"{100 * one.expected:.1f} %", one.p_value)
        for label, one in tails.items()
    ]
    rows += [
        (label, _share(sign.count, sign.total),
         f"{sign.heldout_count:,} of {sign.heldout_total:,} held-out", sign.p_value)
        for label, sign in signs.items()
    ]  # fmt: skip
    return Rows(
        COPIES_CAPTION,
        ("Sign", "Generated images", "Expected if new", "p"),
        [(name, ((new, ""), (old, ""), (p_cell(p), ""))) for name, new, old, p in rows],
    )


def verdict_sentence(class_name: str, copies: Copies) -> str:
    """Are the generated images of a class copies? A sentence or two with numbers."""
    name, few = display_name(class_name), _few_copies(copies)
    spaces = [copies.pixel, copies.feature]
    match copies.verdict:
        case "copies":
            both = max((space.both for space in spaces), key=lambda one: one.count)
            return (
                f"{name}: signs of copying. {few} {_share(both.count, both.total)} have one "
                f"training image far closer than any other ({p_value(both.p_value)})."
            )
        case "close":
            closer = min((space.closer for space in spaces), key=lambda one: one.p_value)
            return (
                f"{name}: no copies found, but {_tail_words(closer)} lie closer to training images "
                f"than held-out ones do ({p_value(closer.p_value)}): they vary less. {few}"
            )
        case "novel":
            return f"{name}: no sign of copying. {few}"


def _few_copies(copies: Copies) -> str:
    """How many images equal a training image, and which share of other copies would be noticed.

    The latter only where there is no sign of copying.
    """
    identical = max(copies.pixel.identical, copies.feature.identical, key=lambda one: one.count)
    words = f"None of {identical.total:,} generated images equals a training image."
    if identical.count:
        words = (
            f"{_share(identical.count, identical.total)} generated images equal a training image, "
            f"and {identical.heldout_count:,} of {identical.heldout_total:,} held-out ones."
        )
    if copies.verdict != "novel":
        return words
    if (share := copies.pixel.both.smallest_share) is None:
        return f"{words} Too few images to notice copies that differ from their originals."
    return f"{words} Other copies would be noticed only from {percent(share)} of the images on."


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({percent(count / total)})"


def _tail_words(tail: TailCount) -> str:
    """``"12 of 300 (4.0 %, 2.3 % to 6.9 %)"``."""
    ends = f"{percent(tail.share.low or 0)} to {percent(tail.share.high or 0)}"
    return f"{tail.count:,} of {tail.total:,} ({percent(tail.share.value or 0)}, {ends})"


def _number(value: float | None) -> str:
    """Three significant places or more, and three decimals below 10."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _cell(estimate: Estimate, between: str = " to ") -> Cell:
    return _number(estimate.value), f"{_number(estimate.low)}{between}{_number(estimate.high)}"
