"""Batches are functions of seed and step; evaluation sees every row once."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_lightning.data.loading import ShardedSampler, StepBatchSampler
from svp_lightning.errors import DistributedError


@given(st.integers(1, 200), st.integers(1, 17), st.integers(1, 8))
def test_evaluation_sees_every_row_exactly_once(rows: int, batch: int, world: int) -> None:
    if rows < world:
        with pytest.raises(DistributedError, match="processes"):
            ShardedSampler(rows, batch, 0, world)
        return
    shards = [list(ShardedSampler(rows, batch, rank, world)) for rank in range(world)]
    seen = np.concatenate([np.concatenate(shard) for shard in shards])
    assert sorted(seen) == list(range(rows))
    for rank, shard in enumerate(shards):
        assert len(shard) == len(ShardedSampler(rows, batch, rank, world))
        assert (np.diff(np.concatenate(shard)) == world).all()


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_each_pass_draws_every_row_once(rows: int, batch: int, seed: int) -> None:
    sampler = StepBatchSampler(rows, batch, 10, seed)
    steps = -(-2 * rows // batch)
    stream = np.concatenate([sampler.global_batch(step) for step in range(steps)])
    for number in range(2):
        assert sorted(stream[number * rows : (number + 1) * rows]) == list(range(rows))


@given(st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_the_global_batch_does_not_depend_on_the_processes(
    world: int, per_rank: int, weighted: bool
) -> None:
    weights = np.arange(1.0, 31.0) if weighted else None
    batch = world * per_rank
    alone = list(StepBatchSampler(30, batch, 4, 7, weights))
    shards = [list(StepBatchSampler(30, batch, 4, 7, weights, r, world)) for r in range(world)]
    for step in range(4):
        together = np.stack([shard[step] for shard in shards], axis=1).ravel()
        assert (together == alone[step]).all()


@pytest.mark.parametrize("weights", [None, np.linspace(1, 2, 23)])
def test_a_resumed_run_draws_what_the_other_would_have(weights) -> None:
    trainer = SimpleNamespace(global_step=0)
    sampler = StepBatchSampler(23, 5, 4, 1, weights, first_step=lambda: trainer.global_step)
    drawn = []
    for trainer.global_step in (0, 4, 8):
        drawn += list(sampler)
    trainer.global_step = 6
    rest = list(sampler)
    assert len(rest) == 2
    trainer.global_step = 8
    rest += list(sampler)
    assert np.array_equal(rest, drawn[6:])
    assert len(sampler) == 4


def test_weights_set_the_frequencies() -> None:
    weights = np.array([0.0, 1.0, 3.0, 0.0])
    sampler = StepBatchSampler(4, 1000, 10, 0, weights)
    counts = np.bincount(np.concatenate(list(sampler)), minlength=4) / 10_000
    assert counts == pytest.approx([0, 0.25, 0.75, 0], abs=0.02)
    assert counts[0] == counts[3] == 0
