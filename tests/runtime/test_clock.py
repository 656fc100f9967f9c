import json
import time
from pathlib import Path

import pytest

from svp_lightning.runtime.artifacts import ArtifactCache, Clock, cost_of, keep_cost


def test_reads_wall_and_processor_time() -> None:
    running = Clock()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    read = running.read()
    assert read["wall_seconds"] >= 0.05
    assert read["cpu_seconds"] >= 0.04  # the kernel counts in ticks of 10 ms
    assert read["gpu_seconds"] == 0


def test_cost_of_a_stage_counts_all_its_attempts(tmp_path: Path) -> None:
    """One killed after its checkpoint, whose record is all that it leaves, and one that ends."""
    cache = ArtifactCache(tmp_path)
    path = cache.path("store", {})
    kept = path.with_suffix(".cost.json")

    def make(folder: Path) -> None:
        assert not kept.exists()
        keep_cost(folder)
        assert json.loads(kept.read_text())["wall_seconds"] < 10
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.build("store", {}, make)
    kept.write_text(json.dumps({"wall_seconds": 100.0, "cpu_seconds": 30.0, "gpu_seconds": 7.0}))
    assert cache.build("store", {}, lambda folder: None) == path
    cost = cost_of(path)
    assert cost is not None
    assert 100 <= cost["wall_seconds"] < 110
    assert 30 <= cost["cpu_seconds"] < 40
    assert cost["gpu_seconds"] == 7
    assert not kept.exists()


def test_nothing_is_recorded_of_a_stage_that_another_process_builds(tmp_path: Path) -> None:
    keep_cost(tmp_path / "store" / "1234.partial")
    assert not list(tmp_path.iterdir())
