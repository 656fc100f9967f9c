"""The tables of a run: ``predictions.parquet``, ``bootstrap.parquet`` and ``prevalence.csv``.

``predictions.parquet``: ``id`` (string), ``label`` (class name, null where unknown) and one
float32 column ``probability_<class>`` per class, in class order; one row per image; and ``size_um``
where sizes are known. Probabilities are the
classifier's own probabilities: the metadata's ``trained_shares`` (class name -> share) are the
class shares that they answer for, and :meth:`Predictions.at` corrects them to others.

``bootstrap.parquet``: one row per resample, one float64 column per metric (``macro_auprc``,
``silicone_oil/auprc``). Row r of two runs comes from the same draw of the same test images, so
their difference is paired, and a study is compared without reading predictions (150 kB a run).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, parquet

from svp_lightning.errors import ArtifactError
from svp_lightning.evaluation.counting import SUPPORTED, Tally, within_reach
from svp_lightning.evaluation.priors import class_shares, corrected
from svp_lightning.runtime.files import replacing, require_unchanged

PREDICTIONS, RESAMPLES = "predictions.parquet", "bootstrap.parquet"
PREFIX, SIZE = "probability_", "size_um"
BATCH_ROWS = 65_536
UNLABELLED = -1
KEY = b"svp_lightning"
REMEDY = "Run task=evaluate again, or restore the file."


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of N images; ``8 + 4 K`` bytes an image, and its id.

    Attributes:
        ids: (N,) image ids of the store; empty where they were not read.
        labels: (N,) class indices, -1 where the class is unknown.
        probabilities: (N, K); float32 as the classifier gives them.
        class_names: K names, in the order of the columns.
        shares: class name -> class share that the probabilities answer for; of a classifier's
            own: those that it was trained at.
        size_um: (N,) diameters, NaN where unknown; None: none is known.
    """

    ids: NDArray[np.object_]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.floating[Any]]
    class_names: tuple[str, ...]
    shares: Mapping[str, float]
    size_um: NDArray[np.float64] | None = None

    def at(self, prevalence: Mapping[str, float]) -> "Predictions":
        """The same images, with the probabilities that hold at other class shares.

        ``prevalence``: class name -> relative frequency.

        Raises:
            SettingsError: see :func:`~.priors.class_shares`.
        """
        answer_for, use = (class_shares(s, self.class_names) for s in (self.shares, prevalence))
        shares = dict(zip(self.class_names, use.tolist(), strict=True))
        moved = corrected(self.probabilities, answer_for, use)
        return replace(self, probabilities=moved, shares=shares)

    def tally(self) -> Tally:
        """The counts behind every metric of these probabilities; all images are labelled.

        Raises:
            DataError: see :class:`~.counting.Tally`.
        """
        return Tally(self.labels, self.probabilities, self.class_names)

    def labelled(self) -> "Predictions":
        """Those whose class is known."""
        if (known := self.labels >= 0).all():
            return self
        return replace(
            self,
            ids=self.ids[known] if len(self.ids) else self.ids,
            labels=self.labels[known],
            probabilities=self.probabilities[known],
            size_um=None if self.size_um is None else self.size_um[known],
        )

    def confusion(self) -> NDArray[np.int64]:
        """(K, K) counts: row the given class, column the most probable one; all labelled."""
        K = len(self.class_names)
        cells = self.labels * K + self.probabilities.argmax(axis=1)
        return np.bincount(cells, minlength=K * K).reshape(K, K)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the table, whole or not at all."""
    names = [*predictions.class_names, None]  # the last one is taken by label -1
    codes = pa.array(predictions.labels % len(names), pa.int32())
    columns = {
        "id": pa.array(predictions.ids, pa.string()),
        "label": pa.array(names, pa.string()).take(codes),
    }
    for name, column in zip(predictions.class_names, predictions.probabilities.T, strict=True):
        columns[PREFIX + name] = pa.array(column, pa.float32())
    if predictions.size_um is not None:
        columns[SIZE] = pa.array(predictions.size_um, pa.float32())
    shares = {name: predictions.shares[name] for name in predictions.class_names}
    metadata = {KEY: json.dumps({"trained_shares": shares})}
    with replacing(path) as temporary:
        parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), temporary)


def read_predictions(path: Path, *, with_ids: bool = True) -> Predictions:
    """Read the table, in memory that grows with what is returned alone.

    Raises:
        ArtifactError: the file is missing, broken, no table of predictions, empty, lacks the
            shares trained at, or holds a label that is no class.
    """
    require_unchanged(path)
    if not path.is_file():
        raise ArtifactError(
            f"{path.parent} has no {path.name}.", "Give the folder of a finished evaluation."
        )
    try:
        with parquet.ParquetFile(path) as file:
            return _filled(path, file, with_ids)
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(
            f"{path} cannot be read as a table of predictions ({error}).", REMEDY
        ) from error


def _filled(path: Path, file: parquet.ParquetFile, with_ids: bool) -> Predictions:
    held, rows = file.schema_arrow.names, file.metadata.num_rows
    names = tuple(name.removeprefix(PREFIX) for name in held if name.startswith(PREFIX))
    if not {"id", "label"} <= set(held) or not names or not rows:
        raise ArtifactError(
            f"{path} has {rows} rows of {', '.join(held)}; expected id, label and {PREFIX}<class>.",
            REMEDY,
        )
    shares = json.loads((file.schema_arrow.metadata or {}).get(KEY, b"{}")).get(
        "trained_shares", {}
    )
    if set(shares) != set(names):
        raise ArtifactError(
            f"{path} does not say which class shares its probabilities answer for.", REMEDY
        )
    sizes = np.empty(rows, np.float64) if SIZE in held else None
    columns = ["label", *(PREFIX + name for name in names), *(["id"] if with_ids else [])]
    columns += [SIZE] * (sizes is not None)
    labels, scores = np.empty(rows, np.int64), np.empty((rows, len(names)), np.float32)
    ids, at = np.empty(rows if with_ids else 0, object), 0
    for batch in file.iter_batches(BATCH_ROWS, columns=columns):
        end = at + len(batch)
        code = compute.index_in(batch["label"], value_set=pa.array(names, pa.string()))
        if code.null_count > batch["label"].null_count:
            strange = batch["label"].filter(code.is_null()).drop_null()[0]
            raise ArtifactError(f"{path} holds the label {strange.as_py()!r}, no class.", REMEDY)
        labels[at:end] = code.fill_null(UNLABELLED).to_numpy(zero_copy_only=False)
        for k, name in enumerate(names):
            scores[at:end, k] = batch[PREFIX + name].to_numpy(zero_copy_only=False)
        if with_ids:
            ids[at:end] = batch["id"].to_numpy(zero_copy_only=False)
        if sizes is not None:
            sizes[at:end] = batch[SIZE].to_numpy(zero_copy_only=False)
        at = end
    return Predictions(ids, labels, scores, names, shares, sizes)


def prevalence_table(tested: Predictions, common: str, ratios: Sequence[float]) -> pd.DataFrame:
    """``prevalence.csv``: metrics of labelled test images at several shares of a ``common`` class.

    Each row has the probabilities corrected to its mixture: ``ratio`` particles of the common class
    for one of each other.

    Returns:
        One row per ratio: ``ratio``, ``common`` (the name), the macro metrics, and
        ``<class>/<metric>`` for each; ``<class>/recall_at_precision_95_supported`` is false where
        the test images are too few for that recall (:func:`~.counting.within_reach`).

    Raises:
        DataError: see :class:`~.counting.Tally`.
    """
    rows, names = [], tested.class_names
    images = np.bincount(tested.labels, minlength=len(names))
    for ratio in ratios:
        prevalence = {name: ratio if name == common else 1.0 for name in names}
        metrics = tested.at(prevalence).tally().metrics(prevalence)
        per_class = metrics.pop("per_class")
        flat = {f"{c}/{m}": value for c, own in per_class.items() for m, value in own.items()}
        recall = np.array([own["recall_at_precision_95"] for own in per_class.values()])
        enough = within_reach(recall, class_shares(prevalence, names), images)
        for name, supported in zip(names, enough.tolist(), strict=True):
            flat[f"{name}/{SUPPORTED}"] = supported
        rows.append({"ratio": float(ratio), "common": common} | metrics | flat)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Resamples:
    """The redrawn metrics of a run.

    Attributes:
        values: (R, M) float64.
        names: M metric names.
        draw: what decides the draws: test images, labels, prevalence, unit, seed. Runs of the
            same draw are paired row by row.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    draw: str

    def of(self, metric: str) -> NDArray[np.float64]:
        """(R,) values of one metric."""
        return self.values[:, self.names.index(metric)]


def write_resamples(
    path: Path, values: NDArray[np.float64], names: Sequence[str], draw: str
) -> None:
    """Write the table, whole or not at all."""
    table = pa.table({name: values[:, at] for at, name in enumerate(names)})
    described = table.replace_schema_metadata({KEY: json.dumps({"draw": draw})})
    with replacing(path) as temporary:
        parquet.write_table(described, temporary)


def read_resamples(path: Path) -> Resamples | None:
    """Read the table, or None where a run has none.

    Raises:
        ArtifactError: the file is broken or not such a table.
    """
    require_unchanged(path)
    if not path.is_file():
        return None
    try:
        table = parquet.read_table(path)
        draw = json.loads(table.schema.metadata[KEY])["draw"]
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} cannot be read as resampled metrics ({error!r}).",
            "Delete the run's folder and evaluate again.",
        ) from error
    values = np.stack([column.to_numpy() for column in table.columns], axis=1)
    return Resamples(values, tuple(table.column_names), draw)
