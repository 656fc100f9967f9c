"""Batches are functions of seed and step; evaluation sees every row once."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_lightning.data import batches
from svp_lightning.data.batches import ShardedSampler, StepBatchSampler, shuffled
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


GROUP = np.repeat([0, 1, 2, 3], [30, 5, 0, 2])
SHARES = np.array([0.62, 0.3, 0.0, 0.08])


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_each_pass_draws_every_row_once(rows: int, batch: int, seed: int) -> None:
    sampler = StepBatchSampler(np.zeros(rows, int), np.ones(1), batch, 10, seed)
    steps = -(-2 * rows // batch)
    stream = np.concatenate([sampler.global_batch(step) for step in range(steps)])
    for number in range(2):
        assert sorted(stream[number * rows : (number + 1) * rows]) == list(range(rows))


@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 3))
def test_processes_divide_the_batch_and_its_shares(per_rank: int, world: int, seed: int) -> None:
    batch = per_rank * world
    whole = StepBatchSampler(GROUP, SHARES, batch, 4, seed)
    shards = [list(StepBatchSampler(GROUP, SHARES, batch, 4, seed, r, world))
              for r in range(world)]  # fmt: skip
    for step in range(4):
        together = whole.global_batch(step)
        assert sorted(np.concatenate([s[step] for s in shards])) == sorted(together)
        for rows, least in ((together, batch * SHARES), *((s[step], per_rank * SHARES)
                                                          for s in shards)):  # fmt: skip
            drawn = np.bincount(GROUP[rows], minlength=4)
            assert (abs(drawn - least) < 2).all()


def test_shares_are_exact_over_the_steps() -> None:
    sampler = StepBatchSampler(GROUP, SHARES, 7, 100, 0)
    drawn = np.concatenate([GROUP[sampler.global_batch(step)] for step in range(300)])
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), SHARES, atol=0.003)


def test_a_small_group_is_drawn_at_its_rate() -> None:
    """Fewer than one row a batch, all of its rows in turn, and at any place of the batch."""
    group = np.repeat([0, 1], [30_000, 50])
    sampler = StepBatchSampler(group, np.array([0.999, 0.001]), 64, 2000, 1)
    places = [np.flatnonzero(group[rows]) for rows in sampler]
    rows = np.concatenate([sampler.global_batch(step) for step in range(2000)])
    drawn = np.bincount(rows[group[rows] == 1], minlength=len(group))[30_000:]
    assert drawn.sum() == pytest.approx(128, abs=3)
    assert set(drawn) <= {drawn.min(), drawn.min() + 1}
    assert 20 < np.mean(np.concatenate(places)) < 43


def test_the_one_row_of_a_small_group_meets_every_process_as_often() -> None:
    group, shares = np.repeat([0, 1], [4, 12]), np.array([0.25, 0.75])
    for rank in (0, 1):
        sampler = StepBatchSampler(group, shares, 4, 10, 0, rank, 2)
        assert sum((batch < 4).any() for batch in sampler) == 5


def test_a_resumed_run_draws_what_the_other_would_have() -> None:
    trainer = SimpleNamespace(global_step=0)
    arguments = (GROUP, SHARES, 5, 4, 1)
    sampler = StepBatchSampler(*arguments, first_step=lambda: trainer.global_step)
    drawn = []
    for trainer.global_step in (0, 4, 8):
        drawn += list(sampler)
    again = StepBatchSampler(*arguments, first_step=lambda: trainer.global_step)
    trainer.global_step = 6
    rest = list(again)
    assert len(rest) == 2
    trainer.global_step = 8
    rest += list(again)
    assert np.array_equal(rest, drawn[6:])
    assert len(again) == 4


@pytest.mark.parametrize("count", [1, 2, 5, 1000, 4097])
def test_a_computed_permutation_is_one(count: int) -> None:
    positions = np.arange(count)
    first, other = (shuffled(positions, count, [seed, 0]) for seed in (1, 2))
    assert sorted(first.tolist()) == positions.tolist()
    np.testing.assert_array_equal(shuffled(positions[::2], count, [1, 0]), first[::2])
    if count > 100:
        assert abs(np.corrcoef(first, positions)[0, 1]) < 0.05
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.05
        assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.05


def test_a_large_group_is_drawn_as_uniformly_as_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "SHUFFLED_IN_MEMORY", 64)
    group = np.arange(300) % 3 == 0  # 200 rows of the first group, 100 of the second
    sampler = StepBatchSampler(group.astype(int), np.array([0.5, 0.5]), 40, 10, seed=4)
    drawn = np.concatenate([sampler.global_batch(step) for step in range(10)])
    counts = np.bincount(drawn, minlength=300)
    assert set(counts[~group]) == {1}
    assert set(counts[group]) == {2}
