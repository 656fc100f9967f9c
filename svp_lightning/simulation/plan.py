"""Which image goes in which row: split, class, number and session of every image."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.simulation.settings import SPLITS, SimulationSettings

_NUMBERS_PER_SPLIT = 10**9
_SESSIONS_PER_SPLIT = 10**6


@dataclass(frozen=True)
class Plan:
    """One entry per image, in the order of the store.

    Attributes:
        class_names: of the codes in ``classes``.
        splits: (N,) int8 code of the split in :data:`settings.SPLITS`.
        classes: (N,) int8 code of the class.
        numbers: (N,) int64 running number within split and class.
        runs: (N,) int32 session within the split.
    """

    class_names: tuple[str, ...]
    splits: NDArray[np.int8]
    classes: NDArray[np.int8]
    numbers: NDArray[np.int64]
    runs: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.numbers)

    def names(self, rows: range) -> list[str]:
        """Class names of the rows."""
        return [self.class_names[code] for code in self.classes[rows.start : rows.stop]]

    def indices(self, rows: range) -> NDArray[np.int64]:
        """Numbers the images are drawn by: distinct between splits, whatever the counts."""
        cut = slice(rows.start, rows.stop)
        return self.splits[cut].astype(np.int64) * _NUMBERS_PER_SPLIT + self.numbers[cut]

    def sessions(self, rows: range) -> NDArray[np.int64]:
        """Numbers the sessions are drawn by: distinct between splits."""
        cut = slice(rows.start, rows.stop)
        return self.splits[cut].astype(np.int64) * _SESSIONS_PER_SPLIT + self.runs[cut]

    def table(self, rows: range, seed: int) -> pd.DataFrame:
        """The store's columns that do not depend on physics."""
        names = self.names(rows)
        splits = [SPLITS[code] for code in self.splits[rows.start : rows.stop]]
        numbers, runs = self.numbers[rows.start : rows.stop], self.runs[rows.start : rows.stop]
        triples = list(zip(names, splits, numbers, strict=True))
        return pd.DataFrame(
            {
                "id": [f"{name}-{split}-{number:06d}" for name, split, number in triples],
                "label": names,
                "split": splits,
                "group": [
                    f"{split}-run-{run:03d}" for split, run in zip(splits, runs, strict=True)
                ],
                "origin": "simulated",
                "source": "simulation",
                "seed": seed,
                "label_confidence": 1.0,
            }
        )


def plan_images(settings: SimulationSettings) -> Plan:
    """Lay out the data set: splits, then classes; sessions take turns within a class."""
    names = settings.class_names
    splits, classes, numbers, runs = [], [], [], []
    for split_code, split in enumerate(SPLITS):
        for class_code, name in enumerate(names):
            count = settings.counts.get(split, {}).get(name, 0)
            number = np.arange(count, dtype=np.int64)
            splits.append(np.full(count, split_code, np.int8))
            classes.append(np.full(count, class_code, np.int8))
            numbers.append(number)
            runs.append((number % settings.sessions_per_split[split]).astype(np.int32))
    return Plan(
        names,
        np.concatenate(splits),
        np.concatenate(classes),
        np.concatenate(numbers),
        np.concatenate(runs),
    )
