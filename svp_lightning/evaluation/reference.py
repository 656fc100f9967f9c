"""What new images are compared with: how a classifier sees validation images of each class.

Both rules are conformal prediction by class (label-conditional, Mondrian). A new image of class y
is one more draw from the class, so its rank among the validation images of y is uniform, and the
chance of a rank among the lowest k of n + 1 is at most k / (n + 1), whatever the classifier and
however common the classes are (Vovk 2012, "Conditional validity of inductive conformal
predictors", PMLR 25). It takes validation images that are to new ones of their class as one draw
to another: of the same instrument, prepared alike.

Prediction sets hold class y where its probability is not among the lowest of the validation images
of y: the sets of least ambiguity at a coverage of each class (Sadinle, Lei and Wasserman 2019,
doi:10.1080/01621459.2017.1395341; Angelopoulos and Bates 2023, doi:10.1561/2200000101).
Probabilities are the classifier's own. Corrected ones would have to be corrected alike for
validation and new images; shares estimated from the new images are not known at validation.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from svp_lightning.errors import ArtifactError
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.runtime.files import replacing, require_unchanged

REFERENCE = "reference.safetensors"
FORMAT = "1"
_PROBABILITY, _STRANGENESS, _APPEARANCE = "probability/", "strangeness/", "appearance/"
_ROUNDING = 1e-9
Values = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Reference:
    """How a classifier sees its validation images.

    Attributes:
        probability: class name -> float32 (n,), ascending: the classifier's own probability of
            their class for the n validation images of it.
        strangeness: class name -> float32 (n,), ascending: how far the same images are from their
            class (:class:`~svp_lightning.classifier.appearance.Appearance`).
        appearance: tensors that strangeness is computed with.
    """

    probability: Mapping[str, Values]
    strangeness: Mapping[str, Values]
    appearance: Mapping[str, Values]

    def sets(self, raw: Predictions, coverage: float) -> NDArray[np.bool_]:
        """(N, K) which classes an image may be of, from the classifier's own probabilities.

        An image of class y has y in its set with a chance of at least ``coverage`` (above 0, below
        1), or of :func:`guaranteed` where the validation images are too few for that.
        """
        least = [lowest(self.probability[name], 1 - coverage) for name in raw.class_names]
        return np.asarray(raw.probabilities >= np.array(least))

    def unfamiliar(
        self, strangeness: Values, class_names: Sequence[str], false_alarms: float
    ) -> NDArray[np.bool_]:
        """(N,) which images are further from every class than its own images are.

        ``strangeness`` is (N, K). An image of any class is flagged with a chance of at most
        ``false_alarms`` (above 0, below 1), or of 1 less :func:`guaranteed` where the validation
        images are too few for that.
        """
        most = [-lowest(-self.strangeness[name][::-1], false_alarms) for name in class_names]
        return np.asarray((strangeness > np.array(most)).all(axis=1))

    def familiarity(self, strangeness: Values, class_names: Sequence[str]) -> NDArray[np.float64]:
        """(N,) the conformal p-value of an image, the largest over the classes.

        Of n images of a class and the new one: the share that is at least as strange to the class.
        """
        shares = []
        for name, column in zip(class_names, strangeness.T, strict=True):
            known = self.strangeness[name]
            less = np.searchsorted(known, column, side="left")
            shares.append((len(known) - less + 1) / (len(known) + 1))
        return np.asarray(np.max(shares, axis=0))

    def too_few(self, misses: float) -> dict[str, int]:
        """Classes with fewer validation images than a share of misses takes, and how many."""
        images = {name: len(values) for name, values in self.probability.items()}
        return {name: n for name, n in images.items() if _rank(n, misses) < 1}


@dataclass(frozen=True)
class Judged:
    """What is said of N new images.

    Attributes:
        found: probabilities at the class shares in use.
        sets: (N, K) which classes an image may be of; the likeliest of ``found`` is one.
        unfamiliar: (N,) whether an image is unlike those of every class.
        familiarity: (N,) see :meth:`Reference.familiarity`; None: the classifier has no reference,
            so that every set holds one class and nothing is unfamiliar.
    """

    found: Predictions
    sets: NDArray[np.bool_]
    unfamiliar: NDArray[np.bool_]
    familiarity: NDArray[np.float64] | None

    @property
    def likeliest(self) -> NDArray[np.intp]:
        """(N,) class indices."""
        return np.asarray(self.found.probabilities.argmax(axis=1))

    @property
    def uncertain(self) -> NDArray[np.bool_]:
        """(N,) whether the set holds more than one class."""
        return np.asarray(self.sets.sum(axis=1) > 1)


def judge(
    raw: Predictions,
    found: Predictions,
    strangeness: Values,
    reference: Reference | None,
    coverage: float,
    false_alarms: float,
) -> Judged:
    """Prediction sets and flags of N new images.

    ``raw`` holds the classifier's own probabilities, ``found`` those at the class shares in use;
    ``strangeness`` is (N, K). ``coverage`` of each class by the sets, and ``false_alarms`` of each
    class among the unfamiliar, are above 0 and below 1.
    """
    # A set that the rule leaves empty, or without the class that is counted, only gains by it.
    sets = np.eye(len(found.class_names), dtype=bool)[found.probabilities.argmax(axis=1)]
    if reference is None:
        return Judged(found, sets, np.zeros(len(sets), bool), None)
    names = found.class_names
    return Judged(
        found,
        sets | reference.sets(raw, coverage),
        reference.unfamiliar(strangeness, names, false_alarms),
        reference.familiarity(strangeness, names),
    )


def lowest(ascending: Values, misses: float) -> float:
    """The value below which a new one of the same class falls with a chance of ``misses`` at most.

    The k-th lowest of n (at least 1) validation values, k = floor(misses (n + 1)). Where that is 0
    (n < 1 / misses - 1) no value keeps the promise but minus infinity, which says nothing; the
    lowest is taken, which misses 1 / (n + 1).
    """
    return float(ascending[max(_rank(len(ascending), misses), 1) - 1])


def guaranteed(images: int) -> float:
    """The largest coverage that ``images`` validation images of a class can promise.

    A coverage takes at least ceil(1 / (1 - coverage)) - 1 images: 19 for 95 %, 99 for 99 %.
    """
    return images / (images + 1)


def _rank(images: int, misses: float) -> int:
    return int(misses * (images + 1) + _ROUNDING)


def write_reference(path: Path, reference: Reference) -> None:
    """Write the file, whole or not at all."""
    parts = {
        _PROBABILITY: reference.probability,
        _STRANGENESS: reference.strangeness,
        _APPEARANCE: reference.appearance,
    }
    tensors = {
        prefix + name: np.ascontiguousarray(values, dtype=np.float32)
        for prefix, values_of in parts.items()
        for name, values in values_of.items()
    }
    # Safetensors keeps names in alphabetical order; classes have their own.
    metadata = {"format": FORMAT, "classes": json.dumps(list(reference.probability))}
    with replacing(path) as temporary:
        temporary.write_bytes(_ordered(save(tensors, metadata=metadata)))


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in alphabetical order.

    The library's order changes from call to call, and with it the file's hash.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    first = {"__metadata__": dict(sorted(header.pop("__metadata__").items()))}
    text = json.dumps(first | header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def read_reference(path: Path) -> Reference | None:
    """Read and check the file, or None where a classifier has none.

    Raises:
        ArtifactError: it is broken or of another format, or lacks a class.
    """
    require_unchanged(path)
    if not path.is_file():
        return None
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise ValueError(f"format {metadata.get('format')}, expected {FORMAT}")
        classes = json.loads(metadata["classes"])
        seen = [
            {name: tensors[prefix + name] for name in classes}
            for prefix in (_PROBABILITY, _STRANGENESS)
        ]
        if any(v.ndim != 1 or not len(v) for part in seen for v in part.values()):
            raise ValueError("a class has no validation image")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{path} cannot be read as a classifier's reference ({error}).",
            "Run task=evaluate again for this run, or restore the file.",
        ) from error
    appearance = {
        name.removeprefix(_APPEARANCE): values
        for name, values in tensors.items()
        if name.startswith(_APPEARANCE)
    }
    return Reference(seen[0], seen[1], appearance)
