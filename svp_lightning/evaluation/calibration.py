"""How far probabilities are from frequencies, and the scaling that validation images ask for.

Calibration error as Guo et al. (2017, arXiv 1706.04599) define it, and its mean over classes
(Kull et al. 2019, arXiv 1910.12656), without which the common class would be all one sees;
Brier score (1950). Probabilities are scaled by a temperature and a bias of each class
(Alexandari, Kundaje and Shrikumar 2020, arXiv 1901.06852).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from svp_lightning.errors import SettingsError
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.priors import class_shares, estimated_shares, prevalence_weights
from svp_lightning.evaluation.schema import Results

BINS = 15
SMALLEST = np.finfo(np.float32).tiny
LOG_TEMPERATURES = (-3.0, 3.0)

Labels = NDArray[np.integer[Any]]
Scores = NDArray[np.floating[Any]]
Weights = NDArray[np.floating[Any]]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """Calibrated log likelihoods of the classes: log p(x | k) / T + b_k, up to a constant.

    With T = 1 and all biases 0 probabilities stay as they are. Class shares are left out of
    what is scaled, so one scaling holds at any prevalence.

    Attributes:
        temperature: T; above 1 the classifier had been too sure.
        biases: (K,) b, of mean 0.
    """

    temperature: float
    biases: Values

    def __call__(self, found: Predictions) -> Predictions:
        """The same images with scaled probabilities, which answer for the same shares."""
        shares = class_shares(found.shares, found.class_names)
        logits = _log_likelihoods(found) / self.temperature + self.biases + np.log(shares)
        return replace(found, probabilities=softmax(logits, axis=1))


def fit_scaling(validation: Predictions) -> Scaling:
    """The scaling that makes the labels of validation images most likely, an image of each class.

    Standard normal priors on log T and on each bias keep it near none where a few images, all
    recognised, would leave it without bounds; among hundreds of images they do not count.
    """
    labels, K = validation.labels, len(validation.class_names)
    scores, target = _log_likelihoods(validation), np.eye(K)[validation.labels]
    log_shares = np.log(target.mean(axis=0))

    def loss(values: Values) -> tuple[float, Values]:
        scaled = scores / np.exp(values[0])
        fitted = softmax(scaled + values[1:] + log_shares, axis=1)
        own = np.maximum(fitted[np.arange(len(labels)), labels], SMALLEST)
        miss = fitted - target
        slope = np.append(-(miss * scaled).sum(), miss.sum(axis=0))
        return float(values @ values / 2 - np.log(own).sum()), slope + values

    bounds = [LOG_TEMPERATURES, *[(None, None)] * K]
    found = minimize(loss, np.zeros(K + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Scaling(float(np.exp(found[0])), found[1:] - found[1:].mean())


def for_new_images(
    raw: Predictions,
    how: Literal["given", "estimated", "stated", "trained"],
    given: Mapping[str, float] | None,
    known: Results | None,
) -> Predictions:
    """Probabilities of unlabelled images, at the class shares that they are taken to have.

    Probabilities are scaled first: training draws that are not those of nature within a class, as
    of hard negatives, or a network that is too sure, are no matter of class shares. EM on scaled
    ones is hard to beat (Alexandari et al. 2020). Shares that do not hold miscount a run.

    Args:
        raw: as the classifier gives them.
        how: ``given`` shares, or see :class:`~svp_lightning.config.PredictSettings`.
        given: class name -> relative frequency.
        known: results of the classifier; None: nothing is scaled.

    Raises:
        SettingsError: ``given`` is of other classes, or there are no results to take shares from.
    """
    if how == "trained":
        return raw
    scaled = calibrated(raw, known)
    if how == "given" and given is not None:
        return scaled.at(given)
    if how == "stated":
        if known is None:
            raise SettingsError(
                "predict.prevalence=stated needs the results.json of predict.run.",
                "Give data.prevalence, or set predict.prevalence=estimated.",
            )
        return scaled.at(known.prevalence)
    shares = estimated_shares(scaled.probabilities, class_shares(raw.shares, raw.class_names))
    return scaled.at(dict(zip(raw.class_names, shares.tolist(), strict=True)))


def calibrated(raw: Predictions, known: Results | None) -> Predictions:
    """A classifier's own probabilities, scaled as its results say; as they are without results."""
    if known is None:
        return raw
    biases = [known.calibration.biases[name] for name in raw.class_names]
    return Scaling(known.calibration.temperature, np.array(biases))(raw)


def _log_likelihoods(found: Predictions) -> Values:
    """(N, K) log p(x | k), each row up to a constant."""
    shares = class_shares(found.shares, found.class_names)
    known = np.log(np.maximum(found.probabilities.astype(np.float64), SMALLEST)) - np.log(shares)
    return np.asarray(known - known.max(axis=1, keepdims=True))


def calibration_of(
    validation: Predictions, test: Predictions, prevalence: Mapping[str, float]
) -> dict[str, Any]:
    """The ``calibration`` part of ``results.json``.

    Args:
        validation: fits the scaling.
        test: judges probabilities at ``prevalence``, without the scaling and with it.
        prevalence: class name -> relative frequency; test images are weighted to it.

    Raises:
        DataError: a class has no test image.
    """
    names = test.class_names
    scaling = fit_scaling(validation)
    weights = prevalence_weights(test.labels, prevalence, names)
    as_is, scaled = (
        calibration(test.labels, found.at(prevalence).probabilities, names, weights)
        for found in (test, scaling(test))
    )
    biases = dict(zip(names, scaling.biases.tolist(), strict=True))
    return {
        "temperature": scaling.temperature, "biases": biases, "as_is": as_is, "scaled": scaled,
    }  # fmt: skip


def calibration(
    labels: Labels, probabilities: Scores, class_names: Sequence[str], weights: Weights
) -> dict[str, Any]:
    """How far probabilities are from frequencies; see :class:`~.schema.Calibrated`."""
    top = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    per_class = {
        name: reliability(labels == k, probabilities[:, k], weights)
        for k, name in enumerate(class_names)
    }
    target = labels[:, None] == np.arange(len(class_names))
    return {
        "ece": expected_error(reliability(right, top, weights)),
        "classwise_ece": float(np.mean([expected_error(bins) for bins in per_class.values()])),
        "brier": float(np.average(np.square(probabilities - target).sum(axis=1), weights=weights)),
        "reliability": {name: bins.tolist() for name, bins in per_class.items()},
    }


def reliability(
    truth: NDArray[np.bool_], probability: Scores, weights: Weights
) -> NDArray[np.float64]:
    """Mean probability, observed frequency and share of the weight in equal-width bins.

    Returns:
        (B, 3), B at most :data:`BINS`: bins without images are left out.
    """
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    sums = [np.bincount(place, values * weights, BINS) for values in (probability, truth)]
    total = np.bincount(place, weights, BINS)
    held = total > 0
    columns = [part[held] / total[held] for part in sums]
    return np.stack([*columns, total[held] / total.sum()], axis=1)


def expected_error(bins: NDArray[np.float64]) -> float:
    """Expected calibration error of :func:`reliability`: the mean gap over the weight."""
    return float(bins[:, 2] @ np.abs(bins[:, 0] - bins[:, 1]))
