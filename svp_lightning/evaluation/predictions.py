"""``predictions.parquet``: what a classifier said about each image.

Columns: ``id`` (string), ``label`` (class name, null where unknown) and one float32 column
``probability_<class>`` per class, in class order.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, parquet

from svp_lightning.errors import ArtifactError
from svp_lightning.runtime.files import replacing

PREFIX = "probability_"
UNLABELLED = -1


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of N images.

    Attributes:
        ids: (N,) image ids of the store.
        labels: (N,) class indices, -1 where the class is unknown.
        probabilities: (N, K) float32.
        class_names: K names, in the order of the columns.
    """

    ids: NDArray[np.object_]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    class_names: tuple[str, ...]


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
    with replacing(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)


def read_predictions(path: Path) -> Predictions:
    """Read the whole table.

    Raises:
        ArtifactError: the file is missing, broken, or no table of predictions.
    """
    batches = list(iterate_predictions(path, rows=1 << 20))
    if not batches:
        raise ArtifactError(f"{path} holds no prediction.", "Run task=evaluate again.")
    return Predictions(
        ids=np.concatenate([batch.ids for batch in batches]),
        labels=np.concatenate([batch.labels for batch in batches]),
        probabilities=np.concatenate([batch.probabilities for batch in batches]),
        class_names=batches[0].class_names,
    )


def iterate_predictions(path: Path, rows: int = 65_536) -> Iterator[Predictions]:
    """Read the table in parts of at most ``rows`` images, in order and in flat memory.

    Raises:
        ArtifactError: the file is missing, broken, or no table of predictions.
    """
    with _opened(path) as (file, class_names):
        for batch in file.iter_batches(batch_size=rows):
            yield Predictions(
                batch["id"].to_numpy(zero_copy_only=False),
                *_scores(batch, class_names),
                class_names,
            )


def iterate_scores(
    path: Path, rows: int = 65_536
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """(n,) labels and (n, K) probabilities of at most ``rows`` images at a time, without ids.

    Raises:
        ArtifactError: the file is missing, broken, or no table of predictions.
    """
    with _opened(path) as (file, class_names):
        columns = ["label", *(PREFIX + name for name in class_names)]
        for batch in file.iter_batches(batch_size=rows, columns=columns):
            yield _scores(batch, class_names)


def count_rows(path: Path) -> tuple[int, tuple[str, ...]]:
    """Number of images and class names of a table, read from its footer alone.

    Raises:
        ArtifactError: the file is missing, broken, or no table of predictions.
    """
    with _opened(path) as (file, class_names):
        return file.metadata.num_rows, class_names


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, tuple[str, ...]]]:
    try:
        with parquet.ParquetFile(path) as file:
            yield file, _class_names(path, file.schema_arrow.names)
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(
            f"{path} cannot be read as a table of predictions ({error}).",
            "Run task=evaluate again, or restore the file.",
        ) from error


def _class_names(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.removeprefix(PREFIX) for name in columns if name.startswith(PREFIX))
    if not {"id", "label"} <= set(columns) or not names:
        raise ArtifactError(
            f"{path} has columns {', '.join(columns)}; expected id, label and {PREFIX}<class>.",
            "Point to the predictions.parquet of a run.",
        )
    return names


def _scores(
    batch: Any, class_names: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    found = compute.index_in(batch["label"], value_set=pa.array(class_names, pa.string()))
    return (
        found.fill_null(UNLABELLED).to_numpy(zero_copy_only=False).astype(np.int64),
        np.stack([batch[PREFIX + name].to_numpy() for name in class_names], axis=1),
    )
