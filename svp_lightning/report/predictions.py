"""Reading ``predictions.parquet`` in bounded memory, whatever its length."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, parquet

from svp_lightning.errors import DataError
from svp_lightning.report.inputs import REMEDY

PREDICTIONS = "predictions.parquet"
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Predictions:
    """What a classifier said about n labelled images, in class order.

    ``8 + 4 K`` bytes an image: 200 MB for 10 million images of three classes.

    Attributes:
        labels: (n,) int64 class indices.
        probabilities: (n, K) float32, rows sum to 1.
        class_names: K names.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    class_names: tuple[str, ...]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) index of the most probable class."""
        return self.probabilities.argmax(axis=1)

    def confusion(self) -> NDArray[np.int64]:
        """(K, K) counts: row the given class, column the predicted one."""
        k = len(self.class_names)
        flat = np.bincount(self.labels * k + self.predicted, minlength=k * k)
        return flat.reshape(k, k)


def read_predictions(folder: Path, class_names: Sequence[str]) -> Predictions | None:
    """Read ``predictions.parquet`` of a run, or None where the run has none.

    Unlabelled images take no part in an evaluation and are left out.

    Args:
        folder: the run directory.
        class_names: the classes, in the order wanted.

    Raises:
        DataError: the file is not parquet, lacks a column or holds an unknown label.
    """
    path = folder / PREDICTIONS
    if not path.is_file():
        return None
    columns = [f"probability_{name}" for name in class_names]
    try:
        with parquet.ParquetFile(path) as file:
            held = file.schema_arrow.names
            if missing := [name for name in ("id", "label", *columns) if name not in held]:
                raise DataError(f"{path} lacks the columns {missing}.", REMEDY)
            return _filled(path, file, tuple(class_names), columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is not a parquet file: {error}.", REMEDY) from error


def _filled(
    path: Path, file: Any, class_names: tuple[str, ...], columns: Sequence[str]
) -> Predictions:
    rows = file.metadata.num_rows
    labels, scores = np.empty(rows, np.int64), np.empty((rows, len(columns)), np.float32)
    at = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=["label", *columns]):
        batch = batch.filter(batch["label"].is_valid())
        found = compute.index_in(batch["label"], value_set=pa.array(class_names, pa.string()))
        if found.null_count:
            strange = batch["label"].filter(found.is_null())[0].as_py()
            raise DataError(
                f"{path} holds the label {strange!r}, not one of {class_names}.", REMEDY
            )
        end = at + len(batch)
        labels[at:end] = found.to_numpy(zero_copy_only=False)
        for k, name in enumerate(columns):
            scores[at:end, k] = batch[name].to_numpy(zero_copy_only=False)
        at = end
    return Predictions(labels[:at], scores[:at], class_names)
