"""Which rows make up which batch: pure functions of the seed and the step.

Nothing here keeps a position, so a resumed run draws exactly the batches that the
interrupted one would have drawn, on any number of processes.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from svp_lightning.errors import DistributedError


class StepBatchSampler(Sampler[NDArray[np.int64]]):
    """A fixed number of batches per epoch, drawn from an endless stream of passes.

    The global batch of step t (counted from the start of training) holds the rows t*B to
    t*B + B of the stream, in which each pass is a new permutation of all rows; with weights
    it holds B rows drawn with replacement. Process r of R takes every R-th row of it, so the
    global batch does not depend on R.

    Args:
        num_rows: rows to draw from.
        batch_size: rows of the global batch, divisible by ``world_size``.
        steps_per_epoch: iterating goes on to the next multiple of it.
        seed: of the permutations or draws.
        weights: (num_rows,) relative chance of each row, or None for permutations.
        rank: this process.
        world_size: number of processes.
        first_step: tells the step to go on from, each time an iteration starts.

    Raises:
        DistributedError: ``batch_size`` cannot be divided by ``world_size``.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        steps_per_epoch: int,
        seed: int,
        weights: NDArray[np.float64] | None = None,
        rank: int = 0,
        world_size: int = 1,
        first_step: Callable[[], int] = lambda: 0,
    ) -> None:
        if batch_size % world_size:
            raise DistributedError(
                f"The global batch of {batch_size} images cannot be divided by {world_size} "
                "processes.",
                f"Choose a batch size that is a multiple of {world_size}.",
            )
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.first_step = first_step
        self._cumulative = None if weights is None else np.cumsum(weights / weights.sum())
        self._cached_pass: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        start = self.first_step()
        stop = (start // self.steps_per_epoch + 1) * self.steps_per_epoch
        for step in range(start, stop):
            yield self.global_batch(step)[self.rank :: self.world_size]

    def global_batch(self, step: int) -> NDArray[np.int64]:
        """(batch_size,) rows of all processes together at global ``step``."""
        if self._cumulative is not None:
            draws = np.random.default_rng([self.seed, step]).random(self.batch_size)
            rows = np.searchsorted(self._cumulative, draws, side="right")
            # The last cumulative sum may fall short of 1 by rounding.
            return np.minimum(rows, self.num_rows - 1)
        stream = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        passes, positions = np.divmod(stream, self.num_rows)
        parts = [self._pass(int(p))[positions[passes == p]] for p in np.unique(passes)]
        return np.concatenate(parts)

    def _pass(self, number: int) -> NDArray[np.int64]:
        if self._cached_pass[0] != number:
            order = np.random.default_rng([self.seed, number]).permutation(self.num_rows)
            self._cached_pass = (number, order)
        return self._cached_pass[1]


class ShardedSampler(Sampler[NDArray[np.int64]]):
    """Every row exactly once over all processes, in order, without padding.

    Process r of R takes rows r, r + R, r + 2R, ...; processes may differ by one row, and so
    by one batch: metrics must gather at the epoch's end, not per step.

    Args:
        num_rows: rows to go through.
        batch_size: rows per batch of one process.
        rank: this process.
        world_size: number of processes.

    Raises:
        DistributedError: there are fewer rows than processes.
    """

    def __init__(self, num_rows: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if num_rows < world_size:
            raise DistributedError(
                f"{num_rows} images cannot be shared by {world_size} processes.",
                f"Use at most {num_rows} processes.",
            )
        self.rows = np.arange(rank, num_rows, world_size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self.rows), self.batch_size):
            yield self.rows[start : start + self.batch_size]
