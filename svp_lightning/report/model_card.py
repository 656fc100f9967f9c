"""The model card of an exported generator: a README with the front matter that model hubs read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from svp_lightning import __version__
from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.schema import Compared, Estimate, Fidelity
from svp_lightning.report.fidelity import verdict_sentence
from svp_lightning.runtime.files import replacing


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        generator: the content of ``generator.json``: settings, classes, sizes, training.
        sampler: the default sampler's settings.
        origin: where the training images come from, as a sentence.
        parameters: weights of the network.
        samples_per_class: images of each class in the sample data set.
        fidelity: what ``task=assess`` found, where it has run.
        licence: SPDX name, or ``other``.
        weights_sha256: of the generator as trained.
        seconds: wall time of its training, where its record says so.
    """

    generator: Mapping[str, Any]
    sampler: Mapping[str, Any]
    origin: str
    parameters: int
    samples_per_class: int
    fidelity: Fidelity | None
    licence: str
    weights_sha256: str
    seconds: float | None


@dataclass(frozen=True)
class Measure:
    """One line of the card's table of measurements."""

    of: str
    name: str
    value: str
    interval: str
    floor: str


def write_model_card(path: Path, card: Card) -> None:
    """Write the card to ``path`` as Markdown."""
    environment = Environment(
        loader=PackageLoader("svp_lightning.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    )
    environment.filters["display"] = display_name
    text = environment.get_template("model_card.md.j2").render(
        card=card,
        measures=list(measures(card.fidelity)) if card.fidelity else [],
        verdicts=[
            verdict_sentence(name, one.memorisation)
            for name, one in (card.fidelity.classes.items() if card.fidelity else ())
        ],
        version=__version__,
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def measures(found: Fidelity) -> Iterator[Measure]:
    """Every estimate of a fidelity file, with its floor where it has one."""
    for class_name, one in found.classes.items():
        name, copies = display_name(class_name), one.memorisation
        for feature, pair in one.features.items():
            yield _compared(f"{name}, Features", feature, pair)
        yield _compared(name, "recognised", one.recognised)
        for measure, distance in one.morphology.items():
            where = f"{name}, Morphology, {display_name(measure)}"
            yield _compared(where, "ks", distance.ks)
            yield _compared(where, "wasserstein", distance.wasserstein)
        for space in ("pixel", "feature"):
            signs, where = getattr(copies, space), f"{name}, Memorisation, {display_name(space)}"
            yield _measure(f"{where}, Closer", "share", signs.closer.share)
            yield _measure(f"{where}, Singular", "share", signs.singular.share)
            yield _measure(where, "copies", signs.copies)
        yield _measure(f"{name}, Memorisation, Duplicates", "share", copies.duplicates.share)


def _compared(of: str, name: str, pair: Compared) -> Measure:
    return _measure(of, name, pair.generated, _number(pair.floor.value))


def _measure(of: str, name: str, one: Estimate, floor: str = "") -> Measure:
    known = one.low is not None and one.high is not None
    interval = f"{_number(one.low)} to {_number(one.high)}" if known else ""
    return Measure(of, display_name(name), _number(one.value), interval, floor)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
