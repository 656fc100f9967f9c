import json
import time
from pathlib import Path

import pytest

from svp_lightning.runtime import artifacts
from svp_lightning.runtime.artifacts import Clock, kept_clock


def test_reads_wall_and_processor_time() -> None:
    running = Clock()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    read = running.read()
    assert read["wall_seconds"] >= 0.05
    assert read["cpu_seconds"] >= 0.04  # the kernel counts in ticks of 10 ms
    assert read["gpu_seconds"] == 0


def test_goes_on_from_what_was_spent_before(tmp_path: Path) -> None:
    file = tmp_path / "cost.json"
    file.write_text(json.dumps({"wall_seconds": 100.0, "cpu_seconds": 30.0, "gpu_seconds": 7.0}))
    with kept_clock(file) as running:
        read = running.read()
    assert 100 <= read["wall_seconds"] < 110
    assert 30 <= read["cpu_seconds"] < 40
    assert read["gpu_seconds"] == 7


def test_is_kept_while_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process killed in the middle leaves."""
    monkeypatch.setattr(artifacts, "KEPT_EVERY_S", 0.01)
    file = tmp_path / "cost.json"
    with kept_clock(file):
        for _ in range(1000):
            if file.is_file() and json.loads(file.read_text())["wall_seconds"] > 0:
                break
            time.sleep(0.01)
        else:
            pytest.fail("nothing was kept")
