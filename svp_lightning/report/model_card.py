"""The model card of an exported generator: a README with the front matter that model hubs read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from svp_lightning import __version__
from svp_lightning.data.classes import display_name
from svp_lightning.files import replacing


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
    """

    generator: Mapping[str, Any]
    sampler: Mapping[str, Any]
    origin: str
    parameters: int
    samples_per_class: int
    fidelity: Mapping[str, Any] | None
    licence: str
    weights_sha256: str


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
    """Every measurement of a fidelity file: an object with ``value`` and what stands beside it."""
    if isinstance(values.get("value"), int | float):
        *where, name = place or ("value",)
        bounds = values.get("ci95", values.get("interval"))
        yield Measure(
            of=", ".join(map(display_name, where)),
            name=display_name(name),
            value=_number(values["value"]),
            interval="" if bounds is None else " to ".join(map(_number, bounds)),
            floor=_floor(values.get("floor")),
        )
        return
    for name, inner in values.items():
        if isinstance(inner, Mapping):
            yield from measures(inner, (*place, name))


def verdicts(values: Mapping[str, Any]) -> Iterator[str]:
    """Every sentence called ``verdict`` in a fidelity file."""
    for name, inner in values.items():
        if name == "verdict" and isinstance(inner, str):
            yield inner
        elif isinstance(inner, Mapping):
            yield from verdicts(inner)


def _floor(floor: Any) -> str:
    if isinstance(floor, Mapping):
        floor = floor.get("value")
    return _number(floor) if isinstance(floor, int | float) else ""


def _number(value: float) -> str:
    return f"{value:.3g}"
