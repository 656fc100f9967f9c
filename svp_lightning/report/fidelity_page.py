"""The fidelity of generated images: a page of its own, and a section of a run's report."""

from dataclasses import dataclass
from pathlib import Path

from svp_lightning.data.classes import display_name
from svp_lightning.errors import DataError
from svp_lightning.report.fidelity_names import (
    FEATURE_NAMES,
    MEASURE_NAMES,
    RECOGNISED,
    excess_words,
    number,
    span,
)
from svp_lightning.report.fidelity_schema import ClassFidelity, FidelityFile, Finds, read_fidelity
from svp_lightning.report.fidelity_verdict import verdict_sentence
from svp_lightning.report.glossary import FIDELITY_TERMS, entries
from svp_lightning.report.inputs import FIGURES
from svp_lightning.report.page import Picture, embedded_file, write_page
from svp_lightning.report.run_figures import Shown
from svp_lightning.report.wording import percent

REPORT = "report.html"
FIGURE_CAPTIONS = {
    "morphology": (
        "What the particles measure",
        "Grey: held-out real images. Line: generated ones. Measured on the images alone. The "
        "profile is the grey level above the background from the centre outwards, in radii; "
        "median and the middle 80 %.",
    ),
    "distances": (
        "How close the training images are",
        "Generated images that copy would pile up on the left of the dashed line.",
    ),
    "pairs": (
        "Closest pairs",
        "The images that most stand out by one near training image, above that image, both turned "
        "alike. d: root mean square difference in grey levels; ratio: d over the distance to the "
        "second nearest, small for a copy.",
    ),
}


@dataclass(frozen=True)
class Section:
    """What the template shows of one class.

    Attributes:
        name: the class.
        compared: images of each set.
        features: (measure, best, value, its range, floor, its range) of the feature measures.
        morphology: (measure, KS, range, floor, range, Wasserstein, floor, real mean, generated
            mean).
        copies: (question, generated, what held-out images would give) of the signs of copying.
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
    """All of it: one verdict sentence and one part per class."""

    verdicts: list[str]
    classes: list[Section]


def fidelity_section(folder: Path) -> FidelitySection | None:
    """What a page says about ``fidelity.json`` in ``folder``; None where there is none.

    Raises:
        DataError: the file is malformed.
    """
    found = read_fidelity(folder)
    if found is None:
        return None
    return FidelitySection(
        verdicts=[verdict_sentence(name, one.memorisation) for name, one in found.classes.items()],
        classes=[_class_section(folder, name, one) for name, one in found.classes.items()],
    )


def fidelity_report(folder: Path) -> Path:
    """Write ``report.html`` of an assessment beside its ``fidelity.json``.

    Raises:
        DataError: the file is missing or malformed.
    """
    found, section = read_fidelity(folder), fidelity_section(folder)
    if found is None or section is None:
        raise DataError(f"{folder} has no fidelity.json.", "Run task=assess first.")
    values = {
        "title": "Generated images beside real ones",
        "headline": section.verdicts,
        "fidelity": section,
        "provenance": _provenance(found),
        "glossary": entries(FIDELITY_TERMS),
    }
    return write_page(folder / REPORT, "fidelity.html.j2", values)


def _class_section(folder: Path, name: str, one: ClassFidelity) -> Section:
    features = []
    pairs = [(*FEATURE_NAMES[measure], one.features[measure]) for measure in FEATURE_NAMES]
    if one.recognised is not None:
        pairs.append((*RECOGNISED, one.recognised))
    for label, best, pair in pairs:
        values = (f(e) for e in (pair.generated, pair.floor) for f in (_value, span))
        features.append((label, best, *values))
    morphology = []
    for measure, label in MEASURE_NAMES.items():
        both = one.morphology[measure]
        values = (f(e) for e in (both.ks.generated, both.ks.floor) for f in (_value, span))
        distances = (number(e.value) for e in (both.wasserstein.generated, both.wasserstein.floor))
        means = number(both.real_mean), number(both.generated_mean)
        morphology.append((label, *values, *distances, *means))
    return Section(
        name=name,
        compared=one.compared,
        features=features,
        morphology=morphology,
        copies=_copies(one),
        figures=_figures(folder, name),
    )


def _value(estimate: object) -> str:
    return number(getattr(estimate, "value", None))


def _copies(one: ClassFidelity) -> list[tuple[str, ...]]:
    found = one.memorisation
    questions = {
        "Near a training image, in grey levels": found.pixel.closer,
        "One far nearer than the next, in grey levels": found.pixel.singular,
        "Near a training image, in features": found.feature.closer,
        "One far nearer than the next, in features": found.feature.singular,
        "Near another generated image": found.duplicates,
    }
    rows: list[tuple[str, ...]] = [
        (question, excess_words(x), f"{100 * x.expected:.1f} %", _p_value(x.p_value))
        for question, x in questions.items()
    ]
    together = {
        "Both of these, in grey levels": found.pixel.both,
        "Both of these, in features": found.feature.both,
        "Equal to a training image, in grey levels": found.pixel.identical,
        "Equal to a training image, in features": found.feature.identical,
    }
    return rows + [(question, *_finds(x)) for question, x in together.items() if x is not None]


def _finds(x: Finds) -> tuple[str, str, str]:
    held = f"{x.heldout_count:,} of {x.heldout_total:,} held-out"
    return f"{x.count:,} of {x.total:,} ({percent(x.count / x.total)})", held, _p_value(x.p_value)


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _figures(folder: Path, name: str) -> list[Picture]:
    return [
        embedded_file(Shown(path, f"{title}: {display_name(name).lower()}", caption))
        for kind, (title, caption) in FIGURE_CAPTIONS.items()
        if (path := folder / FIGURES / f"fidelity_{kind}_{name}.png").is_file()
    ]


def _provenance(found: FidelityFile) -> list[tuple[str, str]]:
    rows = [
        ("Feature network", ", ".join(f"{k} {v}" for k, v in found.feature_network.items())),
    ]
    for key, value in found.provenance.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        if value:
            rows.append((PROVENANCE_NAMES.get(key, key.capitalize()), str(value)))
    return rows


PROVENANCE_NAMES = {
    "data": "Real data (SHA-256)",
    "generator": "Generator (SHA-256)",
    "synthetic": "Synthetic data (SHA-256)",
    "git": "Source revision",
}
