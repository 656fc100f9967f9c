"""Which rows make up a batch: a function of seed, step and process alone, so nothing is saved.

A resumed run draws exactly the batches that the interrupted one would have drawn.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from svp_lightning.errors import DistributedError

GOLDEN = (5**0.5 - 1) / 2
SHUFFLED_IN_MEMORY = 1 << 22
"""Rows of a group whose permutation is kept; that of a larger group is computed as it is drawn."""
ROUNDS = 6
"""Of the Feistel network; four are indistinguishable from a random permutation (Luby & Rackoff)."""


class StepBatchSampler(Sampler[NDArray[np.int64]]):
    """A fixed number of batches per epoch, in which each group of rows has a given share.

    A batch holds its share of each group, rounded up or down so that the mean over the steps is
    exact (systematic sampling). Within a group, rows come in an endless stream of passes, each a
    new permutation. Process r of R takes every R-th row of the global batch, which does not
    depend on R, so that every process has the shares of the whole.

    Args:
        group: (M,) group of each row, 0 to G - 1.
        shares: (G,) share of the draws of each group; they sum to 1.
        batch_size: rows of the global batch, a multiple of ``world_size``.
        steps_per_epoch: iterating ends at the next multiple of it.
        seed: of the rounding, the permutations and the order within a batch.
        rank: this process.
        world_size: number of processes.
        first_step: gives the step to continue at, each time an iteration starts.
    """

    def __init__(
        self,
        group: NDArray[np.int64],
        shares: NDArray[np.float64],
        batch_size: int,
        steps_per_epoch: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        first_step: Callable[[], int] = lambda: 0,
    ) -> None:
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.first_step = first_step
        narrow = np.min_scalar_type(len(group))
        self._members = [np.flatnonzero(group == g).astype(narrow) for g in range(len(shares))]
        self._bounds = _bounds(shares)
        self._drawn = np.zeros((1, len(shares)), dtype=np.int64)
        self._cached_pass: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        start = self.first_step()
        stop = (start // self.steps_per_epoch + 1) * self.steps_per_epoch
        for step in range(start, stop):
            # The groups come in order, and a small one's row must not always meet one process.
            own = self.global_batch(step)[(self.rank + step) % self.world_size :: self.world_size]
            yield np.random.default_rng([self.seed, step, self.rank]).permutation(own)

    def global_batch(self, step: int) -> NDArray[np.int64]:
        """(batch_size,) rows of all processes together at global ``step``, group by group."""
        if step + 1 >= len(self._drawn):
            self._drawn = self._count(2 * step + self.steps_per_epoch)
        before, after = self._drawn[step : step + 2]
        groups = range(len(before))
        return np.concatenate([self._stream(g, before[g], after[g]) for g in groups])

    def _count(self, steps: int) -> NDArray[np.int64]:
        """(steps + 1, G) rows of each group that are drawn before each step."""
        # Multiples of the golden ratio spread evenly, however many there are.
        start = np.random.default_rng(self.seed).random()
        offset = ((start + np.arange(steps) * GOLDEN) % 1)[:, None]
        ends = np.ceil(self.batch_size * self._bounds - offset).astype(np.int64)
        counts = np.diff(ends, axis=1)
        return np.cumsum(np.vstack([np.zeros_like(counts[:1]), counts]), axis=0)

    def _stream(self, group: int, start: int, stop: int) -> NDArray[np.int64]:
        """Draws ``start`` to ``stop`` - 1 of a group's rows."""
        members = self._members[group]
        passes, positions = np.divmod(np.arange(start, stop), max(len(members), 1))
        parts = [self._of_pass(group, int(p), positions[passes == p]) for p in np.unique(passes)]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _of_pass(self, group: int, number: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows at some positions of a pass over a group."""
        members, key = self._members[group], [self.seed, group, number]
        if len(members) > SHUFFLED_IN_MEMORY:
            return members[shuffled(positions, len(members), key)].astype(np.int64)
        if self._cached_pass.get(group, (-1,))[0] != number:
            order = np.random.default_rng(key).permutation(members)
            self._cached_pass[group] = (number, order.astype(np.int64))
        return self._cached_pass[group][1][positions]


def shuffled(positions: NDArray[np.int64], count: int, key: Sequence[int]) -> NDArray[np.int64]:
    """Values at (n,) positions of a permutation of 0 to ``count`` - 1 that is not stored.

    A Feistel network permutes the next power of four (Luby & Rackoff 1988,
    https://doi.org/10.1137/0217022); numbers beyond ``count`` go through it again (Black & Rogaway
    2002, https://doi.org/10.1007/3-540-45760-7_9), at most four times on average. ``key`` decides
    on the permutation.
    """
    half = np.uint64(((count - 1).bit_length() + 1) // 2)
    mask = (np.uint64(1) << half) - np.uint64(1)
    round_keys = np.random.default_rng(list(key)).integers(
        1 << 62, size=(ROUNDS, 1), dtype=np.uint64
    )
    found, outside = positions.astype(np.uint64), np.arange(len(positions))
    while len(outside):
        left, right = found[outside] >> half, found[outside] & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mixed(right + round_key) & mask)
        found[outside] = (left << half) | right
        outside = outside[found[outside] >= count]
    return found.astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads the bits of 64-bit numbers (the end of SplitMix64, Steele et al. 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


def _bounds(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G + 1,) where the groups' shares of 0 to 1 begin and end."""
    ends = np.cumsum(shares)
    return np.concatenate([[0.0], ends / ends[-1]])


class ShardedSampler(Sampler[NDArray[np.int64]]):
    """Every row exactly once over all processes, in order, without padding.

    Process r of R takes rows r, r + R, r + 2R, ..., ``batch_size`` at a time; processes may differ
    by one row, and so by one batch: metrics must gather at the epoch's end, not per step.

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
