"""The model card of an exported generator: a README with the front matter that model hubs read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from svp_lightning import __version__
from svp_lightning.data.classes import display_name
from svp_lightning.report.fidelity_schema import Memorised
from svp_lightning.report.fidelity_verdict import few_copies
from svp_lightning.runtime.files import replacing

VERDICTS = {
    "novel": "no sign of copies of training images",
    "close": "nearer to training images than held-out images are, but to no single ones",
    "copies": "**copies of single training images found**",
}
"""The verdicts of ``task=assess`` in words."""


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        generator: the content of ``generator.json``: settings, classes, sizes, training.
        sampler: the default sampler's settings.
        origin: where the training images come from, as a sentence.
        parameters: weights of the network.
        samples_per_class: images of each class in the sample data set.
        fidelity: the content of ``fidelity.json``, where there is one.
        licence: SPDX name, or ``other``.
        weights_sha256: of the generator as trained.
        seconds: wall time of its training, where its record says so.
    """

    generator: Mapping[str, Any]
    sampler: Mapping[str, Any]
    origin: str
    parameters: int
    samples_per_class: int
    fidelity: Mapping[str, Any] | None
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
        measures=list(measures(card.fidelity or {})),
        verdicts=list(verdicts(card.fidelity or {})),
        version=__version__,
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def measures(values: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[Measure]:
    """Every estimate ``{"value", "low", "high"}`` of a fidelity file, with its floor.

    Where ``generated`` and ``floor`` stand side by side they make one measure.
    """
    own = values.get("generated", values)
    if isinstance(own, Mapping) and isinstance(own.get("value"), int | float):
        low, high = own.get("low"), own.get("high")
        *where, name = [part for part in place if part != "classes"] or ["value"]
        floor = values.get("floor")
        yield Measure(
            of=", ".join(map(display_name, where)),
            name=display_name(name),
            value=_number(own["value"]),
            interval="" if low is None or high is None else f"{_number(low)} to {_number(high)}",
            floor=_number(floor.get("value")) if isinstance(floor, Mapping) else "",
        )
        return
    for name, inner in values.items():
        if isinstance(inner, Mapping):
            yield from measures(inner, (*place, name))


def verdicts(values: Mapping[str, Any]) -> Iterator[str]:
    """What a fidelity file says about copies of training images, class by class."""
    for name, found in values.get("classes", {}).items():
        memorised = found.get("memorisation", {})
        if (verdict := memorised.get("verdict")) is None:
            continue
        words = f"{display_name(name)}: {VERDICTS.get(verdict, verdict)}"
        details = few_copies(Memorised.model_validate(memorised)) if "pixel" in memorised else ""
        yield f"{words}. {details}".removesuffix(". ")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
