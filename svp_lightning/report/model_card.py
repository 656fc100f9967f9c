"""Cards of exported models: a README with the front matter that model hubs read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.counting import metric_names
from svp_lightning.evaluation.fidelity.stored import Compared, Fidelity
from svp_lightning.evaluation.schema import Estimate, Results
from svp_lightning.report.fidelity import verdict_sentence
from svp_lightning.report.page import write_page
from svp_lightning.report.text import metric_name
from svp_lightning.runtime.files import sha256_of_file


@dataclass(frozen=True)
class Card:
    """What a generator's card says.

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
    """One line of a card's table of measurements."""

    of: str
    name: str
    value: str
    interval: str
    floor: str


def write_model_card(path: Path, card: Card) -> None:
    """Write a generator's card to ``path`` as Markdown, with the hashes of the code around it."""
    found = card.fidelity
    values = {
        "card": card,
        "code": {f.name: sha256_of_file(f) for f in sorted(path.parent.rglob("*.py"))},
        "measures": list(measures(found)) if found else [],
        "verdicts": [
            verdict_sentence(name, one.memorisation)
            for name, one in (found.classes.items() if found else ())
        ],
    }
    write_page(path, "model_card.md.j2", values)


def write_classifier_card(
    path: Path, config: Mapping[str, Any], results: Results | None, onnx: Any, licence: str
) -> None:
    """Write a classifier's card to ``path`` as Markdown.

    Args:
        path: of the card.
        config: the content of the classifier's ``config.json``.
        results: what was measured of it; None: nothing.
        onnx: ``images``, ``difference``, ``per_second`` and ``torch_per_second`` of its ONNX file,
            or None.
        licence: SPDX name, or ``other``.
    """
    scaling = config["calibration"] or {"biases": {}}
    values = {
        "config": config,
        "results": results,
        "measures": list(scores(results)) if results else [],
        "out_of_reach": results.out_of_reach if results else (),
        "biases": ", ".join(f"{value:+.2f} ({name})" for name, value in scaling["biases"].items()),
        "onnx": onnx,
        "licence": licence,
    }
    write_page(path, "classifier_card.md.j2", values)


def scores(found: Results) -> Iterator[Measure]:
    """The metrics of a run, and of each class, with their intervals."""
    for metric in metric_names(found.class_names):
        class_name, _, name = metric.rpartition("/")
        yield _measure(display_name(class_name or "all"), name, found.estimate(metric))


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
    return Measure(of, metric_name(name), _number(one.value), interval, floor)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
