"""``bootstrap.parquet``: the metrics of every redrawn test set, kept for later comparisons.

One row per resample, one float64 column per metric (``macro_auprc``, ``silicone_oil/auprc``).
Row r of two runs comes from the same draw of the same test images, so their difference is
paired, and a study is compared without reading a prediction again (150 kB a run).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from svp_lightning.errors import ArtifactError
from svp_lightning.runtime.files import replacing

KEY = b"svp_lightning"


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
