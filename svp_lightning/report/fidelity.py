"""The fidelity of generated images: a page, a section of a run's page, and a table to print."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.schema import (
    FIDELITY,
    ClassFidelity,
    Compared,
    Copies,
    Estimate,
    Fidelity,
    Memorisation,
    SignCount,
    TailCount,
    read_fidelity,
)
from svp_lightning.report.page import (
    FIGURES,
    REPORT,
    FigureFile,
    Picture,
    embedded_file,
    provenance_rows,
    write_page,
)
from svp_lightning.report.text import FIDELITY_TERMS, UNKNOWN, glossary, p_value, percent

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
MEASURE_NAMES = {
    "ecd": "Diameter (ECD)",
    "circularity": "Circularity",
    "aspect_ratio": "Aspect ratio",
    "mean_intensity": "Mean intensity",
    "min_intensity": "Minimum intensity",
    "edge_gradient": "Edge gradient",
    "radial_profile": "Radial profile",
}
SPACES = {"pixel": "grey levels", "feature": "feature space"}
GRAVITY = {"novel": 0, "close": 1, "copies": 2}
FIGURE_CAPTIONS = {
    "morphology": (
        "What the particles measure",
        "Grey: held-out real images. Line: generated ones. The profile is the grey level above "
        "the background from the centre outwards, in radii; median and the middle 80 %.",
    ),
    "distances": (
        "How close the training images are",
        "Copies would pile up on the left of the dashed line.",
    ),
    "pairs": (
        "Closest pairs",
        "Images above their nearest training image, turned alike. d: root mean square difference "
        "in grey levels; ratio: d over the distance to the second nearest, small for a copy.",
    ),
}


@dataclass(frozen=True)
class Section:
    """What the template shows of one class; every cell is text.

    Attributes:
        name: the class.
        compared: images of each set.
        features: (measure, best, value, its range, floor, its range).
        morphology: (measure, KS, range, floor, range, Wasserstein, floor, real mean, generated
            mean).
        copies: (sign, generated, expected, p).
        figures: pictures of the class.
    """

    name: str
    compared: int
    features: list[tuple[str, ...]]
    morphology: list[tuple[str, ...]]
    copies: list[tuple[str, ...]]
    figures: list[Picture]


@dataclass(frozen=True)
class FidelitySection:
    """A verdict sentence and a part per class."""

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


def print_fidelity(folder: Path, console: Console | None = None) -> None:
    """Print the measures of each class with their floors, then the verdicts on copies.

    Raises:
        ArtifactError: the folder holds no readable ``fidelity.json``.
    """
    found = read_fidelity(folder / FIDELITY)
    console = console or Console()
    console.print(_console_table(found))
    console.print(
        "Against held-out real images, 95 % interval in brackets. Floor: as many real training "
        "images in place of the generated ones.",
        style="dim",
    )
    for name, one in found.classes.items():
        console.print(verdict_sentence(name, one.memorisation), highlight=False)


def _console_table(found: Fidelity) -> Table:
    """One row per measure, two columns per class."""
    # One space between columns: two classes then fit 80 columns.
    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    for name in found.classes:
        table.add_column(display_name(name), justify="right", no_wrap=True)
        table.add_column("floor", justify="right", no_wrap=True)
    columns = [_compared(one) for one in found.classes.values()]
    for label in columns[0]:
        cells = [cell for column in columns for cell in _console_cells(column[label])]
        table.add_row(label, *cells)
    return table


def _console_cells(pair: Compared) -> tuple[str, str]:
    new = pair.generated
    return rf"{_number(new.value)} \[{_span(new, ', ')}]", _number(pair.floor.value)


def _compared(one: ClassFidelity) -> dict[str, Compared]:
    """Name -> what the printed table shows of a class."""
    features = {FEATURE_NAMES[name][0]: one.features[name] for name in FEATURE_NAMES}
    shapes = {f"{label}, KS": one.morphology[name].ks for name, label in MEASURE_NAMES.items()}
    return features | {RECOGNISED[0]: one.recognised} | shapes


def _section(folder: Path, found: Fidelity) -> FidelitySection:
    return FidelitySection(
        verdicts=[verdict_sentence(name, one.memorisation) for name, one in found.classes.items()],
        classes=[_class_section(folder, name, one) for name, one in found.classes.items()],
    )


def _class_section(folder: Path, name: str, one: ClassFidelity) -> Section:
    rows = [(*FEATURE_NAMES[measure], one.features[measure]) for measure in FEATURE_NAMES]
    rows.append((*RECOGNISED, one.recognised))
    morphology = []
    for measure, label in MEASURE_NAMES.items():
        both = one.morphology[measure]
        rest = (both.wasserstein.generated.value, both.wasserstein.floor.value)
        means = (both.real_mean, both.generated_mean)
        morphology.append((label, *_cells(both.ks), *map(_number, rest + means)))
    return Section(
        name=name,
        compared=one.compared,
        features=[(label, best, *_cells(pair)) for label, best, pair in rows],
        morphology=morphology,
        copies=_copies(one.memorisation),
        figures=[
            embedded_file(FigureFile(path, f"{title}: {display_name(name).lower()}", caption))
            for kind, (title, caption) in FIGURE_CAPTIONS.items()
            if (path := folder / FIGURES / f"fidelity_{kind}_{name}.png").is_file()
        ],
    )


def _copies(found: Copies) -> list[tuple[str, ...]]:
    spaces = {"in grey levels": found.pixel, "in features": found.feature}
    tails = {}
    for words, space in spaces.items():
        tails[f"Near a training image, {words}"] = space.closer
        tails[f"One far nearer than the next, {words}"] = space.singular
    tails["Near another generated image"] = found.duplicates
    signs = {f"Both of these, {words}": space.both for words, space in spaces.items()}
    signs |= {f"Equal to a training image, {w}": space.identical for w, space in spaces.items()}
    rows: list[tuple[str, ...]] = [
        (label, _tail_words(one), f"{100 * one.expected:.1f} %", _p(one.p_value))
        for label, one in tails.items()
    ]
    for label, sign in signs.items():
        share = f"{sign.count:,} of {sign.total:,} ({percent(sign.count / sign.total)})"
        held = f"{sign.heldout_count:,} of {sign.heldout_total:,} held-out"
        rows.append((label, share, held, _p(sign.p_value)))
    return rows


def verdict_sentence(class_name: str, copies: Copies) -> str:
    """Are the generated images of a class copies? A few sentences with numbers."""
    name = display_name(class_name)
    graver = max(SPACES, key=lambda space: _gravity(getattr(copies, space)))
    found: Memorisation = getattr(copies, graver)
    closer, few = _closer(found, SPACES[graver]), few_copies(copies)
    match copies.verdict:
        case "copies":
            return f"{name}: signs of copying. {few} {closer}. {_alone(found)}."
        case "close":
            return (
                f"{name}: no copies found. {closer}, but no single training image stands out "
                f"({_singular(found)}): the images are smoother or less varied than real ones. "
                f"{few}"
            )
        case "novel":
            return f"{name}: no sign of copying. {closer}. {_alone(found)}. {few}"


def _gravity(found: Memorisation) -> tuple[float, ...]:
    """Of two spaces with one verdict, the one that tells more of copies comes first."""
    return GRAVITY[found.verdict], found.copies.value or 0, found.closer.share.value or 0


def few_copies(copies: Copies) -> str:
    """How many images equal a training image, and which share of other copies would be noticed.

    The latter only where there is no sign of copying.
    """
    identical = max(copies.pixel.identical, copies.feature.identical, key=lambda one: one.count)
    words = _identical(identical)
    return f"{words} {_noticed(copies.pixel.both)}" if copies.verdict == "novel" else words


def _identical(found: SignCount) -> str:
    if not found.count:
        return f"None of {found.total:,} generated images equals a training image."
    share = percent(found.count / found.total)
    verb = "equals" if found.count == 1 else "equal"
    words = f"{found.count:,} of {found.total:,} ({share}) generated images {verb} a training image"
    if not found.heldout_count:
        return f"{words}, none of {found.heldout_total:,} held-out real images does."
    held = f"{found.heldout_count:,} of {found.heldout_total:,}"
    return f"{words}, and {held} held-out real images ({p_value(found.p_value)})."


def _noticed(both: SignCount) -> str:
    if both.smallest_share is None:
        return "The images are too few to notice copies that differ from their originals at all."
    share = percent(both.smallest_share)
    return f"Copies that differ a little would be noticed only from {share} of the images on."


def _closer(found: Memorisation, where: str) -> str:
    return (
        f"{_tail_words(found.closer)} generated images lie closer to a training image in {where} "
        f"than the closest {percent(found.closer.expected)} of held-out real images "
        f"({p_value(found.closer.p_value)})"
    )


def _alone(found: Memorisation) -> str:
    both = found.both
    held = percent(both.heldout_count / both.heldout_total)
    return (
        f"{percent(found.copies.value or 0)} ({_percents(found.copies)}) also have one training "
        f"image far closer than any other (of held-out ones {held}, {p_value(both.p_value)})"
    )


def _singular(found: Memorisation) -> str:
    tail = found.singular
    return (
        f"{percent(tail.share.value or 0)} have one far closer than any other, "
        f"{percent(tail.expected)} expected, {p_value(tail.p_value)}"
    )


def _number(value: float | None) -> str:
    """Three significant places at least, small values not rounded to nothing."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _span(estimate: Estimate, between: str = " to ") -> str:
    return f"{_number(estimate.low)}{between}{_number(estimate.high)}"


def _cells(pair: Compared) -> list[str]:
    """Value, its range, floor, its range."""
    return [f(one) for one in (pair.generated, pair.floor) for f in (_value, _span)]


def _value(estimate: Estimate) -> str:
    return _number(estimate.value)


def _percents(share: Estimate) -> str:
    return f"{percent(share.low or 0)} to {percent(share.high or 0)}"


def _tail_words(tail: TailCount) -> str:
    """``"12 of 300 (4.0 %, 2.3 % to 6.9 %)"``."""
    share = percent(tail.share.value or 0)
    return f"{tail.count:,} of {tail.total:,} ({share}, {_percents(tail.share)})"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
